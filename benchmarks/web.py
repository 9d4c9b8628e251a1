"""Web backends while visitors upload, and while they are stopped.

    python -m benchmarks.web

First: 50 visitors upload pictures of 4 MB, each the next one as soon as the last is
answered, to the FastAPI example and to the same app written with bare aiohttp and
`json=`, by turns. Meanwhile another visitor asks for the health route all the time:
what that takes is what everybody has to wait for the event loop. The visitors are a
process of their own.

Then: 200 uploads within a second to each example, which gets SIGTERM when all of them
have come and most are not answered; and once more while they come. What comes in the
very moment in which a server closes its door may find the connection closed, with
nothing searched.
"""

import argparse
import asyncio
import collections
import contextlib
import time
from collections.abc import AsyncIterator, Sequence

import aiohttp
import attrs

from verifik_async.testing import MockProcess

from ._backends import EXAMPLES, PLAIN, Backend, form, serving
from ._child import in_child
from ._job import PERSON, make_picture
from ._show import Board, flags, parser, percentile, positive, run

_VISITORS = 50
_SIZE = 4_000_000
_UPLOADS, _QUICK_UPLOADS = 4, 1  # of each visitor, in a round
_ROUNDS, _QUICK_ROUNDS = 4, 1
_LATENCY = 0.1
_PERIOD = 0.01
_OK, _BUSY = 200, 503
_LIMIT = 600.0
_APPS = ("fastapi", PLAIN)

_COMING, _HALF = 200, 100
_APART = 0.005
_STOPPED_LATENCY = 0.4
_SMALL = 100_000
_STOPPED = "stopped"
_ANSWERED, _AFTERWARDS = "answered before the signal", "answered after it"
_REFUSED = "answered with 503"
_NO_CONNECTION = "no connection, nothing sent"
_CLOSED, _LOST = "connection closed, nothing searched", "another answer"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures; fail if an upload was lost."""
    options = flags(parser("web", __doc__))
    options.add_argument("--rounds", type=positive, help="of a turn each")
    given = options.parse_args(arguments)
    run(lambda board: _measure(board, given), _LIMIT, given.json)


async def _measure(board: Board, given: argparse.Namespace) -> None:
    rounds = given.rounds or (_QUICK_ROUNDS if given.quick else _ROUNDS)
    uploads = _QUICK_UPLOADS if given.quick else _UPLOADS
    board.head(
        f"{_VISITORS} visitors upload {uploads} pictures of {_SIZE / 1e6:g} MB each, "
        f"{rounds} rounds; the service takes {_LATENCY * 1000:g} ms"
    )
    await _uploading(board, rounds, uploads)
    for name in EXAMPLES[:1] if given.quick else EXAMPLES:
        board.head(f"{name}: {_COMING} uploads, SIGTERM when they have come")
        await _stopping(board, name, _COMING)
        board.head(f"{name}: {_COMING} uploads, SIGTERM when {_HALF} have come")
        await _stopping(board, name, _HALF)


# -- while visitors upload -------------------------------------------------------------


@attrs.frozen
class Crowd:
    """What the visitors' process is to do."""

    url: str
    uploads: int


async def _uploading(board: Board, rounds: int, uploads: int) -> None:
    waits: dict[str, list[float]] = {name: [] for name in _APPS}
    took: dict[str, list[float]] = {name: [] for name in _APPS}
    async with MockProcess(latency=_LATENCY) as mock, contextlib.AsyncExitStack() as on:
        await mock.enroll(PERSON, make_picture(_SIZE))
        apps = {
            name: await on.enter_async_context(serving(name, mock.url))
            for name in _APPS
        }
        for number in range(rounds):
            for name in _APPS[:: -1 if number % 2 else 1]:
                crowd = Crowd(apps[name].url, uploads)
                async with _asking(apps[name].url) as asked:
                    began = time.perf_counter()
                    answered = await in_child(_visit, crowd, _LIMIT)
                    took[name].append(time.perf_counter() - began)
                waits[name] += asked
                board.exactly(
                    f"{name}: uploads answered", answered, _VISITORS * uploads
                )
    for name, asked in waits.items():
        board.fact(f"{name}: health route, p50", percentile(asked, 0.5) * 1000, "ms")
        board.fact(f"{name}: health route, p99", percentile(asked, 0.99) * 1000, "ms")
        board.fact(f"{name}: health route, most", max(asked) * 1000, "ms")
        board.fact(f"{name}: asked", len(asked))
        board.fact(f"{name}: a round, median", percentile(took[name], 0.5), "s")
    ours, plain = (percentile(waits[name], 0.99) for name in _APPS)
    board.fact(f"fastapi / {PLAIN}, health route, p99", ours / plain)


