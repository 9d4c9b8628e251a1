"""What a batch costs those who search by hand: `python -m benchmarks.beside`.

A service that takes a tenth of a second for each search, and visitors who search one
picture after another, with a short pause between: first on a client that does
nothing else, then on the same client while a batch wants all its slots; by turns. A
visitor is the next to get a slot, so that a search takes about twice the service's time
at most: until a slot is free, and then its own.
"""

import argparse
import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Iterator, Sequence

import attrs

from verifik_async import VerifikClient
from verifik_async.models import SearchResult
from verifik_async.testing import MockProcess

from . import _machine
from ._job import OPTIONS, PERSON, TOKEN, UnansweredError, make_picture
from ._show import Board, flags, parser, percentile, positive, run

_LATENCY = 0.1
_CONCURRENCY = 32
_SIZE = 20_000
_VISITORS = 5
_ROUNDS, _QUICK_ROUNDS = 5, 1
_SEARCHES, _QUICK_SEARCHES = 20, 4
_LONGEST_PAUSE = 0.05
_SEED = 20_240_116
# Beside a batch over idle, the 99th percentiles.
_MOST_RATIO = 2.0
# So much of the slots' time the batch must have used, or nobody was disturbed.
_LEAST_BUSY = 0.8
_LIMIT = 180.0


@attrs.define
class _Visits:
    """What the searches of visitors took, in seconds.

    Attributes:
        elapsed: In all, as the visitor sees it.
        queued: Of that, in the queue for a slot.
    """

    elapsed: list[float] = attrs.field(factory=list)
    queued: list[float] = attrs.field(factory=list)


@attrs.define
class _Batch:
    """A batch that goes on until it is told to end.

    Attributes:
        ending: Whether it was told.
        answered: Searches that were answered before that.
        wall_s: In how many seconds.
    """

    ending: bool = False
    answered: int = 0
    wall_s: float = 0.0

    def probes(self, picture: bytes) -> Iterator[bytes]:
        """Yield the picture again and again."""
        while not self.ending:
            yield picture

    async def run(self, client: VerifikClient, picture: bytes) -> None:
        """Search until the end."""
        async with client.search_many(self.probes(picture)) as outcomes:
            async for outcome in outcomes:
                _check(outcome.unwrap())
                self.answered += not self.ending


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures; fail if one was missed."""
    options = flags(parser("beside", __doc__))
    options.add_argument("--rounds", type=positive, help="idle and beside a batch")
    given = options.parse_args(arguments)
    run(lambda board: _measure(board, given), _LIMIT, given.json)


async def _measure(board: Board, given: argparse.Namespace) -> None:
    rounds = given.rounds or (_QUICK_ROUNDS if given.quick else _ROUNDS)
    count = _QUICK_SEARCHES if given.quick else _SEARCHES
    idle, beside, batches = _Visits(), _Visits(), list[_Batch]()
    picture = make_picture(_SIZE)
    async with MockProcess(latency=_LATENCY) as mock:
        await mock.enroll(PERSON, picture)
        with _machine.pinned(mock.pid) as pinning:
            board.head(
                f"{_VISITORS} visitors, {rounds} rounds of {count} searches each, "
                f"{_LATENCY * 1000:g} ms at the service, {_CONCURRENCY} slots; "
                f"{pinning}"
            )
            async with VerifikClient(
                TOKEN, base_url=mock.url, defaults=OPTIONS, max_concurrency=_CONCURRENCY
            ) as client:
                await _warm(client, picture)
                for _ in range(rounds):
                    await _visit(client, picture, count, idle)
                    async with _batch(client, picture) as batch:
                        await _visit(client, picture, count, beside)
                    batches.append(batch)
    _show(board, idle, beside, batches)


async def _warm(client: VerifikClient, picture: bytes) -> None:
    """Open all connections."""
    for outcome in await client.search_all([picture] * 2 * _CONCURRENCY):
        _check(outcome.unwrap())


@contextlib.asynccontextmanager
async def _batch(client: VerifikClient, picture: bytes) -> AsyncIterator[_Batch]:
    """Let a batch run meanwhile."""
    batch = _Batch()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(batch.run(client, picture), name="batch")
        await asyncio.sleep(2 * _LATENCY)  # then it has begun
        batch.answered, began = 0, time.perf_counter()
        try:
            yield batch
        finally:
            batch.ending, batch.wall_s = True, time.perf_counter() - began


async def _visit(
    client: VerifikClient, picture: bytes, count: int, visits: _Visits
) -> None:
    async with asyncio.TaskGroup() as tasks:
        for number in range(_VISITORS):
            # Each in a rhythm of its own, so that they do not go on in step.
            pauses = random.Random(_SEED + number)
            tasks.create_task(
                _visitor(client, picture, count, visits, pauses),
                name=f"visitor-{number}",
            )


async def _visitor(
    client: VerifikClient,
    picture: bytes,
    count: int,
    visits: _Visits,
    pauses: random.Random,
) -> None:
    for _ in range(count):
        await asyncio.sleep(pauses.uniform(0, _LONGEST_PAUSE))
        began = time.perf_counter()
        result = await client.search_active_user(picture)
        visits.elapsed.append(time.perf_counter() - began)
        visits.queued.append(result.call.queued_s)
        _check(result)


def _check(result: SearchResult) -> None:
    if result.best is None or result.best.id != PERSON:
        raise UnansweredError("a result without the person")


def _show(
    board: Board, idle: _Visits, beside: _Visits, batches: Sequence[_Batch]
) -> None:
    for name, visits in (("idle", idle), ("beside a batch", beside)):
        board.fact(f"{name}: searches", len(visits.elapsed))
        board.fact(f"{name}: p50", percentile(visits.elapsed, 0.5) * 1000, "ms")
        board.fact(f"{name}: p99", percentile(visits.elapsed, 0.99) * 1000, "ms")
        board.fact(f"{name}: most", max(visits.elapsed) * 1000, "ms")
        queued = percentile(visits.queued, 0.99) * 1000
        board.fact(f"{name}: p99 of the wait for a slot", queued, "ms")
    answered = len(beside.elapsed) + sum(batch.answered for batch in batches)
    slots = sum(batch.wall_s for batch in batches) * _CONCURRENCY
    board.at_least(
        "slots in use beside a batch, share", answered * _LATENCY / slots, _LEAST_BUSY
    )
    ratio = percentile(beside.elapsed, 0.99) / percentile(idle.elapsed, 0.99)
    board.at_most("beside a batch / idle, p99", ratio, _MOST_RATIO)


if __name__ == "__main__":
    main()
