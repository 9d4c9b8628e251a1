"""Keep every slot busy, and let no one wait: `python -m benchmarks.throughput`.

A service that takes a tenth of a second for each search could answer so many a second
as there are slots, times ten: the ideal. First a batch, beside bare aiohttp with as
many workers and a body encoded beforehand; the connections are warm. Then single
searches beside two running batches, each of which wants all the slots, compared with
those of a client that does nothing else: the next free slot must be theirs.

How busy this process kept its core is told beside each rate: where that is near 1, it
is the core that is measured, and not how well the slots are used.
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Self, TypeAlias

import aiohttp
import attrs

from verifik_async import VerifikClient
from verifik_async.testing import MockProcess

from . import _machine
from ._job import OPTIONS, PATH, TOKEN, Job, make_picture
from ._rivals import pull
from ._show import Board, parser, positive, run
from ._source import Source

Search: TypeAlias = Callable[[], Awaitable[None]]

_LATENCY = 0.1
_LEAST_SHARE = 0.97
_PICTURE = 200
_SINGLES_IDLE = 10
# With one alone nobody of the batch would be in the queue to be overtaken.
_BATCHES = 2
# A slot is free after a latency at the latest, but for the time that loops take.
_MOST_WAIT = 1.2 * _LATENCY
_LIMIT = 180.0


@attrs.frozen(order=True)
class _Turn:
    """One turn of the one or the other.

    Attributes:
        rate: Searches a second.
        busy: CPU time of this process over the time that it took.
    """

    rate: float
    busy: float

    @classmethod
    async def take(cls, work: Awaitable[object], count: int) -> Self:
        """Wait for so many searches."""
        wall, cpu = time.perf_counter(), time.process_time()
        await work
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        return cls(count / wall, cpu / wall)


@attrs.define
class _Singles:
    """What single searches took, in seconds.

    Attributes:
        queued: In the queue.
        elapsed: In all.
    """

    queued: list[float] = attrs.field(factory=list)
    elapsed: list[float] = attrs.field(factory=list)

    async def search(self, client: VerifikClient, picture: bytes) -> None:
        """Search once and take note."""
        call = (await client.search_active_user(picture)).call
        self.queued.append(call.queued_s)
        self.elapsed.append(call.elapsed_s)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures; fail if one was missed."""
    options = parser("throughput", __doc__)
    add = options.add_argument
    add("--count", type=positive, default=10_240, help="of searches for the throughput")
    add("--beside", type=positive, default=10_000, help="of each batch beside singles")
    add("--rounds", type=positive, default=3, help="of the throughput; the best counts")
    add("--concurrency", type=positive, default=256, help="searches at once")
    given = options.parse_args(arguments)
    run(lambda board: _measure(board, given), _LIMIT)


async def _measure(board: Board, given: argparse.Namespace) -> None:
    async with MockProcess(latency=_LATENCY) as mock:
        job = Job(
            url=mock.url,
            picture=make_picture(_PICTURE),
            concurrency=given.concurrency,
        )
        with _machine.pinned(mock.pid) as pinning:
            board.head(
                f"{given.count:,} searches, {job.concurrency} at once, "
                f"{_LATENCY * 1000:g} ms each, {given.rounds} rounds; {pinning}"
            )
            await _show_throughput(board, job, given.count, given.rounds)
            board.head(
                f"single searches beside {_BATCHES} batches of {given.beside:,} each, "
                f"{job.concurrency} slots"
            )
            await _show_fairness(board, job, given.beside)


@contextlib.asynccontextmanager
async def _warm_client(job: Job) -> AsyncIterator[VerifikClient]:
    async with VerifikClient(
        TOKEN, base_url=job.url, defaults=OPTIONS, max_concurrency=job.concurrency
    ) as client:
        await _batch(client, 2 * job.concurrency)
        yield client


async def _batch(client: VerifikClient, count: int) -> None:
    async with client.search_many(Source(count, _PICTURE)) as outcomes:
        async for outcome in outcomes:
            outcome.unwrap()


@contextlib.asynccontextmanager
async def _bare(job: Job) -> AsyncIterator[Search]:
    url, body = job.url + PATH, json.dumps(job.fields()).encode()
    connector = aiohttp.TCPConnector(limit=job.concurrency)
    async with aiohttp.ClientSession(
        headers=job.headers, connector=connector, raise_for_status=True
    ) as session:

        async def search() -> None:
            async with session.post(url, data=body) as response:
                await response.read()

        yield search


async def _show_throughput(board: Board, job: Job, count: int, rounds: int) -> None:
    ours, bare = [], []
    async with _warm_client(job) as client, _bare(job) as search:
        await pull(search, 2 * job.concurrency, job.concurrency)
        for _ in range(rounds):
            theirs = pull(search, count, job.concurrency)
            bare.append(await _Turn.take(theirs, count))
            ours.append(await _Turn.take(_batch(client, count), count))
    ideal = job.concurrency / _LATENCY
    best, floor = max(ours), max(bare)
    board.fact("ideal, searches/s", ideal)
    board.fact("search_many, searches/s, best round", best.rate)
    board.fact("search_many, searches/s, worst round", min(ours).rate)
    board.fact("search_many, share of a core, best round", best.busy)
    board.fact("bare aiohttp, searches/s, best round", floor.rate)
    board.fact("bare aiohttp, share of a core, best round", floor.busy)
    board.fact("bare aiohttp / ideal", floor.rate / ideal)
    board.at_least("search_many / ideal", best.rate / ideal, _LEAST_SHARE)
    board.fact("search_many / bare aiohttp", best.rate / floor.rate)


async def _show_fairness(board: Board, job: Job, count: int) -> None:
    idle, beside = _Singles(), _Singles()
    async with _warm_client(job) as client:
        for _ in range(_SINGLES_IDLE):
            await idle.search(client, job.picture)
        async with asyncio.TaskGroup() as tasks:
            batches = [
                tasks.create_task(_batch(client, count), name=f"batch-{number}")
                for number in range(_BATCHES)
            ]
            await asyncio.sleep(2 * _LATENCY)  # then both have begun
            while not any(batch.done() for batch in batches):
                await beside.search(client, job.picture)
    board.fact("single searches", len(beside.queued))
    board.at_most("longest wait for a slot, s", max(beside.queued), _MOST_WAIT)
    board.fact("median wait for a slot, s", statistics.median(beside.queued))
    board.fact("median of a search beside it, s", statistics.median(beside.elapsed))
    board.fact("median of a search alone, s", statistics.median(idle.elapsed))


if __name__ == "__main__":
    main()
