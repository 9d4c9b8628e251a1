"""`verifik-async batch` over a folder, disturbed: `python -m benchmarks.folder`.

The command, a process of its own, searches thousands of small JPEG files against a
stand-in that takes its time, limits the rate and fails one request in fifty. In the
middle it is stopped by Ctrl-C; then it goes on, until a run has no failure left. All
pictures must be accounted for, each paid once but for what was in flight or may have
been charged when it failed, and memory must not grow with the pictures.
"""

import argparse
import asyncio
import json
import os
import pathlib
import signal
import sys
import tempfile
from asyncio.subprocess import PIPE
from collections import Counter
from collections.abc import Sequence
from typing import Any

import attrs

from verifik_async import read_journal
from verifik_async.testing import Fault, MockVerifik

from . import _resident
from ._job import TOKEN, UnansweredError, make_picture
from ._show import Board, flags, parser, positive, run

_FILES, _QUICK_FILES = 5000, 200
_CONCURRENCY = 16
_LATENCY = (0.005, 0.03)
_RATE = 400.0
_FAULTS = {Fault.status(503): 0.01, Fault.drop_before_headers(): 0.01}
_MOST_GROWTH = 1.15
_MOST_RUNS = 6
_LIMIT = 300.0


@attrs.frozen
class _Run:
    """One run of the command.

    Attributes:
        told: Its JSON.
        peaks: Most resident memory so far, each tenth of a second, in MB.
    """

    told: dict[str, Any]
    peaks: list[float]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures; fail if one was missed."""
    options = flags(parser("folder", __doc__))
    options.add_argument("--files", type=positive, help="in the folder")
    given = options.parse_args(arguments)
    run(lambda board: _measure(board, given), _LIMIT, given.json)


async def _measure(board: Board, given: argparse.Namespace) -> None:
    count = given.files or (_QUICK_FILES if given.quick else _FILES)
    with tempfile.TemporaryDirectory() as folder:
        await asyncio.to_thread(_make_files, pathlib.Path(folder, "photos"), count)
        async with MockVerifik(
            latency=_LATENCY,
            rate=_RATE,
            burst=_CONCURRENCY,
            faults=_FAULTS,
            max_recorded=10 * count,
        ) as mock:
            board.head(
                f"{count:,} files, {_RATE:g} a second at most, "
                f"{sum(_FAULTS.values()):.0%} faults, stopped in the middle"
            )
            runs = [await _command(folder, mock, stop_after=count // 2)]
            while runs[-1].told["exit_code"] and len(runs) < _MOST_RUNS:
                runs.append(await _command(folder, mock, "--resume"))
            _show(board, runs, mock, count)
        _account(board, pathlib.Path(folder, "out.jsonl"), count)


def _make_files(folder: pathlib.Path, count: int) -> None:
    folder.mkdir()
    for number in range(count):
        # The stand-in does not decode what is not a whole JPEG, and need not.
        head = b"\xff\xd8\xff" + number.to_bytes(4, "big")
        pathlib.Path(folder, f"{number:05}.jpg").write_bytes(head + make_picture(8000))


async def _command(
    folder: str, mock: MockVerifik, *more: str, stop_after: int | None = None
) -> _Run:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "verifik_async.cli", "batch", "photos"),
        *("-o", "out.jsonl", "--json", f"--concurrency={_CONCURRENCY}", *more),
        cwd=folder,
        stdout=PIPE,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([os.getcwd(), *filter(None, sys.path)]),  # noqa: PTH109
            "VERIFIK_BASE_URL": mock.url,
            "VERIFIK_TOKEN": TOKEN,
        },
    )
    peaks: list[float] = []
    async with asyncio.TaskGroup() as tasks:
        ending = tasks.create_task(process.communicate())
        while not ending.done():
            if (mb := _resident.peak_of(process.pid)) is not None:
                peaks.append(mb)
            if stop_after is not None and mock.hits >= stop_after:
                process.send_signal(signal.SIGINT)
                stop_after = None
            await asyncio.wait([ending], timeout=0.1)
    return _Run(told=json.loads(ending.result()[0]), peaks=peaks)


def _show(board: Board, runs: list[_Run], mock: MockVerifik, count: int) -> None:
    board.exactly("exit code of the one that was stopped", runs[0].told["exit_code"], 4)
    for number, one in enumerate(runs, 1):
        told = one.told
        name = f"run {number}"
        done = told["answered"] + told["failed"] + told["skipped"] + told["left"]
        board.exactly(f"{name}: accounted for", done, count)
        for what in ("answered", "failed", "skipped", "throttled"):
            board.fact(f"{name}: {what}", told[what])
        board.fact(f"{name}: searches a second", told["answered"] / told["elapsed_s"])
        if one.peaks:
            board.fact(f"{name}: peak resident", one.peaks[-1], "MB")
    longest = max((one.peaks for one in runs), key=len)
    if longest:
        early = longest[len(longest) // 4]
        growth = longest[-1] / early
        board.at_most("peak at the end over that after a quarter", growth, _MOST_GROWTH)
    answers = Counter(request.status for request in mock.requests)[200]
    board.exactly("searches that were answered, and paid", answers, count)


def _account(board: Board, journal: pathlib.Path, count: int) -> None:
    outcomes = list(read_journal(journal))
    if len({outcome.key for outcome in outcomes}) != len(outcomes):
        raise UnansweredError("a key that is there twice")
    answered = sum(outcome.ok for outcome in outcomes)
    board.exactly("answered in the journal", answered, count)


if __name__ == "__main__":
    main()
