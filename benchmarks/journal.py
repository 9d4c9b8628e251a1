"""What a journal costs a batch: `python -m benchmarks.journal`.

The same batch with a journal and without, by turns, on a service that answers at once,
where it costs most, and on one that takes 50 ms, as a service does. With a journal each
picture is digested, and each worker waits for its line before it goes on.
"""

import argparse
import pathlib
import statistics
import tempfile
import time
from collections.abc import Sequence

import attrs

from verifik_async import Probe, VerifikClient
from verifik_async.testing import MockProcess

from . import _machine
from ._job import OPTIONS, TOKEN, make_picture
from ._show import Board, flags, parser, positive, run

_LATENCIES = (0.0, 0.05)
_SIZE, _CONCURRENCY = 200_000, 32
_COUNT, _QUICK_COUNT = 1500, 100
_ROUNDS, _QUICK_ROUNDS = 5, 1
_LIMIT = 240.0


@attrs.frozen
class _Turn:
    """One batch: searches a second, and seconds of CPU for each."""

    rate: float
    cpu_s: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures."""
    options = flags(parser("journal", __doc__))
    options.add_argument("--rounds", type=positive, help="of a turn each")
    given = options.parse_args(arguments)
    run(lambda board: _measure(board, given), _LIMIT, given.json)


async def _measure(board: Board, given: argparse.Namespace) -> None:
    rounds = given.rounds or (_QUICK_ROUNDS if given.quick else _ROUNDS)
    count = _QUICK_COUNT if given.quick else _COUNT
    for latency in _LATENCIES:
        name = f"{latency * 1000:g} ms"
        async with MockProcess(latency=latency) as mock:
            with _machine.pinned(mock.pid) as pinning:
                board.head(
                    f"{count:,} pictures of {_SIZE // 1000} KB, {_CONCURRENCY} at "
                    f"once, {name} at the service, {rounds} rounds; {pinning}"
                )
                await _compare(board, mock.url, name, count, rounds)


async def _compare(board: Board, url: str, name: str, count: int, rounds: int) -> None:
    turns: dict[str, list[_Turn]] = {"without": [], "with": []}
    async with VerifikClient(
        TOKEN, base_url=url, defaults=OPTIONS, max_concurrency=_CONCURRENCY
    ) as client:
        await _turn(client, 2 * _CONCURRENCY, None)  # opens the connections
        for _ in range(rounds):
            turns["without"].append(await _turn(client, count, None))
            with tempfile.TemporaryDirectory() as folder:
                journal = pathlib.Path(folder, "out.jsonl")
                turns["with"].append(await _turn(client, count, journal))
    rate, cpu = {}, {}
    for way, taken in turns.items():
        rate[way] = statistics.median(turn.rate for turn in taken)
        cpu[way] = statistics.median(turn.cpu_s for turn in taken)
        board.fact(f"{name}, {way}: searches", rate[way], "1/s")
        board.fact(f"{name}, {way}: CPU of one", cpu[way] * 1e6, "us")
    board.fact(
        f"{name}: searches a second, with / without", rate["with"] / rate["without"]
    )
    board.fact(f"{name}: CPU, with / without", cpu["with"] / cpu["without"])


async def _turn(
    client: VerifikClient, count: int, journal: pathlib.Path | None
) -> _Turn:
    picture = make_picture(_SIZE)
    probes = (Probe(picture, key=number) for number in range(count))
    wall, cpu = time.perf_counter(), time.process_time()
    async with client.search_many(probes, journal=journal) as outcomes:
        async for outcome in outcomes:
            outcome.unwrap()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return _Turn(count / wall, cpu / count)


if __name__ == "__main__":
    main()
