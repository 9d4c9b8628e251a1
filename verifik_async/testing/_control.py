"""The stand-in with control routes, for when it is a process of its own."""

import weakref
from typing import TYPE_CHECKING, Any

from aiohttp import web

from . import _delivery
from ._answers import Reply, dump_json
from ._base64 import decode
from ._body import parse_fields, read_body
from ._server import MockVerifik

if TYPE_CHECKING:
    import asyncio

# No routes of the service: nothing of it is under this prefix.
CONTROL_PREFIX = "/_mock/"
ENROLL_PATH = CONTROL_PREFIX + "enroll"
COUNTS_PATH = CONTROL_PREFIX + "counts"


class ControlledMock(MockVerifik):
    """A stand-in that is also told over HTTP whom to enroll and asked what it saw.

    Requests to the control routes, and connections that begin with one, do not count.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._control: weakref.WeakSet[asyncio.Transport] = weakref.WeakSet()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if not request.path.startswith(CONTROL_PREFIX):
            return await super()._handle(request)
        transport = request.transport
        if transport is not None and transport not in self._control:
            self._control.add(transport)
            if transport not in self._transports:
                self._connections -= 1
        return _delivery.whole(await self._obey(request))

    async def _obey(self, request: web.BaseRequest) -> Reply:
        match request.method, request.path:
            case "GET", str(path) if path == COUNTS_PATH:
                return Reply(body=dump_json(self._counts()))
            case "POST", str(path) if path == ENROLL_PATH:
                return await self._enroll(request)
            case _:
                return Reply(status=404, body=b"{}")

    async def _enroll(self, request: web.BaseRequest) -> Reply:
        body = await read_body(request)
        fields = dict(parse_fields("application/json", body or b"") or {})
        image = decode(str(fields.pop("image", "")))
        try:
            self.enroll(image=image or b"", **fields)
        except (TypeError, ValueError):
            return Reply(status=400, body=b"{}")
        return Reply(body=b"{}")

    def _counts(self) -> dict[str, int]:
        return {
            "hits": self.hits,
            "max_in_flight": self.max_in_flight,
            "connections": self.connections,
        }
