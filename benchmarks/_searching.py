"""All cells of a measurement, one after another."""

import argparse
import asyncio
import importlib
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from . import _field, _machine, _report
from ._job import Job, UnansweredError, make_picture
from ._measure import CellFigures, Setting, measure
from ._nginx import NotInstalledError
from ._rivals import Rival
from ._servers import NGINX, Server, serving

_SIZES_KB = (20, 200, 2000)
_CONCURRENCY = 32
# Searches per turn: as many as carry this much, within the two bounds.
_KB_PER_TURN = 120_000
_LEAST, _MOST = 32, 1500
# A turn against a server that waits takes about as long as this.
_SECONDS_PER_TURN = 1.0


class ImpossibleError(Exception):
    """What was asked for cannot be measured here."""


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, print and return the report.

    Raises:
        ImpossibleError: a package or program is missing, or options contradict.
    """
    if unknown := set(options.rival or ()).difference(_field.BY_NAME):
        raise ImpossibleError(
            f"no such rival: {', '.join(sorted(unknown))}; there are "
            f"{', '.join(_field.BY_NAME)}"
        )
    if options.server == NGINX and any(options.latency or ()):
        raise ImpossibleError("nginx does not wait: no --latency with it")
    try:
        with asyncio.Runner(loop_factory=_loop_factory(options.loop)) as runner:
            return runner.run(_run(options))
    except NotInstalledError as missing:
        raise ImpossibleError(str(missing)) from None


def _loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        factory: Callable[[], asyncio.AbstractEventLoop]
        factory = importlib.import_module(name).new_event_loop
    except ImportError:
        raise ImpossibleError(f"{name} is not installed") from None
    return factory


async def _run(options: argparse.Namespace) -> dict[str, Any]:
    names = _field.LAYER_NAMES if options.layers else options.rival
    rivals, left_out = _field.choose(names)
    about = _machine.describe() | {"loop": options.loop, "server": options.server}
    report: dict[str, Any] = {"about": about, "left_out": left_out, "cells": []}
    settings = _settings(options)
    for latency, cells in itertools.groupby(settings, lambda cell: cell.latency_ms):
        async with serving(options.server, latency) as server:
            with _machine.pinned(server.pid) as pinning:
                if not report["cells"]:
                    about["pinning"] = pinning
                    _print_head(about, left_out)
                for setting in cells:
                    seconds = options.seconds / len(settings)
                    figures = await _cell(server, setting, rivals, options, seconds)
                    report["cells"].append(_report.raw(figures))
                    print(f"\n{_report.table(figures)}", flush=True)
    report["peak_memory_mb"] = _machine.peak_memory_mb()
    if not options.terse:
        print(f"\n{_report.legend(rivals)}")
    print(f"\nPeak memory of this process: {report['peak_memory_mb']:.0f} MB.")
    return report


def _print_head(about: dict[str, str], left_out: Sequence[str]) -> None:
    print("; ".join(f"{name}: {text}" for name, text in about.items()))
    for sentence in left_out:
        print(sentence)


def _settings(options: argparse.Namespace) -> list[Setting]:
    combined = itertools.product(
        options.latency or [0.0],
        options.concurrency or [_CONCURRENCY],
        options.size or _SIZES_KB,
    )
    return [
        Setting(size=kb * 1000, concurrency=concurrency, latency_ms=latency)
        for latency, concurrency, kb in combined
    ]


async def _cell(
    server: Server,
    setting: Setting,
    rivals: Sequence[Rival],
    options: argparse.Namespace,
    seconds: float,
) -> CellFigures:
    picture = make_picture(setting.size)
    await server.enroll(picture)
    before = await server.hits()
    figures = await measure(
        Job(url=server.url, picture=picture, concurrency=setting.concurrency),
        setting,
        rivals,
        rounds=options.rounds,
        # Fewer than run at once would be another concurrency.
        count=max(options.searches or _searches(setting), setting.concurrency),
        seconds=seconds,
    )
    after = await server.hits()
    if before is not None and after is not None and after - before != figures.sent:
        # Somebody sent twice, or not at all.
        raise UnansweredError(f"{figures.sent} searches, but {after - before} requests")
    return figures


def _searches(setting: Setting) -> int:
    count = max(_LEAST, min(_MOST, _KB_PER_TURN * 1000 // setting.size))
    if setting.latency_ms:
        rate = setting.concurrency / setting.latency_ms * 1000
        count = min(count, int(rate * _SECONDS_PER_TURN))
    # Twice, so that most of them are sent while all slots are busy.
    return max(count, min(_MOST, 2 * setting.concurrency))
