"""Start an example with a stand-in of the service: no account, nothing is charged.

    python examples/run.py fastapi|aiohttp|django [PORT]

The stand-in is a process of its own that knows the pictures in `examples/faces`.
"""

import asyncio
import os
import pathlib
import sys

from verifik_async.testing import MockProcess

FOLDER = pathlib.Path(__file__).parent
UVICORN = ("-m", "uvicorn", "--app-dir", str(FOLDER), "--log-level", "warning")
# What follows `python`; the port comes last.
COMMANDS = {
    "fastapi": (*UVICORN, "fastapi_app:app", "--port"),
    "aiohttp": (str(FOLDER / "aiohttp_app.py"),),
    "django": (*UVICORN, "django_app:application", "--port"),
}
HELP = """\
http://127.0.0.1:{port}/ shows a page; Ctrl-C ends. In another terminal:

  curl -F picture=@{folder}/visitor.jpg http://127.0.0.1:{port}/search
  curl http://127.0.0.1:{port}/health
"""


async def run(name: str, port: str) -> int:
    """Run stand-in and example until the example ends; return its exit code."""
    async with MockProcess(latency=(0.05, 0.15)) as mock:
        for face in sorted((FOLDER / "faces").glob("*.jpg")):
            await mock.enroll(face.stem, face.read_bytes())
        print(HELP.format(port=port, folder=FOLDER), flush=True)
        server = await asyncio.create_subprocess_exec(
            *(sys.executable, *COMMANDS[name], port),
            env={**os.environ, "VERIFIK_BASE_URL": mock.url, "VERIFIK_TOKEN": "any"},
        )
        try:
            return await server.wait()
        except asyncio.CancelledError:  # Ctrl-C went to the server as well
            await server.wait()
            raise


def main() -> int:
    """Run what the command line says."""
    match sys.argv[1:]:
        case [name] if name in COMMANDS:
            port = "8000"
        case [name, port] if name in COMMANDS:
            pass
        case _:
            sys.exit(__doc__)
    try:
        return asyncio.run(run(name, port))
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
