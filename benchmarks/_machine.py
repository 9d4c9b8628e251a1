"""Where the measurements run: machine, versions, cores."""

import contextlib
import importlib.metadata
import importlib.util
import os
import platform
import sys
from collections.abc import Iterator

_EXTRAS = ("pybase64", "orjson", "requests")


def describe() -> dict[str, str]:
    """Return machine and versions, for the report."""
    installed = [
        f"{name} {importlib.metadata.version(name)}"
        if importlib.util.find_spec(name) is not None
        else f"no {name}"
        for name in _EXTRAS
    ]
    return {
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "aiohttp": importlib.metadata.version("aiohttp"),
        "extras": ", ".join(installed),
    }


@contextlib.contextmanager
def pinned(server: int) -> Iterator[str]:
    """Keep this process on one core and the process `server` on another.

    Gives a sentence that says whether it could.
    """
    if sys.platform != "linux":
        yield "not pinned to cores: this system cannot"
        return
    cores = os.sched_getaffinity(0)
    if len(cores) == 1:
        yield "not pinned to cores: there is only one, shared with the server"
        return
    # Far apart, for neighbours may be two threads of one core.
    mine, other = min(cores), max(cores)
    os.sched_setaffinity(server, {other})
    # Threads inherit it; those that exist already sleep.
    os.sched_setaffinity(0, {mine})
    try:
        yield f"client pinned to core {mine}, server to core {other}"
    finally:
        os.sched_setaffinity(0, cores)
