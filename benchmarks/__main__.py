"""Measure searches beside rivals: `python -m benchmarks`.

All load goes to a stand-in of the service on loopback, in a process of its own.
"""

import argparse
import asyncio
import json
import pathlib
from collections.abc import Sequence
from typing import Any

from verifik_async.testing import MockProcess

from . import _machine, _report
from ._job import PERSON, Job, UnansweredError, make_picture
from ._measure import SizeFigures, measure
from ._rivals import SAMPLE, Rival, available

_SIZES_KB = (20, 200, 2000)
# Searches per turn: as many as carry this much, within the two bounds.
_KB_PER_TURN = 120_000
_LEAST, _MOST = 96, 1500


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print, size by size."""
    options = _parser().parse_args(arguments)
    report = asyncio.run(_run(options))
    if options.json is not None:
        options.json.write_text(json.dumps(report) + "\n", encoding="utf-8")


async def _run(options: argparse.Namespace) -> dict[str, Any]:
    rivals = [*available()]
    about = _machine.describe()
    report: dict[str, Any] = {"about": about, "sizes": []}
    sizes = [kb * 1000 for kb in options.size or _SIZES_KB]
    async with MockProcess() as mock:
        with _machine.pinned(mock.pid) as pinning:
            about["pinning"] = pinning
            print("; ".join(f"{name}: {text}" for name, text in about.items()))
            if SAMPLE not in rivals:
                print(f"{SAMPLE.name} is not installed: left out")
            for size in sizes:
                figures = await _measure_size(mock, size, rivals, options)
                report["sizes"].append(_report.raw(figures))
                print(f"\n{_report.table(figures, options.concurrency)}", flush=True)
    print(f"\n{_report.legend(rivals)}")
    return report


async def _measure_size(
    mock: MockProcess, size: int, rivals: Sequence[Rival], options: argparse.Namespace
) -> SizeFigures:
    picture = make_picture(size)
    await mock.enroll(PERSON, picture)
    before = (await mock.counts())["hits"]
    figures = await measure(
        Job(url=mock.url, picture=picture, concurrency=options.concurrency),
        rivals,
        rounds=options.rounds,
        count=options.searches or _searches(size),
        seconds=options.seconds / len(options.size or _SIZES_KB),
    )
    hits = (await mock.counts())["hits"] - before
    if hits != figures.sent:  # somebody sent twice, or not at all
        raise UnansweredError(f"{figures.sent} searches, but {hits} requests")
    return figures


def _searches(size: int) -> int:
    return max(_LEAST, min(_MOST, _KB_PER_TURN * 1000 // size))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure searches beside rivals, on loopback only.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--size",
        type=_positive,
        action="append",
        metavar="KB",
        help="of the picture; may be repeated; 20, 200 and 2000 by default",
    )
    add("--rounds", type=_positive, default=12, help="at most")
    add("--seconds", type=float, default=45.0, help="no round begins after them")
    add("--searches", type=_positive, help="a turn; by the size by default")
    add("--concurrency", type=_positive, default=32, help="searches at once")
    add("--json", type=pathlib.Path, metavar="FILE", help="for the raw figures")
    return parser


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


if __name__ == "__main__":
    main()
