"""Servers to measure against, each in a process of its own."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import attrs

from verifik_async.testing import MockProcess

from ._job import PERSON
from ._nginx import Nginx

STAND_IN, NGINX = "stand-in", "nginx"


@attrs.frozen(kw_only=True)
class Server:
    """One that runs.

    Attributes:
        url: Base URL.
        pid: Of the process that answers.
        enroll: Makes searches for a picture find the person.
        hits: Returns how many searches have come in, or None if it does not count.
    """

    url: str
    pid: int
    enroll: Callable[[bytes], Awaitable[None]]
    hits: Callable[[], Awaitable[int | None]]


@contextlib.asynccontextmanager
async def serving(kind: str, latency_ms: float) -> AsyncIterator[Server]:
    """Run the server of that kind.

    Raises:
        NotInstalledError: there is no nginx.
    """
    if kind == NGINX:
        async with Nginx() as nginx:
            yield Server(url=nginx.url, pid=nginx.pid, enroll=_nothing, hits=_unknown)
        return
    async with MockProcess(latency=latency_ms / 1000) as mock:

        async def enroll(picture: bytes) -> None:
            await mock.enroll(PERSON, picture)

        async def hits() -> int | None:
            return (await mock.counts())["hits"]

        yield Server(url=mock.url, pid=mock.pid, enroll=enroll, hits=hits)


async def _nothing(_: bytes) -> None:
    """Do nothing: it finds the person in whatever comes."""


async def _unknown() -> int | None:
    return None
