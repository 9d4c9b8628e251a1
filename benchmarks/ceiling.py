"""How near the client is to what a machine can do: `python -m benchmarks.ceiling`.

wrk, a program in C that does nothing but post one body again and again, beside bare
aiohttp with a ready body and the client, by turns on the same server, with as many
connections and on the same core. The server is nginx where that is installed, or else
one that reads bodies and throws them away.

Without wrk nothing is measured.
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence

import attrs

from . import _machine
from ._job import Job, make_picture
from ._nginx import Nginx, NotInstalledError
from ._rivals import FLOOR, OURS, Turn
from ._show import Board, flags, parser, positive, run
from ._sink import Sink
from ._wrk import find_wrk, run_wrk

_CONCURRENCY = 32
_SIZES_KB, _QUICK_SIZES_KB = (20, 200, 2000), (20, 2000)
_ROUNDS, _QUICK_ROUNDS = 3, 1
_WRK_SECONDS, _QUICK_WRK_SECONDS = 2, 1
# Searches per turn: as many as carry this much, within the two bounds.
_KB_PER_TURN, _QUICK_KB_PER_TURN = 400_000, 40_000
_LEAST, _MOST = 64, 4000
_LIMIT = 180.0
_WRK = "wrk"


@attrs.frozen
class _Speed:
    """One turn of one way to search.

    Attributes:
        rate: Searches a second.
        cpu_us: CPU time of one.
    """

    rate: float
    cpu_us: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures."""
    options = flags(parser("ceiling", __doc__))
    options.add_argument("--rounds", type=positive, help="for each size")
    given = options.parse_args(arguments)
    run(lambda board: _measure(board, given), _LIMIT, given.json)


async def _measure(board: Board, given: argparse.Namespace) -> None:
    try:
        program = find_wrk()
    except NotInstalledError as missing:
        print(f"{missing}: nothing is measured")
        return
    server, about = _server()
    async with server:
        with _machine.pinned(server.pid) as pinning:
            for kb in _QUICK_SIZES_KB if given.quick else _SIZES_KB:
                board.head(
                    f"{kb:,} KB pictures, {_CONCURRENCY} at once, to {about}; {pinning}"
                )
                job = Job(
                    url=server.url,
                    picture=make_picture(kb * 1000),
                    concurrency=_CONCURRENCY,
                )
                _show(board, f"{kb:,} KB", await _by_turns(program, job, given))


def _server() -> tuple[Nginx | Sink, str]:
    try:
        return Nginx(), "nginx"
    except NotInstalledError as missing:
        return Sink(), f"a plain server, since {missing}"


async def _by_turns(
    program: str, job: Job, given: argparse.Namespace
) -> dict[str, list[_Speed]]:
    """Return the turns of each."""
    body = json.dumps(job.fields(), separators=(",", ":")).encode()
    per_turn = _QUICK_KB_PER_TURN if given.quick else _KB_PER_TURN
    count = max(_LEAST, min(_MOST, per_turn * 1000 // len(job.picture)))
    speeds: dict[str, list[_Speed]] = {_WRK: [], FLOOR.name: [], OURS.name: []}
    async with FLOOR.open(job) as bare, OURS.open(job) as ours:
        await bare(job.concurrency)
        await ours(job.concurrency)
        for _ in range(given.rounds or (_QUICK_ROUNDS if given.quick else _ROUNDS)):
            seconds = _QUICK_WRK_SECONDS if given.quick else _WRK_SECONDS
            speeds[_WRK].append(await _take_wrk(program, job, body, seconds))
            speeds[FLOOR.name].append(await _take(bare, count))
            speeds[OURS.name].append(await _take(ours, count))
    return speeds


async def _take_wrk(program: str, job: Job, body: bytes, seconds: int) -> _Speed:
    turn = await run_wrk(program, job, body, seconds)
    return _Speed(turn.requests / turn.wall_s, turn.cpu_s / turn.requests * 1e6)


async def _take(turn: Turn, count: int) -> _Speed:
    wall, cpu = time.perf_counter(), time.process_time()
    await turn(count)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return _Speed(count / wall, cpu / count * 1e6)


def _show(board: Board, size: str, speeds: dict[str, list[_Speed]]) -> None:
    for name, turns in speeds.items():
        rate = statistics.median(turn.rate for turn in turns)
        cpu = statistics.median(turn.cpu_us for turn in turns)
        board.fact(f"{size}, {name}: requests", rate, "1/s")
        board.fact(f"{size}, {name}: CPU of one", cpu, "us")
    for name in (FLOOR.name, OURS.name):
        ratio = statistics.median(
            mine.cpu_us / least.cpu_us
            for mine, least in zip(speeds[name], speeds[_WRK], strict=True)
        )
        board.fact(f"{size}, {name} / {_WRK}, CPU", ratio)


if __name__ == "__main__":
    main()
