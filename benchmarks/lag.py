"""How long others on the event loop have to wait: `python -m benchmarks.lag`.

Pictures of 2 MB are searched for by 32 workers at once, while a ticker on the same loop
looks each millisecond by how much it is late: that is what any other task, another
visitor's answer for one, is late as well. The client beside aiohttp with `json=`, which
encodes a picture in one go, and beside bare aiohttp with a ready body; by turns, in one
process, on one server.

Before that the ticker proves itself on a loop that does nothing and on one that is
blocked on purpose.
"""

import argparse
import asyncio
import contextlib
import time
from collections.abc import Sequence

from verifik_async.testing import MockProcess

from . import _machine
from ._job import PERSON, Job, UnansweredError, make_picture
from ._rivals import FLOOR, JSON, OURS
from ._show import Board, flags, parser, percentile, positive, run
from ._ticker import PERIOD, ticking

_CONCURRENCY = 32
_SIZE = 2_000_000
_ROUNDS, _QUICK_ROUNDS = 4, 1
_COUNT, _QUICK_COUNT = 320, 32
_BLOCKED = 0.05
_TO_REST = 0.2
# Ours over that of `json=`, the 99th percentiles.
_MOST_RATIO = 0.1
_LIMIT = 180.0
_RIVALS = (OURS, JSON, FLOOR)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures; fail if one was missed."""
    options = flags(parser("lag", __doc__))
    add = options.add_argument
    add("--rounds", type=positive, help="of a turn each")
    add("--count", type=positive, help="of searches in a turn")
    given = options.parse_args(arguments)
    run(lambda board: _measure(board, given), _LIMIT, given.json)


async def _measure(board: Board, given: argparse.Namespace) -> None:
    rounds = given.rounds or (_QUICK_ROUNDS if given.quick else _ROUNDS)
    count = given.count or (_QUICK_COUNT if given.quick else _COUNT)
    picture = make_picture(_SIZE)
    async with MockProcess() as mock:
        await mock.enroll(PERSON, picture)
        with _machine.pinned(mock.pid) as pinning:
            board.head(f"the ticker, every {PERIOD * 1000:g} ms; {pinning}")
            await _show_ticker(board)
            board.head(
                f"{count:,} searches, {_CONCURRENCY} at once, pictures of "
                f"{_SIZE / 1e6:g} MB, {rounds} rounds"
            )
            job = Job(url=mock.url, picture=picture, concurrency=_CONCURRENCY)
            late = await _by_turns(job, count, rounds)
        hits = (await mock.counts())["hits"]
    _show(board, late)
    expected = len(_RIVALS) * (_CONCURRENCY + count * rounds)
    if hits != expected:
        raise UnansweredError(f"{expected} searches, but {hits} requests")


async def _show_ticker(board: Board) -> None:
    async with ticking() as idle:
        await asyncio.sleep(_TO_REST)
    board.fact("idle loop: lag, p99", percentile(idle, 0.99) * 1000, "ms")
    async with ticking() as blocked:
        asyncio.get_running_loop().call_soon(time.sleep, _BLOCKED)
        await asyncio.sleep(_TO_REST)
    name = f"loop blocked for {_BLOCKED * 1000:g} ms: lag, most"
    # It may have been due up to a period after the loop was blocked.
    board.at_least(name, max(blocked) * 1000, (_BLOCKED - PERIOD) * 1000, "ms")
    seen = sum(tick > PERIOD for tick in blocked)
    least = int((_BLOCKED - 2 * PERIOD) / PERIOD)
    board.at_least("ticks that were late by more than a period", seen, least)


async def _by_turns(job: Job, count: int, rounds: int) -> dict[str, list[float]]:
    """Return by how much the ticks were late, by the name of who searched."""
    late: dict[str, list[float]] = {rival.name: [] for rival in _RIVALS}
    async with contextlib.AsyncExitStack() as stack:
        turns = {
            rival.name: await stack.enter_async_context(rival.open(job))
            for rival in _RIVALS
        }
        for turn in turns.values():
            await turn(job.concurrency)
        for number in range(rounds):
            names = [*turns]
            for name in names[number % len(names) :] + names[: number % len(names)]:
                async with ticking() as ticks:
                    await turns[name](count)
                late[name] += ticks
    return late


def _show(board: Board, late: dict[str, list[float]]) -> None:
    for name, ticks in late.items():
        board.fact(f"{name}: lag, p50", percentile(ticks, 0.5) * 1000, "ms")
        board.fact(f"{name}: lag, p99", percentile(ticks, 0.99) * 1000, "ms")
        board.fact(f"{name}: lag, most", max(ticks) * 1000, "ms")
        board.fact(f"{name}: ticks", len(ticks))
    ours, other = (percentile(late[it.name], 0.99) for it in (OURS, JSON))
    board.at_most(f"{OURS.name} / {JSON.name}, p99", ours / other, _MOST_RATIO)


if __name__ == "__main__":
    main()
