"""What it takes to go on with a large journal: `python -m benchmarks.resume`.

A journal of a million lines, made beforehand, is opened by a batch that has nothing
left to do; in a process of its own, with orjson and without it. Its memory is that of
the whole process, Python and all packages included.
"""

import argparse
import asyncio
import pathlib
import sys
import tempfile
import time
from collections.abc import Sequence

import attrs

from verifik_async import CallInfo, Match, Outcome, SearchResult, VerifikClient
from verifik_async._journal import Searched, header_line, outcome_line
from verifik_async._wire import body_start, parameters_digest

from . import _resident
from ._child import in_child
from ._job import OPTIONS, TOKEN, UnansweredError
from ._show import Board, flags, parser, positive, run

_LINES, _QUICK_LINES = 1_000_000, 20_000
_MOST_SECONDS, _MOST_MB = 10.0, 300.0
_LIMIT = 400.0
_CHILD_LIMIT = 100.0


@attrs.frozen(kw_only=True)
class _Task:
    """What a process has to do."""

    journal: pathlib.Path
    with_orjson: bool


@attrs.frozen(kw_only=True)
class _Taken:
    """What that took; None where the system does not tell."""

    seconds: float
    cpu_s: float
    peak_mb: float | None


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures; fail if one was missed."""
    options = flags(parser("resume", __doc__))
    options.add_argument("--lines", type=positive, help="of the journal")
    given = options.parse_args(arguments)
    run(lambda board: _measure(board, given), _LIMIT, given.json)


async def _measure(board: Board, given: argparse.Namespace) -> None:
    lines = given.lines or (_QUICK_LINES if given.quick else _LINES)
    with tempfile.TemporaryDirectory() as folder:
        journal = pathlib.Path(folder, "out.jsonl")
        size = await asyncio.to_thread(_write, journal, lines)
        board.head(f"a journal of {lines:,} lines, {size / 1e6:,.0f} MB")
        for with_orjson in (True, False):
            name = "orjson" if with_orjson else "json"
            task = _Task(journal=journal, with_orjson=with_orjson)
            taken = await in_child(_resume, task, _CHILD_LIMIT)
            board.at_most(f"{name}: opened after", taken.seconds, _MOST_SECONDS, "s")
            board.fact(f"{name}: CPU", taken.cpu_s, "s")
            if taken.peak_mb is None:
                print("  resident memory: this system does not tell")
            else:
                board.at_most(f"{name}: peak", taken.peak_mb, _MOST_MB, "MB")


def _write(journal: pathlib.Path, lines: int) -> int:
    """Write a journal and return how many bytes it has."""
    with journal.open("wb") as file:
        file.write(header_line(parameters_digest(body_start(OPTIONS))))
        for number in range(lines):
            file.write(_line(number))
        return file.tell()


def _line(number: int) -> bytes:
    call = CallInfo(
        attempts=1,
        elapsed_s=0.2345678901 + number / 1e7,
        status=200,
        request_bytes=266_732,
        response_bytes=413,
    )
    result = SearchResult(
        id=f"SAU{number:09}", matches=(Match(id=f"person-{number}", score=0.9123),)
    )
    key = f"archive/2026/11/{number:09}.jpg"
    outcome = Outcome(index=number, key=key, result=result, call=call)
    return outcome_line(outcome, Searched(f"{number:064x}"))


# -- in a process of its own -----------------------------------------------------------


def _resume(task: _Task) -> _Taken:
    if not task.with_orjson:
        _forget_orjson()
    return asyncio.run(_open(task.journal))


def _forget_orjson() -> None:
    """Let the package find no orjson, as where it is not installed."""
    for name in [name for name in sys.modules if name.startswith("verifik_async")]:
        del sys.modules[name]
    sys.modules["orjson"] = None  # type: ignore[assignment]  # the way to say so


async def _open(journal: pathlib.Path) -> _Taken:
    # Imported anew: it may have been forgotten.
    package = __import__("verifik_async")
    client: VerifikClient = package.VerifikClient(
        TOKEN,
        base_url="http://127.0.0.1:9",
        defaults=package.SearchOptions(**attrs.asdict(OPTIONS)),
    )
    async with client, _resident.peak() as peak:
        wall, cpu = time.perf_counter(), time.process_time()
        async with client.search_many([], journal=journal) as batch:
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            if [outcome async for outcome in batch]:
                raise UnansweredError("outcomes of no probes")
    return _Taken(seconds=wall, cpu_s=cpu, peak_mb=peak.mb)


if __name__ == "__main__":
    main()
