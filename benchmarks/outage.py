"""Search on through an outage: `python -m benchmarks.outage`.

In the middle of a batch the service is away for some seconds. It refuses connections,
or answers 500 to everything, and then is back. What it sees meanwhile is told by itself
where it answers. Where nobody listens nobody can tell: there it is the connections that
the client's session begins to make, which aiohttp reports before it makes them.

Then an outage that takes longer than the client would wait.
"""

import asyncio
import functools
import time
from collections.abc import Sequence

import aiohttp
import attrs

from verifik_async import RetryPolicy, VerifikClient
from verifik_async.errors import BatchStoppedError
from verifik_async.models import BatchSummary

from ._job import OPTIONS, TOKEN
from ._service import Service
from ._show import Board, parser, positive, run
from ._source import Source

_LATENCY = 0.02
_MOST_REQUESTS = 60
_PATIENCE = 3.0
# To notice the outage, and to end when it has lasted too long.
_SLACK = 1.0
_LIMIT = 180.0


@attrs.define
class _Times:
    """When the outage began and ended, and when the first answer came after that."""

    began: float = 0.0
    ended: float | None = None
    answered: float | None = None


class _Connections:
    """Counts the connections that a session begins to make."""

    def __init__(self) -> None:
        self.count = 0
        self.trace = aiohttp.TraceConfig()
        self.trace.on_connection_create_start.append(self._begun)

    async def _begun(self, *_: object) -> None:
        self.count += 1


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures; fail if one was missed."""
    options = parser("outage", __doc__)
    options.add_argument("--count", type=positive, default=2000, help="of searches")
    options.add_argument("--seconds", type=float, default=8.0, help="of each outage")
    given = options.parse_args(arguments)
    run(
        functools.partial(_measure, count=given.count, seconds=given.seconds),
        _LIMIT + 2 * given.seconds,
    )


async def _measure(board: Board, *, count: int, seconds: float) -> None:
    board.head(f"{count:,} searches, connections are refused for {seconds:g} s")
    await _show_outage(board, count, seconds, failing=False)
    board.head(f"{count:,} searches, 500 to everything for {seconds:g} s")
    await _show_outage(board, count, seconds, failing=True)
    board.head(f"an outage without an end, outage_limit={_PATIENCE:g}")
    await _show_end(board, count)


async def _show_outage(
    board: Board, count: int, seconds: float, *, failing: bool
) -> None:
    connections, times, seen = _Connections(), _Times(), 0
    turn = asyncio.Event()

    async def outage(service: Service) -> None:
        nonlocal seen
        await turn.wait()
        before, times.began = connections.count, time.perf_counter()
        _take_away(service, failing=failing)
        await asyncio.sleep(seconds)
        seen = service.failed if failing else connections.count - before
        service.failing = False
        if not failing:
            await service.come_back()
        times.ended = time.perf_counter()

    async with (
        Service(_LATENCY) as service,
        VerifikClient(
            TOKEN,
            base_url=service.url,
            defaults=OPTIONS,
            trace_configs=[connections.trace],
        ) as client,
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(outage(service), name="outage")
        summary = await _search(client, Source(count), turn, times)
    board.exactly("answered", summary.answered, count)
    board.exactly("failed", summary.failed, 0)
    what = "requests" if failing else "connections begun"
    board.at_most(f"{what} during the outage", seen, _MOST_REQUESTS)
    if times.ended is not None and times.answered is not None:
        after = times.answered - times.ended
        board.fact("from its end to the first answer, s", after)
    board.fact("wall, s", summary.elapsed_s)
    _show_errors(board, summary)


def _take_away(service: Service, *, failing: bool) -> None:
    if failing:
        service.failing = True
    else:
        service.go_away()


async def _search(
    client: VerifikClient, source: Source, turn: asyncio.Event, times: _Times
) -> BatchSummary:
    """Search for everything; a quarter of it before the outage."""
    quarter = max(1, source.count // 4)
    async with client.search_many(source) as outcomes:
        async for outcome in outcomes:
            source.taken += 1
            if source.taken == quarter:
                turn.set()
            if times.ended is not None and times.answered is None and outcome.ok:
                times.answered = time.perf_counter()
    return outcomes.summary


async def _show_end(board: Board, count: int) -> None:
    source, stopped = Source(count), "nothing"
    began = time.perf_counter()
    async with (
        Service(_LATENCY) as service,
        VerifikClient(
            TOKEN,
            base_url=service.url,
            defaults=OPTIONS,
            retry=RetryPolicy(outage_limit=_PATIENCE),
        ) as client,
        client.search_many(source) as outcomes,
    ):
        try:
            async for _ in outcomes:
                source.taken += 1
                if source.taken == max(1, count // 4):
                    began = time.perf_counter()
                    service.go_away()
        except BatchStoppedError as error:
            stopped = type(error).__name__
        took = time.perf_counter() - began
    summary = outcomes.summary
    board.exactly("ended by", stopped, BatchStoppedError.__name__)
    board.exactly("probes yielded, of those pulled", source.taken, source.pulled)
    board.exactly("answered + failed", summary.answered + summary.failed, source.taken)
    board.at_least("from its beginning to the end of the batch, s", took, _PATIENCE)
    board.at_most("the same", took, _PATIENCE + _SLACK)
    board.fact("answered", summary.answered)
    board.fact("not sent", summary.not_sent)
    board.fact("may have been charged", summary.maybe_charged)
    board.fact("stopped by", summary.stopped_by or "nothing")
    _show_errors(board, summary)


def _show_errors(board: Board, summary: BatchSummary) -> None:
    for name, number in summary.errors.items():
        board.fact(f"failed with {name}", number)


if __name__ == "__main__":
    main()
