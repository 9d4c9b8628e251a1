"""What large files on the way cost in memory: `python -m benchmarks.files`.

Searches of 10 MB files by `search_many` over their paths, in a process of its own: how
far its resident memory grows above that after searches of small pictures. Beside it, as
facts, the same of the usual way: read the file, encode it, hand it to aiohttp as
`json=`; in another process, with fewer searches.

The server reads the bodies and throws them away: to decode them would take longer than
all that the client does.
"""

import argparse
import asyncio
import gc
import itertools
import pathlib
import random
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import aiohttp
import attrs

from verifik_async import VerifikClient

from . import _machine, _resident
from ._child import in_child
from ._job import OPTIONS, PATH, PERSON, TOKEN, Job, UnansweredError, check_reply
from ._rivals import pull
from ._show import Board, flags, parser, positive, run
from ._sink import Sink

_CONCURRENCY = 32
_FILES, _QUICK_FILES = 32, 8
_SIZE, _SMALL = 10_000_000, 20_000
_WARM = 4 * _CONCURRENCY
_COUNT, _QUICK_COUNT = 1000, 32
# The usual way takes many times as long.
_NAIVE_COUNT, _QUICK_NAIVE_COUNT = 96, 4
_MOST_GROWTH_MB = 64.0
_LIMIT = 240.0
_CHILD_LIMIT = 110.0
_MB = 1e6
_SEED = 20_240_116

# Searches for the pictures of all of these files.
Batch: TypeAlias = Callable[[list[pathlib.Path]], Awaitable[None]]


@attrs.frozen(kw_only=True)
class _Task:
    """What a process has to do.

    Attributes:
        url: Base URL of the server.
        small: Files to warm up with.
        large: Files to measure with.
        count: Searches of these.
    """

    url: str
    small: tuple[pathlib.Path, ...]
    large: tuple[pathlib.Path, ...]
    count: int


@attrs.frozen(kw_only=True)
class _Taken:
    """What that took.

    Attributes:
        rate: MB of pictures a second.
        busy: CPU time of the process over the time that it took.
        before_mb: Resident when small pictures had been searched for.
        peak_mb: The most that was resident later. Both are None where the system does
            not tell.
    """

    rate: float
    busy: float
    before_mb: float | None
    peak_mb: float | None


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures; fail if one was missed."""
    options = flags(parser("files", __doc__))
    options.add_argument("--count", type=positive, help="of searches by search_many")
    given = options.parse_args(arguments)
    run(lambda board: _measure(board, given), _LIMIT, given.json)


async def _measure(board: Board, given: argparse.Namespace) -> None:
    count = given.count or (_QUICK_COUNT if given.quick else _COUNT)
    naive_count = _QUICK_NAIVE_COUNT if given.quick else _NAIVE_COUNT
    files = _QUICK_FILES if given.quick else _FILES
    with tempfile.TemporaryDirectory() as folder:
        task = _Task(
            url="",
            small=_make_files(pathlib.Path(folder, "small"), files, _SMALL),
            large=_make_files(pathlib.Path(folder, "large"), files, _SIZE),
            count=count,
        )
        async with Sink() as sink:
            with _machine.pinned(sink.pid) as pinning:
                task = attrs.evolve(task, url=sink.url)
                board.head(
                    f"{files} files of {_SIZE / _MB:g} MB again and again, "
                    f"{_CONCURRENCY} at once; {pinning}"
                )
                ours = await _run(sink, _ours, task)
                _show(board, "search_many", count, ours, _MOST_GROWTH_MB)
                task = attrs.evolve(task, count=naive_count)
                naive = await _run(sink, _naive, task)
                _show(board, "aiohttp json=", naive_count, naive, None)


def _make_files(
    folder: pathlib.Path, count: int, size: int
) -> tuple[pathlib.Path, ...]:
    folder.mkdir()
    paths = tuple(folder / f"{number}.jpg" for number in range(count))
    content = random.Random(_SEED)
    for path in paths:
        path.write_bytes(content.randbytes(size))
    return paths


async def _run(sink: Sink, way: Callable[[_Task], _Taken], task: _Task) -> _Taken:
    """Let a process do its task, and check that the server got all of it."""
    before = await sink.counts()
    taken = await in_child(way, task, _CHILD_LIMIT)
    after = await sink.counts()
    requests = after.requests - before.requests
    if requests != _WARM + task.count:
        raise UnansweredError(f"{requests} requests for {_WARM + task.count} searches")
    pictures = _WARM * _SMALL + task.count * _SIZE
    if (received := after.body_bytes - before.body_bytes) < pictures / 3 * 4:
        raise UnansweredError(f"{received} bytes for {pictures} bytes of pictures")
    return taken


def _show(
    board: Board, way: str, count: int, taken: _Taken, bound: float | None
) -> None:
    board.fact(f"{way}: searches", count)
    board.fact(f"{way}: pictures", taken.rate, "MB/s")
    board.fact(f"{way}: share of a core", taken.busy)
    if taken.before_mb is None or taken.peak_mb is None:
        print("  resident memory: this system does not tell")
        return
    board.fact(f"{way}: resident after small pictures", taken.before_mb, "MB")
    growth = taken.peak_mb - taken.before_mb
    if bound is None:
        board.fact(f"{way}: peak above that", growth, "MB")
    else:
        board.at_most(f"{way}: peak above that", growth, bound, "MB")


# -- in a process of its own -----------------------------------------------------------


def _ours(task: _Task) -> _Taken:
    return asyncio.run(_search_ours(task))


def _naive(task: _Task) -> _Taken:
    return asyncio.run(_search_naively(task))


async def _search_ours(task: _Task) -> _Taken:
    async with VerifikClient(
        TOKEN, base_url=task.url, defaults=OPTIONS, max_concurrency=_CONCURRENCY
    ) as client:

        async def batch(paths: list[pathlib.Path]) -> None:
            async with client.search_many(paths) as outcomes:
                async for outcome in outcomes:
                    best = outcome.unwrap().best
                    if best is None or best.id != PERSON:
                        raise UnansweredError("a result without the person")

        return await _take(task, batch)


async def _search_naively(task: _Task) -> _Taken:
    job = Job(url=task.url, picture=b"", concurrency=_CONCURRENCY)
    async with aiohttp.ClientSession(
        headers=job.headers, connector=aiohttp.TCPConnector(limit=job.concurrency)
    ) as session:

        async def batch(paths: list[pathlib.Path]) -> None:
            turns = iter(paths)

            async def search() -> None:
                picture = await asyncio.to_thread(next(turns).read_bytes)
                fields = attrs.evolve(job, picture=picture).fields()
                async with session.post(job.url + PATH, json=fields) as response:
                    check_reply(response.status, await response.read())

            await pull(search, len(paths), _CONCURRENCY)

        return await _take(task, batch)


async def _take(task: _Task, batch: Batch) -> _Taken:
    await batch(_again(task.small, _WARM))
    gc.collect()
    before = _resident.now()
    async with _resident.peak() as peak:
        wall, cpu = time.perf_counter(), time.process_time()
        await batch(_again(task.large, task.count))
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return _Taken(
        rate=task.count * _SIZE / _MB / wall,
        busy=cpu / wall,
        before_mb=before,
        peak_mb=peak.mb,
    )


def _again(paths: Sequence[pathlib.Path], count: int) -> list[pathlib.Path]:
    return [*itertools.islice(itertools.cycle(paths), count)]


if __name__ == "__main__":
    main()
