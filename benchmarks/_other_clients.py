"""Rivals from other packages, each of which may be missing.

All of them encode the picture for each search, as their users have to.
"""

import asyncio
import contextlib
import functools
import importlib
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor

from ._job import PATH, TOKEN, Job, check_answer, check_reply
from ._rivals import Rival, Turn, pull

# A search on loopback that takes this long will not end.
_HOPELESS = 60.0
# In which a turn of theirs takes about as long as one of the client.
_SLOW, _VERY_SLOW = 3, 6


@contextlib.asynccontextmanager
async def _open_httpx(package: str, job: Job) -> AsyncIterator[Turn]:
    client = importlib.import_module(package).AsyncClient(
        base_url=job.url, headers=job.headers, timeout=_HOPELESS
    )
    async with client:

        async def search() -> None:
            reply = await client.post(PATH, json=job.fields())
            check_reply(reply.status_code, reply.content)

        yield lambda count: pull(search, count, job.concurrency)


@contextlib.asynccontextmanager
async def _open_niquests(job: Job) -> AsyncIterator[Turn]:
    # With its usual ten it would open a connection for most of the searches.
    session = importlib.import_module("niquests").AsyncSession(
        pool_maxsize=job.concurrency, headers=job.headers, timeout=_HOPELESS
    )
    async with session:

        async def search() -> None:
            reply = await session.post(job.url + PATH, json=job.fields())
            check_reply(reply.status_code, reply.content)

        yield lambda count: pull(search, count, job.concurrency)


def _in_threads(threads: ThreadPoolExecutor, search: Callable[[], None]) -> Turn:
    def timed(_: int) -> float:
        began = time.perf_counter()
        search()
        return time.perf_counter() - began

    return lambda count: asyncio.to_thread(
        lambda: list(threads.map(timed, range(count)))
    )


@contextlib.asynccontextmanager
async def _open_requests(job: Job) -> AsyncIterator[Turn]:
    post = importlib.import_module("requests").post

    def search() -> None:
        reply = post(
            job.url + PATH, json=job.fields(), headers=job.headers, timeout=_HOPELESS
        )
        check_reply(reply.status_code, reply.content)

    with ThreadPoolExecutor(job.concurrency) as threads:
        yield _in_threads(threads, search)


@contextlib.asynccontextmanager
async def _open_session(job: Job) -> AsyncIterator[Turn]:
    requests = importlib.import_module("requests")
    own = threading.local()

    def search() -> None:
        reply = own.session.post(
            job.url + PATH, json=job.fields(), headers=job.headers, timeout=_HOPELESS
        )
        check_reply(reply.status_code, reply.content)

    with contextlib.ExitStack() as stack:

        def begin() -> None:
            own.session = stack.enter_context(requests.Session())

        # Entered last, so that its threads end before their sessions are closed.
        threads = ThreadPoolExecutor(job.concurrency, initializer=begin)
        with threads:
            yield _in_threads(threads, search)


@contextlib.asynccontextmanager
async def _open_vendors(job: Job) -> AsyncIterator[Turn]:
    # Its public methods are those of other endpoints; all of them go through this.
    transport = importlib.import_module("humanauthn._http").HttpClient(
        api_key=TOKEN, base_url=job.url, timeout=_HOPELESS, max_retries=0
    )

    def search() -> None:
        check_answer(transport.post(PATH, job.fields()))

    with contextlib.closing(transport), ThreadPoolExecutor(job.concurrency) as threads:
        yield _in_threads(threads, search)


OTHERS = (
    Rival(
        name="httpx",
        about="httpx.AsyncClient with its usual pool, json= for each search",
        one_in=_VERY_SLOW,
        needs=("httpx",),
        open=functools.partial(_open_httpx, "httpx"),
    ),
    Rival(
        name="httpx2",
        about="the same of httpx2",
        one_in=_SLOW,
        needs=("httpx2",),
        open=functools.partial(_open_httpx, "httpx2"),
    ),
    Rival(
        name="niquests",
        about="niquests.AsyncSession with a pool as large as the concurrency, json=",
        one_in=_SLOW,
        needs=("niquests",),
        open=_open_niquests,
    ),
    Rival(
        name="requests.Session",
        about="one session per thread in a pool of threads, json=",
        one_in=_VERY_SLOW,
        needs=("requests",),
        open=_open_session,
    ),
    Rival(
        name="requests",
        about="the plain sample: requests.post(url, json=...) per search in a pool of "
        "threads, without a session",
        one_in=_VERY_SLOW,
        needs=("requests",),
        open=_open_requests,
    ),
    Rival(
        name="humanauthn",
        about="the transport of the vendor's own client, which has no face search, "
        "shared by a pool of threads",
        one_in=_VERY_SLOW,
        needs=("humanauthn",),
        open=_open_vendors,
    ),
)
