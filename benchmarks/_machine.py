"""Where the measurements run: machine, versions, cores, and what this process took."""

import contextlib
import importlib.metadata
import importlib.util
import os
import platform
import sys
from collections.abc import Iterator

# What the client takes if it is there, and the packages of rivals.
_SPEED = ("pybase64", "orjson")
_RIVALS = ("httpx", "httpx2", "niquests", "requests", "urllib3", "humanauthn")
_KB, _MB = 1024, 1e6


def here() -> dict[str, str]:
    """Return machine and versions."""
    return {
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "verifik_async": importlib.metadata.version("verifik-async"),
        "aiohttp": importlib.metadata.version("aiohttp"),
    }


def describe() -> dict[str, str]:
    """Return the same and what the client and its rivals use, for the report.

    The client's extras are those that it has imported, so call this after its import.
    """
    return here() | {
        "extras": ", ".join(map(_imported, _SPEED)),
        "rivals": ", ".join(map(_installed, _RIVALS)),
    }


def _imported(name: str) -> str:
    if sys.modules.get(name) is None:
        return f"no {name}"
    return f"{name} {importlib.metadata.version(name)}"


def _installed(name: str) -> str:
    if importlib.util.find_spec(name) is None:
        return f"no {name}"
    return f"{name} {importlib.metadata.version(name)}"


def cpu_seconds() -> float:
    """Return user and system time of this process so far, all threads."""
    import resource  # noqa: PLC0415 - Windows has none

    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def peak_memory_mb() -> float:
    """Return the most memory that this process was ever resident with."""
    import resource  # noqa: PLC0415 - Windows has none

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Bytes on macOS, kilobytes elsewhere.
    return (peak if sys.platform == "darwin" else peak * _KB) / _MB


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
