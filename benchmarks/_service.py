"""A service that can go away and come back, on the same port.

The stand-in in `verifik_async.testing` ends by cutting its connections off, as a crash
does. This one ends as a server does that is told to: it answers what is in flight and
closes what is idle.
"""

import asyncio
import weakref
from types import TracebackType
from typing import Self

from aiohttp import web

_HOST = "127.0.0.1"
_BACKLOG = 1024
_FAILED = 500
_ANSWER = {
    "id": "AbCdE",
    "data": [],
    "signature": {
        "message": "Certified by Verifik.co",
        "dateTime": "January 16, 2024 3:44 PM",
    },
}
_FAILURE = {"message": "internal_error", "code": "ERROR"}


class Service:
    """A search API on loopback that finds nobody.

    Attributes:
        failing: Whether it answers 500 to everything from now on, at once.
        failed: Requests that got 500.
    """

    def __init__(self, latency: float) -> None:
        self.failing = False
        self.failed = 0
        self._latency = latency
        self._port = 0
        self._listener: asyncio.Server | None = None
        self._server: web.Server | None = None
        self._busy: set[asyncio.BaseTransport] = set()
        self._connections: weakref.WeakSet[asyncio.BaseTransport] = weakref.WeakSet()

    async def __aenter__(self) -> Self:
        await self.come_back()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.go_away()
        if self._server is not None:
            await self._server.shutdown(self._latency)

    @property
    def url(self) -> str:
        """Base URL, the same after each return."""
        return f"http://{_HOST}:{self._port}"

    async def come_back(self) -> None:
        """Listen."""
        if self._server is None:
            self._server = web.Server(self._handle, access_log=None)
        self._listener = await asyncio.get_running_loop().create_server(
            self._server, _HOST, self._port, backlog=_BACKLOG
        )
        self._port = self._listener.sockets[0].getsockname()[1]

    def go_away(self) -> None:
        """Refuse connections, close those that are idle, the others once answered."""
        if self._listener is not None:
            self._listener.close()
        for transport in set(self._connections) - self._busy:
            transport.close()
        self._listener = None

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        transport = request.transport
        if transport is None:  # gone before its turn came
            return web.Response()
        self._connections.add(transport)
        self._busy.add(transport)
        try:
            return await self._answer(request)
        finally:
            self._busy.discard(transport)

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        await request.read()
        if self.failing:
            self.failed += 1
            return web.json_response(_FAILURE, status=_FAILED)
        await asyncio.sleep(self._latency)
        response = web.json_response(_ANSWER)
        if self._listener is None:
            response.force_close()  # tells the client that no more can be sent
        return response
