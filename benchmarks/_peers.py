"""Other ways to search many faces at once, with the retries that they bring.

Each is used as its documents tell, with its defaults: what they do when the service
throttles is what is looked at.
"""

import contextlib
import importlib.util
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

import aiohttp
import attrs
import backoff

from ._job import PATH, TOKEN, Job

# One search; raises whatever it likes when it fails.
Search: TypeAlias = Callable[[], Awaitable[object]]

_MAX_TRIES = 5


@attrs.frozen(kw_only=True)
class Peer:
    """One other client.

    Attributes:
        name: In the table.
        needs: Packages without which it is left out.
        open: Opens it for a job.
    """

    name: str
    needs: tuple[str, ...] = ()
    open: Callable[[Job], AbstractAsyncContextManager[Search]]

    @property
    def missing(self) -> list[str]:
        """Packages that it needs and that are not installed."""
        return [name for name in self.needs if importlib.util.find_spec(name) is None]


@contextlib.asynccontextmanager
async def _open_openai(job: Job) -> AsyncIterator[Search]:
    import openai  # noqa: PLC0415 - it may be missing

    fields = job.fields()
    async with openai.AsyncOpenAI(api_key=TOKEN, base_url=job.url) as client:

        async def search() -> None:
            await client.post(PATH, body=fields, cast_to=object)

        yield search


@contextlib.asynccontextmanager
async def _open_httpx(job: Job) -> AsyncIterator[Search]:
    import httpx  # noqa: PLC0415 - it may be missing
    from httpx_retries import Retry, RetryTransport  # noqa: PLC0415

    fields = job.fields()
    # Of itself it does not retry a POST.
    transport = RetryTransport(retry=Retry(allowed_methods=["POST"]))
    async with httpx.AsyncClient(
        base_url=job.url, headers=job.headers, transport=transport
    ) as client:

        async def search() -> None:
            (await client.post(PATH, json=fields)).raise_for_status()

        yield search


@contextlib.asynccontextmanager
async def _open_aiohttp(job: Job) -> AsyncIterator[Search]:
    fields, url = job.fields(), job.url + PATH
    async with aiohttp.ClientSession(
        headers=job.headers, raise_for_status=True
    ) as session:

        @backoff.on_exception(backoff.expo, aiohttp.ClientError, max_tries=_MAX_TRIES)
        async def search() -> None:
            async with session.post(url, json=fields) as response:
                await response.read()

        yield search


PEERS = (
    Peer(name="openai", needs=("openai",), open=_open_openai),
    Peer(name="httpx-retries", needs=("httpx", "httpx_retries"), open=_open_httpx),
    Peer(name="aiohttp and backoff", open=_open_aiohttp),
)
