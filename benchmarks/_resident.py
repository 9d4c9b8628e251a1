"""How much of this process is resident in memory, in MB; where the system tells."""

import asyncio
import contextlib
import pathlib
import re
from collections.abc import AsyncIterator

import attrs

_SELF = "self"
_CLEAR = pathlib.Path("/proc/self/clear_refs")
# Written there, it makes what is resident now the peak.
_RESET_PEAK = "5"
_LOOK_EVERY = 0.01
_KB_PER_MB = 1e6 / 1024


@attrs.define
class Peak:
    """The most that was resident in a time.

    Attributes:
        mb: None where the system does not tell.
    """

    mb: float | None = None


def now() -> float | None:
    """Return what is resident."""
    return _field("VmRSS")


def peak_of(pid: int) -> float | None:
    """Return the most that has been resident of another process."""
    return _field("VmHWM", str(pid))


@contextlib.asynccontextmanager
async def peak() -> AsyncIterator[Peak]:
    """Watch what is resident while the block runs; `mb` is told after it."""
    found = Peak()
    if _reset():
        yield found
        found.mb = _field("VmHWM")
        return
    async with asyncio.TaskGroup() as tasks:
        looking = tasks.create_task(_look(found), name="resident")
        try:
            yield found
        finally:
            looking.cancel()


def _field(name: str, process: str = _SELF) -> float | None:
    try:
        status = pathlib.Path("/proc", process, "status").read_text(encoding="ascii")
    except OSError:
        return None
    found = re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)
    return None if found is None else int(found[1]) / _KB_PER_MB


def _reset() -> bool:
    try:
        _CLEAR.write_text(_RESET_PEAK, encoding="ascii")
    except OSError:
        return False
    return True


async def _look(found: Peak) -> None:
    while (mb := now()) is not None:
        found.mb = max(mb, found.mb or 0.0)
        await asyncio.sleep(_LOOK_EVERY)
