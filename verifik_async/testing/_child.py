"""A server's process: it prints its URL first, and ends when it is told to."""

import asyncio
import contextlib
from asyncio.subprocess import Process

_START_LIMIT = 30.0
_STOP_LIMIT = 5.0


async def first_line(process: Process) -> str:
    """Return the first line that it prints.

    Raises:
        RuntimeError: it ended before that.
        TimeoutError: it took too long.
    """
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    async with asyncio.timeout(_START_LIMIT):
        line = await process.stdout.readline()
    if not line:
        raise RuntimeError("the server's process ended before it served")
    return line.decode().strip()


async def end(process: Process) -> None:
    """End it, by force if it does not end by itself.

    One with a pipe for its standard input ends with that, others at a signal.
    """
    if process.stdin is not None:
        process.stdin.close()
    elif process.returncode is None:
        process.terminate()
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_LIMIT):
                await process.wait()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
