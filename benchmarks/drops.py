"""Small mishaps in the middle of many searches: `python -m benchmarks.drops`.

Kept connections that end under a request, a token that expires, credits that run out.
"""

import functools
import itertools
from collections.abc import Callable, Sequence

from verifik_async import VerifikClient
from verifik_async.errors import BatchStoppedError, PaymentRequiredError
from verifik_async.models import BatchSummary
from verifik_async.testing import Fault, MockVerifik

from ._dropping import dropping
from ._job import OPTIONS, TOKEN
from ._show import Board, parser, positive, run
from ._source import Source

_CONCURRENCY = 32
_LATENCY = 0.01
_UNAUTHORISED, _UNPAID = 401, 402
_LIMIT = 120.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures; fail if one was missed."""
    options = parser("drops", __doc__)
    options.add_argument("--count", type=positive, default=1000, help="of searches")
    count = options.parse_args(arguments).count
    run(functools.partial(_measure, count=count), _LIMIT)


async def _measure(board: Board, *, count: int) -> None:
    for concurrency in (1, _CONCURRENCY):
        board.head(
            f"{count:,} searches, {concurrency} at once, every second reuse of a "
            "connection is dropped unread"
        )
        await _show_drops(board, count, concurrency)
    board.head(f"{count:,} searches, {_CONCURRENCY} at once, the token expires midway")
    await _show_expiry(board, count)
    board.head(f"{count:,} searches, {_CONCURRENCY} at once, the credits end midway")
    await _show_unpaid(board, count)


async def _show_drops(board: Board, count: int, concurrency: int) -> None:
    async with (
        dropping() as server,
        VerifikClient(TOKEN, base_url=server.url, defaults=OPTIONS) as client,
    ):
        summary = await _search(client, count, concurrency)
        resent = client.stats().resent
    board.exactly("answered", summary.answered, count)
    board.exactly("failed", summary.failed, 0)
    board.fact("requests over a connection that had served", server.reused)
    board.at_least("dropped", server.dropped, 1)
    board.exactly("sent again", resent, server.dropped)
    board.exactly("answers of the server", server.answered, count)
    _show_errors(board, summary)


async def _show_expiry(board: Board, count: int) -> None:
    asked = itertools.count(1)
    calls = 0

    def token() -> str:
        nonlocal calls
        calls = next(asked)
        return f"token-{calls}"

    async with (
        MockVerifik(latency=_LATENCY, tokens={"token-1"}) as mock,
        VerifikClient(token, base_url=mock.url, defaults=OPTIONS) as client,
    ):

        def expire() -> None:
            mock.tokens = {"token-2"}

        summary = await _search(client, count, _CONCURRENCY, midway=expire)
        refused = sum(seen.status == _UNAUTHORISED for seen in mock.requests)
        hits = mock.hits
    board.exactly("answered", summary.answered, count)
    board.exactly("failed", summary.failed, 0)
    board.exactly("times that the token was asked for again", calls - 1, 1)
    board.at_most("requests with the old token, refused", refused, _CONCURRENCY)
    board.exactly("requests", hits, count + refused)
    _show_errors(board, summary)


async def _show_unpaid(board: Board, count: int) -> None:
    async with (
        MockVerifik(latency=_LATENCY) as mock,
        VerifikClient(TOKEN, base_url=mock.url, defaults=OPTIONS) as client,
    ):

        def run_out() -> None:
            mock.faults = {Fault.status(_UNPAID): 1.0}

        summary, source = await _until_stopped(client, count, run_out)
        statuses = [seen.status for seen in mock.requests]
    board.exactly(
        "ended by", summary.stopped_by or "nothing", PaymentRequiredError.__name__
    )
    board.exactly("probes yielded, of those pulled", source.taken, source.pulled)
    board.exactly("answered + failed", summary.answered + summary.failed, source.pulled)
    first = statuses.index(_UNPAID) if _UNPAID in statuses else len(statuses)
    after = len(statuses[first + 1 :])
    board.at_most("requests after the first 402", after, _CONCURRENCY + 1)
    board.fact("answered", summary.answered)
    _show_errors(board, summary)


async def _search(
    client: VerifikClient,
    count: int,
    concurrency: int,
    midway: Callable[[], None] = lambda: None,
) -> BatchSummary:
    source = Source(count)
    async with client.search_many(source, concurrency=concurrency) as outcomes:
        async for _ in outcomes:
            source.taken += 1
            if source.taken == count // 2:
                midway()
    return outcomes.summary


async def _until_stopped(
    client: VerifikClient, count: int, midway: Callable[[], None]
) -> tuple[BatchSummary, Source]:
    source = Source(count)
    async with client.search_many(source, concurrency=_CONCURRENCY) as outcomes:
        try:
            async for _ in outcomes:
                source.taken += 1
                if source.taken == count // 2:
                    midway()
        except BatchStoppedError:
            pass  # it is in the summary
    return outcomes.summary, source


def _show_errors(board: Board, summary: BatchSummary) -> None:
    for name, number in summary.errors.items():
        board.fact(f"failed with {name}", number)


if __name__ == "__main__":
    main()
