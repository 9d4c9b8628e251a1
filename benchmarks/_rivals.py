"""Those who are measured: the client and aiohttp by itself.

A rival is opened once per cell of the measurement, warmed up before each turn, so that
its connections are open, and then asked for one turn per round.
"""

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

import aiohttp
import attrs

from verifik_async import VerifikClient
from verifik_async.models import SearchResult

from ._job import OPTIONS, PATH, PERSON, TOKEN, Job, UnansweredError, check_reply

# Carries out that many searches and returns how long each took, in seconds.
Turn: TypeAlias = Callable[[int], Awaitable[list[float]]]


@attrs.frozen(kw_only=True)
class Rival:
    """One way to search.

    Attributes:
        name: In the table.
        about: What it is, for the legend.
        one_in: It does one in so many of the searches of the others, for it is slow.
        needs: Packages without which it is left out.
        open: Opens it for a job.
    """

    name: str
    about: str
    one_in: int = 1
    needs: tuple[str, ...] = ()
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


def open_client(job: Job) -> VerifikClient:
    """Return a client with the default settings, for `async with`."""
    return VerifikClient(
        TOKEN, base_url=job.url, defaults=OPTIONS, max_concurrency=job.concurrency
    )


def _session(job: Job) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        headers=job.headers, connector=aiohttp.TCPConnector(limit=job.concurrency)
    )


def check_result(result: object) -> None:
    """Check that a result names the person who was searched for.

    Raises:
        UnansweredError: it does not, or is none.
    """
    best = result.best if isinstance(result, SearchResult) else None
    if best is None or best.id != PERSON:
        raise UnansweredError("a result without the person")


@contextlib.asynccontextmanager
async def _open_ours(job: Job) -> AsyncIterator[Turn]:
    picture = job.picture
    async with open_client(job) as client:

        async def search() -> None:
            check_result(await client.search_active_user(picture))

        yield lambda count: pull(search, count, job.concurrency)


@contextlib.asynccontextmanager
async def _open_many(job: Job) -> AsyncIterator[Turn]:
    async with open_client(job) as client:

        async def turn(count: int) -> list[float]:
            took = []
            pictures = itertools.repeat(job.picture, count)
            async with client.search_many(pictures) as outcomes:
                async for outcome in outcomes:
                    check_result(outcome.unwrap())
                    took.append(outcome.call.elapsed_s)
            return took

        yield turn


@contextlib.asynccontextmanager
async def _open_bare(job: Job) -> AsyncIterator[Turn]:
    url = job.url + PATH
    body = json.dumps(job.fields(), separators=(",", ":")).encode()
    async with _session(job) as session:

        async def search() -> None:
            async with session.post(url, data=body) as response:
                check_reply(response.status, await response.read())

        yield lambda count: pull(search, count, job.concurrency)


@contextlib.asynccontextmanager
async def _open_json(job: Job) -> AsyncIterator[Turn]:
    url = job.url + PATH
    async with _session(job) as session:

        async def search() -> None:
            async with session.post(url, json=job.fields()) as response:
                check_reply(response.status, await response.read())

        yield lambda count: pull(search, count, job.concurrency)


OURS = Rival(
    name="verifik_async",
    about="search_active_user with the client's default settings, by workers that pull",
    open=_open_ours,
)
MANY = Rival(
    name="search_many",
    about="the same client's search_many over as many pictures",
    open=_open_many,
)
FLOOR = Rival(
    name="bare aiohttp",
    about="aiohttp, request body encoded beforehand, answer read but not decoded",
    open=_open_bare,
)
JSON = Rival(
    name="aiohttp json=",
    about="aiohttp, base64 by the standard library and json= for each search",
    open=_open_json,
)
