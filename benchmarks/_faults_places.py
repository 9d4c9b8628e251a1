"""Servers that do what a row of the fault matrix says."""

import asyncio
import contextlib
import datetime as dt
import functools
import socket
import ssl as ssl_module
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias

import attrs
import trustme

from verifik_async.testing import Fault, MockVerifik
from verifik_async.testing._delivery import play
from verifik_async.testing._faults import Step

_HOST = "127.0.0.1"


@attrs.frozen(kw_only=True)
class Place:
    """A server that is up.

    Attributes:
        url: For `base_url`.
        ssl: For the client, or None.
        arm: Called after a first, sound search, or None: there is none.
        seen: How many requests it has seen, but for the first search's.
        elsewhere: How many requests came where none may come.
    """

    url: str
    ssl: ssl_module.SSLContext | None = None
    arm: Callable[[], None] | None = None
    seen: Callable[[], int]
    elsewhere: Callable[[], int] = lambda: 0


Make: TypeAlias = Callable[[], AbstractAsyncContextManager[Place]]


def _maker(
    place: Callable[..., AbstractAsyncContextManager[Place]],
) -> Callable[..., Make]:
    """Let a place be described where nothing runs yet."""
    return lambda *args, **kwargs: functools.partial(place, *args, **kwargs)


@contextlib.asynccontextmanager
async def refusing() -> AsyncIterator[Place]:
    """Nobody listens there."""
    with socket.create_server((_HOST, 0)) as unused:
        url = f"http://{_HOST}:{unused.getsockname()[1]}"
    yield Place(url=url, seen=lambda: 0)


@_maker
@contextlib.asynccontextmanager
async def accepting(*steps: Step, scheme: str = "http") -> AsyncIterator[Place]:
    """Somebody accepts connections, reads nothing and does this."""
    async with _listener(steps) as port:
        yield Place(url=f"{scheme}://{_HOST}:{port}", seen=lambda: 0)


def over_tls(*steps: Step) -> Make:
    """Return one that does this instead of TLS."""
    return accepting(*steps, scheme="https")


@contextlib.asynccontextmanager
async def _listener(steps: tuple[Step, ...]) -> AsyncIterator[int]:
    transports: list[asyncio.Transport] = []

    class Player(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)  # noqa: S101
            transport.pause_reading()
            transports.append(transport)
            played.create_task(play(transport, steps))

    async with asyncio.TaskGroup() as played:
        server = await asyncio.get_running_loop().create_server(Player, _HOST, 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for transport in transports:
                transport.abort()


@_maker
@contextlib.asynccontextmanager
async def answering(fault: Fault, *, always: bool = True) -> AsyncIterator[Place]:
    """The stand-in, with this fault for every request, or for the first."""
    async with MockVerifik() as mock:
        if always:
            mock.faults = {fault: 1.0}
        else:
            mock.script(fault)
        yield Place(url=mock.url, seen=lambda: mock.hits)


@_maker
@contextlib.asynccontextmanager
async def kept(
    fault: Fault | None = None, *, before: Fault | None = None, always: bool = False
) -> AsyncIterator[Place]:
    """The stand-in, after a first search over the same connection.

    Args:
        fault: For the request that follows.
        before: For the first one itself, which it answers all the same.
        always: For all that follow.
    """
    async with MockVerifik() as mock:
        mock.script(before)

        def arm() -> None:
            mock.script(fault)
            if always and fault is not None:
                mock.faults = {fault: 1.0}

        yield Place(url=mock.url, arm=arm, seen=lambda: mock.hits - 1)


@_maker
@contextlib.asynccontextmanager
async def redirecting(status: int, *, from_tls: bool = False) -> AsyncIterator[Place]:
    """The stand-in, which sends everybody to another one."""
    server, client = _contexts() if from_tls else (None, None)
    async with MockVerifik() as other, MockVerifik(ssl=server) as mock:
        mock.faults = {Fault.redirect(status, f"{other.url}/elsewhere"): 1.0}
        yield Place(
            url=mock.url,
            ssl=client,
            seen=lambda: mock.hits,
            elsewhere=lambda: other.hits + other.connections,
        )


@_maker
@contextlib.asynccontextmanager
async def talking_tls(
    fault: Fault | None = None, **certificate: Any
) -> AsyncIterator[Place]:
    """The stand-in with TLS and a certificate; see `_contexts`."""
    server, client = _contexts(**certificate)
    async with MockVerifik(ssl=server) as mock:
        mock.faults = {} if fault is None else {fault: 1.0}
        yield Place(url=mock.url, ssl=client, seen=lambda: mock.hits)


def _contexts(
    *,
    name: str = _HOST,
    expired: bool = False,
    trusted: bool = True,
    old: bool = False,
) -> tuple[ssl_module.SSLContext, ssl_module.SSLContext]:
    """Return the contexts of a server and of a client.

    Args:
        name: That the certificate is for.
        expired: Whether its time has passed.
        trusted: Whether the client knows who issued it.
        old: Whether the server speaks TLS 1.1 at most.
    """
    authority = trustme.CA()
    until = dt.datetime(2020, 1, 2, tzinfo=dt.UTC) if expired else None
    since = dt.datetime(2020, 1, 1, tzinfo=dt.UTC) if expired else None
    certificate = authority.issue_cert(name, not_before=since, not_after=until)
    server = ssl_module.create_default_context(ssl_module.Purpose.CLIENT_AUTH)
    certificate.configure_cert(server)
    if old:
        with warnings.catch_warnings(category=DeprecationWarning, action="ignore"):
            server.minimum_version = ssl_module.TLSVersion.TLSv1
            server.maximum_version = ssl_module.TLSVersion.TLSv1_1
        server.set_ciphers("DEFAULT:@SECLEVEL=0")
    client = ssl_module.create_default_context()
    if trusted:
        authority.configure_trust(client)
    return server, client
