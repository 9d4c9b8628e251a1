"""Search more at once than the service lets through: `python -m benchmarks.storm`.

All searches of a case begin together, against a stand-in of the service that lets so
many a second through, and a second's worth at once. What is over gets 429, with
`Retry-After: 1` or without the header. At best everything takes as long as the
service needs to let it through: the ideal.
"""

import argparse
import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence

import attrs

from verifik_async import VerifikClient
from verifik_async.testing import MockProcess

from ._job import OPTIONS, TOKEN, Job, make_picture
from ._peers import PEERS, Peer, Search
from ._show import Board, parser, run

_PICTURE = 2000
_MOST_HITS = 1.3
_MOST_WALL = 1.25
# Without the header nobody tells how long to wait: 25 s where the ideal is 14.
_MOST_WALL_UNTOLD = 1.786
# One case takes a third of that, a peer at worst this long.
_LIMIT = 90.0
_ALL_LIMIT = 600.0


@attrs.frozen
class Case:
    """So many searches at once, against so many a second.

    Attributes:
        searches: How many.
        per_second: What the service lets through, and its burst.
        told: Whether the service says how long to wait.
    """

    searches: int
    per_second: int
    told: bool

    @property
    def ideal_s(self) -> float:
        """Seconds until the service can have let the last one through."""
        return (self.searches - self.per_second) / self.per_second

    def __str__(self) -> str:
        header = "Retry-After: 1" if self.told else "no Retry-After"
        return (
            f"{self.searches:,} searches at once, {self.per_second}/s, "
            f"burst {self.per_second}, {header}"
        )


@attrs.frozen(kw_only=True)
class Figures:
    """What became of a case.

    Attributes:
        failures: Failed searches by the class of their error.
        hits: Requests that the service saw.
        wall_s: From the first search to the end of the last.
    """

    failures: Counter[str]
    hits: int
    wall_s: float


CASES = tuple(
    Case(searches, per_second, told)
    for told in (True, False)
    for searches, per_second in ((300, 20), (100, 5), (1000, 200))
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures; fail if one was missed."""
    options = parser("storm", __doc__)
    options.add_argument(
        "--peers",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="other clients in the first case, for comparison",
    )
    peers = options.parse_args(arguments).peers
    run(lambda board: _measure(board, peers=peers), _ALL_LIMIT)


async def _measure(board: Board, *, peers: bool) -> None:
    for case in CASES:
        await _show_ours(board, case)
    for peer in PEERS if peers else ():
        await _show_peer(board, CASES[0], peer)


@contextlib.asynccontextmanager
async def _service(case: Case) -> AsyncIterator[MockProcess]:
    async with MockProcess(
        rate=case.per_second,
        burst=case.per_second,
        retry_after=1 if case.told else None,
    ) as mock:
        yield mock


async def _show_ours(board: Board, case: Case) -> None:
    picture = make_picture(_PICTURE)
    board.head(str(case))
    async with (
        _service(case) as mock,
        VerifikClient(TOKEN, base_url=mock.url, defaults=OPTIONS) as client,
    ):
        figures = await _storm(
            case, mock, lambda: client.search_active_user(picture), _LIMIT
        )
        throttled = client.stats().throttled
    most = _MOST_WALL if case.told else _MOST_WALL_UNTOLD
    board.exactly("failed searches", figures.failures.total(), 0)
    board.at_most("wall, s", figures.wall_s, most * case.ideal_s)
    board.fact("ideal wall, s", case.ideal_s)
    if case.told:
        board.at_most("requests", figures.hits, int(_MOST_HITS * case.searches))
    else:
        board.fact("requests", figures.hits)
    board.fact("of them throttled", throttled)
    _show_failures(board, figures)


async def _show_peer(board: Board, case: Case, peer: Peer) -> None:
    board.head(f"{peer.name}: {case}")
    if peer.missing:
        print(f"  left out: not installed: {', '.join(peer.missing)}")
        return
    async with _service(case) as mock:
        job = Job(
            url=mock.url, picture=make_picture(_PICTURE), concurrency=case.searches
        )
        async with peer.open(job) as search:
            figures = await _storm(case, mock, search, _LIMIT)
    board.fact("failed searches", figures.failures.total())
    board.fact("wall, s", figures.wall_s)
    board.fact("requests", figures.hits)
    _show_failures(board, figures)


def _show_failures(board: Board, figures: Figures) -> None:
    for name, count in figures.failures.most_common():
        board.fact(f"failed with {name}", count)


async def _storm(
    case: Case, mock: MockProcess, search: Search, seconds: float
) -> Figures:
    """Begin all searches at once and wait for the last.

    Raises:
        TimeoutError: They took longer than that many seconds.
    """
    failures: Counter[str] = Counter()

    async def one() -> None:
        try:
            await search()
        except Exception as error:  # noqa: BLE001 - a peer's may be of any class
            failures[type(error).__name__] += 1

    async with asyncio.timeout(seconds):
        began = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for number in range(case.searches):
                tasks.create_task(one(), name=f"search-{number}")
        wall = time.perf_counter() - began
    hits = (await mock.counts())["hits"]
    return Figures(failures=failures, hits=hits, wall_s=wall)


if __name__ == "__main__":
    main()
