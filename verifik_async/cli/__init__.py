"""The command line, for the terminal; its packages come with the extra `cli`."""

import importlib
import sys
from collections.abc import Sequence

__all__ = ["main"]

_EXTRA = frozenset({"PIL", "cyclopts", "rich"})
_USAGE = 2


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with its exit code.

    Args:
        arguments: What stands behind the command's name; None: the process's own.

    Raises:
        SystemExit: always. 0: all went well · 2: wrong usage or settings, nothing was
            sent · 3: some searches failed · 4: a batch was stopped · 130: interrupted.
    """
    tokens = sys.argv[1:] if arguments is None else list(arguments)
    for stream in (sys.stdout, sys.stderr):
        # A file name or a box of a table must not end a run in a narrow encoding.
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")
    try:
        # By name and late: without the extra there is nothing to import.
        app = importlib.import_module("verifik_async.cli._app")
        code: int = app.run(tokens)
    except ImportError as error:
        missing = _missing(error)
        if missing is None:
            raise
        sys.stderr.write(
            f'verifik-async: {missing} is missing: pip install "verifik-async[cli]"\n'
        )
        code = _USAGE
    raise SystemExit(code)


def _missing(error: BaseException | None) -> str | None:
    """Return which package of the extra is not there, if that is the cause."""
    while error is not None:
        package = (getattr(error, "name", None) or "").partition(".")[0]
        if package in _EXTRA:
            return package
        error = error.__cause__
    return None