@contextlib.asynccontextmanager
async def _asking(url: str) -> AsyncIterator[list[float]]:
    """Collect how long the health route takes, again and again, while this runs."""
    took: list[float] = []
    async with aiohttp.ClientSession(url) as browser, asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(_ask(browser, took))
        yield took
        asking.cancel()


async def _ask(browser: aiohttp.ClientSession, took: list[float]) -> None:
    """Ask at fixed times; who could not be asked in time has waited as well."""
    loop = asyncio.get_running_loop()
    due = loop.time()
    while True:
        await asyncio.sleep(due - loop.time())
        async with browser.get("/health") as answer:
            await answer.read()
        took.append(loop.time() - due)
        due += _PERIOD


def _visit(crowd: Crowd) -> int:
    """Upload as all visitors do; return how many were answered with the person."""
    return asyncio.run(_upload_all(crowd))


async def _upload_all(crowd: Crowd) -> int:
    upload = form(make_picture(_SIZE))
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(crowd.url, connector=connector) as browser:

        async def visitor() -> int:
            found = 0
            for _ in range(crowd.uploads):
                async with browser.post("/search", **upload) as answer:
                    found += PERSON in await answer.text()
            return found

        async with asyncio.TaskGroup() as tasks:
            visitors = [tasks.create_task(visitor()) for _ in range(_VISITORS)]
    return sum(task.result() for task in visitors)


# -- while it is stopped ---------------------------------------------------------------


async def _stopping(board: Board, name: str, stop_after: int) -> None:
    ends: collections.Counter[str] = collections.Counter()
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        MockProcess(latency=_STOPPED_LATENCY) as mock,
        serving(name, mock.url) as backend,
        aiohttp.ClientSession(backend.url, connector=connector) as browser,
    ):
        async with asyncio.TaskGroup() as tasks:
            for number in range(1, _COMING + 1):
                tasks.create_task(_upload_once(browser, ends))
                await asyncio.sleep(_APART)
                if number == stop_after:
                    await _stop(backend, browser, number, ends)
        code = await backend.process.wait()
        hits = (await mock.counts())["hits"]
    name = f"{name}, {'all have come' if stop_after == _COMING else 'they still come'}"
    for end in (_ANSWERED, _AFTERWARDS, _REFUSED, _NO_CONNECTION):
        board.fact(f"{name}: {end}", ends[end])
    if stop_after == _COMING:
        board.exactly(f"{name}: {_CLOSED}", ends[_CLOSED], 0)
    else:
        board.fact(f"{name}: {_CLOSED}", ends[_CLOSED])
    board.exactly(f"{name}: {_LOST}", ends[_LOST], 0)
    answered = ends[_ANSWERED] + ends[_AFTERWARDS]
    board.exactly(f"{name}: searches at the service", hits, answered)
    board.fact(f"{name}: exit code", str(code))


async def _stop(
    backend: Backend,
    browser: aiohttp.ClientSession,
    sent: int,
    ends: collections.Counter[str],
) -> None:
    """Stop it once all that was sent has come in, if nothing more will come."""
    while sent == _COMING:
        async with browser.get("/health") as answer:
            health = await answer.json()
        if health["answered"] + health["in_flight"] + health["waiting"] == sent:
            break
    backend.stop()
    ends[_STOPPED] = 1


async def _upload_once(
    browser: aiohttp.ClientSession, ends: collections.Counter[str]
) -> None:
    try:
        upload = form(make_picture(_SMALL))
        async with browser.post("/search", **upload) as answer:
            await answer.read()
        stopped = ends[_STOPPED]
        answered = _AFTERWARDS if stopped else _ANSWERED
        ends[{_OK: answered, _BUSY: _REFUSED}.get(answer.status, _LOST)] += 1
    except aiohttp.ClientConnectorError:
        ends[_NO_CONNECTION] += 1
    except aiohttp.ClientConnectionError:
        ends[_CLOSED] += 1


if __name__ == "__main__":
    main()
