"""What a long batch keeps: `python -m benchmarks.memory`.

Probes come from a generator; in the middle of the batch the consumer pauses, and the
generator must not be asked on. Every allocation is traced, from before the client is
made, so that this takes minutes.

On Python 3.11 aiohttp writes each request's body in a task of its own, for as long as
the writing takes; later versions need none. These are counted apart.
"""

import asyncio
import functools
import gc
import time
import tracemalloc
from collections.abc import Sequence
from typing import Any

import attrs

from verifik_async import VerifikClient
from verifik_async.testing import MockProcess

from . import _machine
from ._job import OPTIONS, TOKEN
from ._show import Board, parser, positive, run
from ._source import Source

_CONCURRENCY = 64
_MOST_TRACED_MB = 5.0
_AHEAD_PER_WORKER = 3
# The consumer's task and whatever else there is.
_OTHER_TASKS = 5
_PAUSE = 2.0
# What is in flight ends in that time, and then the source must rest.
_TO_SETTLE = 0.5
_LIMIT = 240.0
_MB = 1e6
_LOOKS = 200


@attrs.define
class _Seen:
    """What was seen on the way.

    Attributes:
        tasks: The most that there were at once, those of aiohttp apart.
        writers: The most of aiohttp's.
        pulled_early: Probes that were pulled when the consumer had just paused.
        pulled_late: Probes that were pulled after that, while it still paused.
    """

    tasks: int = 0
    writers: int = 0
    pulled_early: int = 0
    pulled_late: int = 0

    def look(self) -> None:
        """Count the tasks."""
        tasks = asyncio.all_tasks()
        writers = sum(map(_is_aiohttps, tasks))
        self.tasks = max(self.tasks, len(tasks) - writers)
        self.writers = max(self.writers, writers)


def _is_aiohttps(task: asyncio.Task[Any]) -> bool:
    return getattr(task.get_coro(), "__qualname__", "").startswith("ClientRequest.")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures; fail if one was missed."""
    options = parser("memory", __doc__)
    options.add_argument("--count", type=positive, default=100_000, help="of searches")
    count = options.parse_args(arguments).count
    run(functools.partial(_measure, count=count), _LIMIT)


async def _measure(board: Board, *, count: int) -> None:
    source, seen = Source(count), _Seen()
    before = asyncio.all_tasks()
    async with MockProcess() as mock:
        with _machine.pinned(mock.pid) as pinning:
            board.head(f"{count:,} searches at concurrency {_CONCURRENCY}; {pinning}")
            gc.collect()
            tracemalloc.start()
            start = tracemalloc.get_traced_memory()[0]
            began = time.perf_counter()
            await _search(mock.url, source, seen)
            wall = time.perf_counter() - began
            peak = tracemalloc.get_traced_memory()[1] - start
            tracemalloc.stop()
    board.exactly("answered", source.taken, count)
    board.at_most("traced memory, peak above start, MB", peak / _MB, _MOST_TRACED_MB)
    board.at_most(
        "probes that the source was ahead at most",
        source.ahead,
        _AHEAD_PER_WORKER * _CONCURRENCY,
    )
    tasks = seen.tasks - len(before)
    board.at_most("tasks at most", tasks, _CONCURRENCY + _OTHER_TASKS)
    board.fact("tasks of aiohttp, beside these, at most", seen.writers)
    board.fact(f"pulled within {_TO_SETTLE:g} s of a pause", seen.pulled_early)
    rest = _PAUSE - _TO_SETTLE
    board.exactly(f"pulled in the {rest:g} s after that", seen.pulled_late, 0)
    board.fact("wall, s", wall)


async def _search(url: str, source: Source, seen: _Seen) -> None:
    look_every = max(1, source.count // _LOOKS)
    async with (
        VerifikClient(
            TOKEN, base_url=url, defaults=OPTIONS, max_concurrency=_CONCURRENCY
        ) as client,
        client.search_many(source) as outcomes,
    ):
        async for outcome in outcomes:
            outcome.unwrap()
            source.taken += 1
            if source.taken % look_every == 0:
                seen.look()
            if source.taken == max(1, source.count // 2):
                await _pause(source, seen)


async def _pause(source: Source, seen: _Seen) -> None:
    at_first = source.pulled
    await asyncio.sleep(_TO_SETTLE)
    settled = source.pulled
    seen.look()
    await asyncio.sleep(_PAUSE - _TO_SETTLE)
    seen.pulled_early, seen.pulled_late = settled - at_first, source.pulled - settled


if __name__ == "__main__":
    main()
