"""Those who are measured.

A rival is opened once per size of picture, so that its connections are warm, and then
asked for one turn per round.
"""

import asyncio
import contextlib
import importlib.util
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

import aiohttp
import attrs

from verifik_async import VerifikClient

from ._job import OPTIONS, PATH, PERSON, TOKEN, Job, UnansweredError, check_reply

# Carries out that many searches and returns how long each took, in seconds.
Turn: TypeAlias = Callable[[int], Awaitable[list[float]]]

# A search on loopback that takes this long will not end.
_HOPELESS = 60.0


@attrs.frozen(kw_only=True)
class Rival:
    """One way to search.

    Attributes:
        name: In the table.
        about: What it is, for the legend.
        one_in: It does one in so many of the searches of the others, for it is slow.
        open: Opens it for a job.
    """

    name: str
    about: str
    one_in: int = 1
    open: Callable[[Job], AbstractAsyncContextManager[Turn]]


async def pull(
    search: Callable[[], Awaitable[None]], count: int, workers: int
) -> list[float]:
    """Search `count` times, by workers that pull from one iterator."""
    turns = iter(range(count))
    took: list[float] = []

    async def worker() -> None:
        for _ in turns:
            began = time.perf_counter()
            await search()
            took.append(time.perf_counter() - began)

    async with asyncio.TaskGroup() as tasks:
        for number in range(workers):
            tasks.create_task(worker(), name=f"benchmark-{number}")
    return took


@contextlib.asynccontextmanager
async def _open_ours(job: Job) -> AsyncIterator[Turn]:
    picture = job.picture
    async with VerifikClient(
        TOKEN, base_url=job.url, defaults=OPTIONS, max_concurrency=job.concurrency
    ) as client:

        async def search() -> None:
            best = (await client.search_active_user(picture)).best
            if best is None or best.id != PERSON:
                raise UnansweredError("a result without the person")

        yield lambda count: pull(search, count, job.concurrency)


@contextlib.asynccontextmanager
async def _open_bare(job: Job) -> AsyncIterator[Turn]:
    url = job.url + PATH
    body = json.dumps(job.fields(), separators=(",", ":")).encode()
    async with aiohttp.ClientSession(
        headers=job.headers, connector=aiohttp.TCPConnector(limit=job.concurrency)
    ) as session:

        async def search() -> None:
            async with session.post(url, data=body) as response:
                check_reply(response.status, await response.read())

        yield lambda count: pull(search, count, job.concurrency)


@contextlib.asynccontextmanager
async def _open_requests(job: Job) -> AsyncIterator[Turn]:
    import requests  # noqa: PLC0415 - it may be missing

    def search(_: int) -> float:
        began = time.perf_counter()
        reply = requests.post(
            job.url + PATH, json=job.fields(), headers=job.headers, timeout=_HOPELESS
        )
        check_reply(reply.status_code, reply.content)
        return time.perf_counter() - began

    with ThreadPoolExecutor(job.concurrency) as threads:
        yield lambda count: asyncio.to_thread(
            lambda: list(threads.map(search, range(count)))
        )


FLOOR = Rival(
    name="bare aiohttp",
    about="aiohttp, request body encoded beforehand, answer read but not decoded",
    open=_open_bare,
)
OURS = Rival(
    name="verifik_async",
    about="search_active_user with the client's default settings",
    open=_open_ours,
)
SAMPLE = Rival(
    name="requests",
    about="the plain sample, requests.post(url, json=...) per search in a pool of "
    "threads, without a session; it gets fewer searches",
    one_in=6,
    open=_open_requests,
)


def available() -> Iterator[Rival]:
    """Yield the rivals that are installed."""
    yield OURS
    yield FLOOR
    if importlib.util.find_spec("requests") is not None:
        yield SAMPLE
