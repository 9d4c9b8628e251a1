"""One limit for four processes, kept in Redis: held, paused, and without Redis.

    python -m benchmarks.limit

Needs redis-server (apt-get install redis-server). Four processes with 32 slots each
search as fast as one limit lets them. Everything is counted where it arrives, at the
stand-in: how many a second, and how evenly the processes share them. Then the stand-in
answers one search with 429 and `Retry-After: 2`, which has to quiet all four. Then
Redis is killed and, two seconds later, started again with nothing in it: once while
each process keeps to a quarter of the limit by itself, once while all wait.
"""

import argparse
import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import attrs
from redis.asyncio import Redis

from verifik_async import RateLimit, Timeouts, VerifikClient, VerifikError
from verifik_async.integrations.redis import RedisLimiter
from verifik_async.testing import Fault, MockVerifik

from ._child import in_child
from ._job import OPTIONS, TOKEN, make_picture
from ._redis import RedisServer
from ._show import Board, flags, parser, run

_PROCESSES, _SLOTS = 4, 32
_RATE, _BURST = 200, 20
_ALONE = RateLimit(_RATE / _PROCESSES, _BURST // _PROCESSES)
_LATENCY = 0.05
_SIZE = 5_000
_LIMIT = 300.0
_STEADY, _QUICK_STEADY = 10.0, 5.0
_LEAST, _MOST = 0.97, 1.03
_UNEVEN = 0.10
_RETRY_AFTER = 2.0
_BEFORE, _GONE, _AFTER = 3.0, 2.0, 3.0
_QUICK_BEFORE = _QUICK_AFTER = 1.5
_THROTTLED = 429
# What has a permit already, or has not heard of it, is still sent.
_ON_THE_WAY = 0.1
_RESERVED = 1.0  # as many as there are slots, at the rate


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures; fail if one was missed."""
    given = flags(parser("limit", __doc__)).parse_args(arguments)
    run(lambda board: _measure(board, given), _LIMIT, given.json)


async def _measure(board: Board, given: argparse.Namespace) -> None:
    steady = _QUICK_STEADY if given.quick else _STEADY
    before, after = (_QUICK_BEFORE, _QUICK_AFTER) if given.quick else (_BEFORE, _AFTER)
    async with RedisServer() as server:
        board.head(
            f"{_PROCESSES} processes with {_SLOTS} slots each, {_RATE} searches a "
            f"second wanted, burst {_BURST}, {steady:g} s"
        )
        await _hold(board, server, steady)
        board.head(f"one of them gets 429 with Retry-After {_RETRY_AFTER:g}")
        await _pause(board, server, before, _RETRY_AFTER + after)
        for alone in (_ALONE, None):
            name = "each alone" if alone else "all wait"
            board.head(f"Redis is killed, and started again {_GONE:g} s later: {name}")
            await _outage(board, server, alone, before, after)


# -- the processes ---------------------------------------------------------------------


@attrs.frozen
class Crowd:
    """What one process is to do.

    Attributes:
        url: Of the stand-in.
        redis: URL of Redis.
        number: Of the process; the stand-in records it.
        seconds: How long, once all are there.
        alone: For the limiter.
    """

    url: str
    redis: str
    number: int
    seconds: float
    alone: RateLimit | None


def _work(crowd: Crowd) -> int:
    """Search in all slots; return how many searches failed."""
    return asyncio.run(_search(crowd))


async def _search(crowd: Crowd) -> int:
    failed = 0
    limiter = RedisLimiter(
        crowd.redis, per_second=_RATE, burst=_BURST, alone=crowd.alone
    )
    async with VerifikClient(
        TOKEN,
        base_url=crowd.url,
        defaults=attrs.evolve(OPTIONS, extra={"process": crowd.number}),
        max_concurrency=_SLOTS,
        rate_limit=limiter,
        timeouts=Timeouts(deadline=20.0),
    ) as client:
        picture = make_picture(_SIZE)
        await _all_are_there(crowd.redis)
        until = asyncio.get_running_loop().time() + crowd.seconds

        async def slot() -> None:
            nonlocal failed
            while asyncio.get_running_loop().time() < until:
                try:
                    await client.search_active_user(picture)
                except VerifikError:
                    failed += 1

        async with asyncio.TaskGroup() as tasks:
            for _ in range(_SLOTS):
                tasks.create_task(slot())
    return failed


async def _all_are_there(url: str) -> None:
    async with Redis.from_url(url) as redis:
        await redis.incr("there")
        while int(await redis.get("there") or 0) < _PROCESSES:  # noqa: ASYNC110 - of others
            await asyncio.sleep(0.01)


@attrs.frozen
class Seen:
    """What the stand-in saw.

    Attributes:
        at: When requests came, in order, in seconds from the first.
        processes: Of which process each was.
        throttled_at: When that came which was answered with 429, or None.
        failed: Searches that failed, as their processes tell.
        asked: How often Redis was asked.
    """

    at: list[float]
    processes: list[object]
    throttled_at: float | None
    failed: int
    asked: int

    def between(self, start: float, end: float) -> int:
        """Return how many came in a time."""
        return sum(start <= at < end for at in self.at)

    def rate(self, start: float, end: float) -> float:
        """Return how many came in a second of it."""
        return self.between(start, end) / (end - start)

    def in_any_second(self) -> int:
        """Return the most that came within a second."""
        most = first = 0
        for last, at in enumerate(self.at):
            while at - self.at[first] >= 1.0:
                first += 1
            most = max(most, last - first + 1)
        return most


_Events = Callable[[MockVerifik, Callable[[], float]], Awaitable[None]]


async def _watch(
    server: RedisServer,
    seconds: float,
    alone: RateLimit | None = None,
    events: _Events | None = None,
) -> Seen:
    """Let all processes search; meanwhile, from the first search on, let things be."""
    loop = asyncio.get_running_loop()
    async with MockVerifik(latency=_LATENCY) as mock:
        async with Redis.from_url(server.url) as redis:
            await redis.flushall()
            await redis.config_resetstat()
        async with asyncio.TaskGroup() as tasks:
            children = [
                tasks.create_task(
                    in_child(
                        _work,
                        Crowd(mock.url, server.url, number, seconds, alone),
                        _LIMIT,
                    )
                )
                for number in range(_PROCESSES)
            ]
            while not mock.requests:  # noqa: ASYNC110 - of other processes
                await asyncio.sleep(0.01)
            began = mock.requests[0].at
            if events is not None:
                await events(mock, lambda: loop.time() - began)
        async with Redis.from_url(server.url) as redis:
            stats = await redis.info("commandstats")
        requests = sorted(mock.requests, key=lambda request: request.at)
    throttled = [it.at - began for it in requests if it.status == _THROTTLED]
    return Seen(
        at=[request.at - began for request in requests],
        processes=[request.extra.get("process") for request in requests],
        throttled_at=throttled[0] if throttled else None,
        failed=sum(child.result() for child in children),
        asked=stats.get("cmdstat_evalsha", {}).get("calls", 0),
    )


# -- what is measured ------------------------------------------------------------------


async def _hold(board: Board, server: RedisServer, seconds: float) -> None:
    seen = await _watch(server, seconds)
    took, hits = seen.at[-1], len(seen.at)
    rate = (hits - _BURST) / took
    board.fact("held: searches at the service", hits)
    board.at_least("held: after the burst", rate, _LEAST * _RATE, "1/s")
    board.at_most("held: after the burst, again", rate, _MOST * _RATE, "1/s")
    most = _MOST * (_RATE + _BURST)
    board.at_most("held: in any one second", seen.in_any_second(), most)
    # Without the first second: the burst goes to whoever is there first.
    both = zip(seen.at, seen.processes, strict=True)
    shares = Counter(process for at, process in both if at > 1.0)
    few, many = min(shares.values()), max(shares.values())
    board.fact("held: of the process with fewest", few)
    board.fact("held: of the process with most", many)
    uneven = (many - few) / (shares.total() / _PROCESSES)
    board.at_most("held: difference / mean", uneven, _UNEVEN)
    board.fact("held: questions to Redis / searches", seen.asked / hits)
    board.exactly("held: searches that failed", seen.failed, 0)


async def _pause(
    board: Board, server: RedisServer, before: float, after: float
) -> None:
    async def events(mock: MockVerifik, now: Callable[[], float]) -> None:
        await asyncio.sleep(before - now())
        mock.script(Fault.status(_THROTTLED, retry_after=f"{_RETRY_AFTER:g}"))

    seen = await _watch(server, before + after, events=events)
    at = seen.throttled_at
    if at is None:
        board.miss("paused: nobody was throttled")
        return
    quiet, over = at + _ON_THE_WAY, at + _RETRY_AFTER
    board.fact("paused: already on their way", seen.between(at, quiet) - 1)
    board.exactly("paused: after 0.1 s, until 2 s", seen.between(quiet, over), 0)
    first = next((it for it in seen.at if it >= quiet), seen.at[-1])
    board.fact("paused: next search, of all processes, after", first - at, "s")
    second = seen.between(over, over + 1.0)
    board.at_most("paused: in the first second after it", second, _MOST * _RATE)
    board.exactly("paused: searches that failed", seen.failed, 0)


async def _outage(
    board: Board,
    server: RedisServer,
    alone: RateLimit | None,
    before: float,
    after: float,
) -> None:
    times: list[float] = []

    async def events(_: MockVerifik, now: Callable[[], float]) -> None:
        await asyncio.sleep(before - now())
        await server.kill()
        times.append(now())
        await asyncio.sleep(_GONE)
        await server.start()
        times.append(now())

    seen = await _watch(server, before + _GONE + after, alone, events)
    name = "each alone" if alone else "all wait"
    killed, back = times
    gone = seen.rate(killed + _RESERVED, back)
    board.fact(f"{name}: with Redis", seen.rate(0.5, killed), "1/s")
    if alone is None:
        board.exactly(f"{name}: without, after {_RESERVED:g} s", gone, 0.0, "1/s")
    else:
        board.at_most(f"{name}: without", gone, 1.1 * _RATE, "1/s")
        board.at_least(f"{name}: without, again", gone, 0.9 * _RATE, "1/s")
    resumed = next((it for it in seen.at if it >= back), seen.at[-1])
    if alone is None:
        board.fact(f"{name}: first search after it is back", resumed - back, "s")
    late = back + 1.0  # when all have noticed
    board.fact(
        f"{name}: from 1 s after it is back", seen.rate(late, seen.at[-1]), "1/s"
    )
    board.exactly(f"{name}: searches that failed", seen.failed, 0)
    together = max(b - a for a, b in itertools.pairwise(seen.at))
    board.fact(f"{name}: longest time without a search", together, "s")


if __name__ == "__main__":
    main()
