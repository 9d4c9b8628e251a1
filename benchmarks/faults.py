"""What becomes of a search when something goes wrong: `python -m benchmarks.faults`.

Every row of the matrix is played on real sockets: once by a single search, once by a
batch of two, one after the other. What comes of it is compared with what is promised,
and printed: the error, what the search may have cost, the requests that the server
saw, and the time it took. Where a limit is what ends it, an attempt has a second, and
so has connecting; delays are 10 ms.
"""

import argparse
import asyncio
import collections
import contextlib
import json
import pathlib
import time
from collections.abc import AsyncIterator, Sequence

import attrs

from verifik_async import (
    BatchStoppedError,
    Charge,
    Probe,
    RetryPolicy,
    SearchResult,
    Timeouts,
    VerifikClient,
    VerifikError,
)

from . import _machine
from ._faults_places import Place
from ._faults_rows import ALL, CONNECT, MB, RESULT, TIMEOUT, Row, rows
from ._job import OPTIONS, TOKEN, make_picture
from ._show import Board, parser, run

_ATTEMPT = 1.0
_AMPLE = 20.0
_SMALL = 1_000
_LARGE = 15 * MB  # base64 makes it 20
_AT_ONCE = 8
_LIMIT = 300.0


@attrs.frozen(kw_only=True)
class Came:
    """What came of a row.

    Attributes:
        phase: When it struck.
        what: What went wrong.
        ended_in: The class of the error, or a result.
        charge: What it says that it may have cost.
        requests: That the server saw.
        seconds: What it took.
        in_batch: What two probes of a batch ended in.
        of_two: Requests that the server saw of them.
        batch_seconds: What they took.
        elsewhere: Requests that came where none may come.
    """

    phase: str
    what: str
    ended_in: str
    charge: Charge
    requests: int
    seconds: float
    in_batch: tuple[str, ...]
    of_two: int
    batch_seconds: float
    elsewhere: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the matrix; fail if a row is not as promised."""
    options = parser("faults", __doc__)
    options.add_argument("--only", metavar="TEXT", help="rows with this in their words")
    options.add_argument("--json", type=pathlib.Path, metavar="FILE", help="the rows")
    given = options.parse_args(arguments)
    run(lambda board: _measure(board, given), _LIMIT)


async def _measure(board: Board, given: argparse.Namespace) -> None:
    wanted = [row for row in rows() if (given.only or "") in f"{row.phase}, {row.what}"]
    came = await play_all(wanted)
    for phase, some in _by_phase(came).items():
        board.head(phase)
        for one in some:
            print(_line(one), flush=True)
    board.head(f"{len(came)} faults, {2 * len(came)} ways to meet them")
    for row, one in zip(wanted, came, strict=True):
        for problem in differences(row, one):
            board.miss(f"{row.phase}, {row.what}: {problem}")
    board.exactly("unexplained rows", board.missed, 0)
    board.exactly("requests elsewhere", sum(one.elsewhere for one in came), 0)
    if given.json is not None:
        kept = [attrs.asdict(one) for one in came]
        text = json.dumps({"about": _machine.here(), "rows": kept}, indent=1)
        given.json.write_text(text + "\n", encoding="utf-8")


def differences(row: Row, came: Came) -> list[str]:
    """Return where a row did not come out as promised."""
    compared = {
        "ends in": (row.ends_in, came.ended_in),
        "charge": (row.charge, came.charge),
        "requests": (row.requests, came.requests),
        "batch ends in": (row.in_batch, came.in_batch),
        "requests of two": (row.of_two, came.of_two),
        "requests elsewhere": (0, came.elsewhere),
    }
    return [
        f"{name}: {found}, not {promised}"
        for name, (promised, found) in compared.items()
        if promised != found
    ]


async def play_all(wanted: Sequence[Row]) -> list[Came]:
    """Play rows, several at once: most of them wait."""
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(row: Row) -> Came:
        async with room:
            return await play_row(row)

    async with asyncio.TaskGroup() as tasks:
        played = [tasks.create_task(one(row)) for row in wanted]
    return [task.result() for task in played]


async def play_row(row: Row) -> Came:
    """Play one row, both ways."""
    picture = make_picture(_LARGE if row.large else _SMALL)
    async with _client(row) as (client, place):
        began = time.perf_counter()
        ended_in, charge = await _search(client, picture)
        seconds = time.perf_counter() - began
        requests, elsewhere = place.seen(), place.elsewhere()
    async with _client(row) as (client, place):
        began = time.perf_counter()
        in_batch = await _batch(client, picture)
        return Came(
            phase=row.phase,
            what=row.what,
            ended_in=ended_in,
            charge=charge,
            requests=requests,
            seconds=seconds,
            in_batch=in_batch,
            of_two=place.seen(),
            batch_seconds=time.perf_counter() - began,
            elsewhere=elsewhere + place.elsewhere(),
        )


@contextlib.asynccontextmanager
async def _client(row: Row) -> AsyncIterator[tuple[VerifikClient, Place]]:
    async with (
        row.place() as place,
        VerifikClient(
            TOKEN,
            base_url=place.url,
            defaults=OPTIONS,
            ssl=place.ssl,
            timeouts=_timeouts(row),
            retry=RetryPolicy(attempts=ALL, base_delay=0.01, max_delay=0.01),
        ) as client,
    ):
        if place.arm is not None:
            await client.search_active_user(make_picture(_SMALL))
            await asyncio.sleep(0.05)  # what is late arrives meanwhile
            place.arm()
        yield client, place


def _timeouts(row: Row) -> Timeouts:
    """Return limits that run out only where they are what the row is about."""
    return Timeouts(
        attempt=_ATTEMPT if row.ends_in == TIMEOUT else _AMPLE,
        connect=_ATTEMPT if row.ends_in == CONNECT else _AMPLE,
    )


async def _search(client: VerifikClient, picture: bytes) -> tuple[str, Charge]:
    try:
        result = await client.search_active_user(picture)
    except VerifikError as error:
        return type(error).__name__, error.charge
    return RESULT, _charge(result)


def _charge(result: SearchResult) -> Charge:
    return Charge.MAYBE_CHARGED if result.call.maybe_charged else Charge.ANSWERED


async def _batch(client: VerifikClient, picture: bytes) -> tuple[str, ...]:
    """Return what became of two probes, and whether that ended the batch."""
    probes = [Probe(picture, key=key) for key in ("first", "second")]
    ends = []
    try:
        async with client.search_many(probes, concurrency=1) as batch:
            async for outcome in batch:
                error = outcome.error
                ends.append(RESULT if error is None else type(error).__name__)
    except BatchStoppedError as error:
        ends.append(type(error).__name__)
    return tuple(ends)


def _by_phase(came: Sequence[Came]) -> dict[str, list[Came]]:
    phases = collections.defaultdict(list)
    for one in came:
        phases[one.phase].append(one)
    return phases


def _line(one: Came) -> str:
    single = (
        f"{one.ended_in:<22} {one.charge:<14}{one.requests:>2}{one.seconds:>7.2f} s"
    )
    return f"  {one.what:<38} {single}{one.of_two:>4}{one.batch_seconds:>7.2f} s"


if __name__ == "__main__":
    main()
