"""How late an event loop is for what is due."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

PERIOD = 0.001


@contextlib.asynccontextmanager
async def ticking() -> AsyncIterator[list[float]]:
    """Collect by how many seconds a tick each millisecond is late, while this runs.

    Ticks are due at fixed times: those that a blocked loop lets pass are late as well,
    each by its own time. So a share of the ticks is the same share of the time.
    """
    late: list[float] = []
    async with asyncio.TaskGroup() as tasks:
        ticker = tasks.create_task(_tick(late), name="ticker")
        try:
            yield late
            # What was due in the last stretch is seen in the loop's next turn.
            await asyncio.sleep(2 * PERIOD)
        finally:
            ticker.cancel()


async def _tick(late: list[float]) -> None:
    loop = asyncio.get_running_loop()
    due = loop.time() + PERIOD
    while True:
        await asyncio.sleep(due - loop.time())
        now = loop.time()
        while due <= now:
            late.append(now - due)
            due += PERIOD
