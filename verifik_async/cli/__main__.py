"""`python -m verifik_async.cli`, the same as `verifik-async`."""

from verifik_async.cli import main

if __name__ == "__main__":
    main()
