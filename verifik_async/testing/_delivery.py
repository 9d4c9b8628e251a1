"""Putting answers, whole or broken, on the wire."""

import asyncio
import math
import socket
import struct
from collections.abc import Sequence

from aiohttp import web

from ._answers import Reply
from ._faults import Fault, Kind, Step

# On, with no time to linger: closing sends a reset instead of a farewell.
_LINGER_RESET = struct.pack("ii", 1, 0)
_SMALL_BUFFER = 16 * 1024
_LARGE_BUFFER = 4 * 1024 * 1024
_DRIPS_PER_SECOND = 20
_GLANCE = 0.005


def whole(reply: Reply) -> web.Response:
    """Return the answer as it should be."""
    return web.Response(status=reply.status, body=reply.body, headers=reply.headers)


def dropped(request: web.BaseRequest, *, reset: bool = False) -> web.Response:
    """End the request's connection.

    Returns:
        An answer for aiohttp to throw away: the connection is closed already.
    """
    if request.transport is not None:
        _end(request.transport, reset=reset)
    return web.Response()


def _end(transport: asyncio.Transport, *, reset: bool) -> None:
    if reset:
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
        transport.abort()
    else:
        transport.close()


async def played(request: web.BaseRequest, steps: Sequence[Step]) -> web.Response:
    """Do to the request's connection what the steps say.

    Returns:
        An answer for aiohttp to throw away: the connection is closed already.
    """
    if request.transport is not None:
        await play(request.transport, steps)
    return web.Response()


async def play(transport: asyncio.Transport, steps: Sequence[Step]) -> None:
    """Do to a connection what the steps say, and end it; see `Fault.raw`."""
    written = b""
    for step in steps:
        match step:
            case bytes():
                transport.write(written := step)
            case "half_close" if transport.can_write_eof():  # TLS can't
                transport.write_eof()
                await _gone(transport)
            case "repeat":
                await _gone(transport, written)
            case "stall":
                await _gone(transport)
            case float() | int():
                await pause(step)
            case _:  # the ways to close it
                break
    _end(transport, reset=steps[-1:] == ("reset",))


async def _gone(transport: asyncio.Transport, more: bytes = b"") -> None:
    """Wait until nobody is there, and write on meanwhile."""
    more *= _LARGE_BUFFER // 64 // len(more) + 1 if more else 0
    while not transport.is_closing():
        if more and transport.get_write_buffer_size() < _LARGE_BUFFER:
            transport.write(more)
        await asyncio.sleep(_GLANCE if not more else 0)


def without_answer(
    request: web.BaseRequest, fault: Fault, *, reused: bool
) -> web.Response | None:
    """End the connection, if that is what the fault means; else None.

    Args:
        request: The request, read to its end.
        fault: What to do to it.
        reused: Whether its connection had brought a request before.
    """
    match fault.kind:
        case Kind.DROP_BEFORE_HEADERS:
            return dropped(request)
        case Kind.DROP_REUSED if reused:
            return dropped(request)
        case Kind.RESET:
            return dropped(request, reset=True)
        case _:
            return None


async def pause(seconds: float) -> None:
    """Sleep, for ever when the time is infinite."""
    if seconds == math.inf:
        # Not every event loop has timers without an end.
        await asyncio.get_running_loop().create_future()
    await asyncio.sleep(seconds)


async def leave_unread(request: web.BaseRequest, seconds: float) -> None:
    """Let the request's body pile up at the sender for a time."""
    if request.transport is None:
        return
    # The system's own buffer may hold megabytes that the sender counts as sent.
    sock = request.transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER)
    await pause(seconds)
    # Through the small one, megabytes would take seconds.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _LARGE_BUFFER)


async def broken(
    request: web.BaseRequest, reply: Reply, fault: Fault
) -> web.StreamResponse:
    """Send the answer with a fault that strikes after its headers."""
    body = reply.body
    if fault.kind is Kind.DROP_AFTER_HEADERS:
        return await _cut(request, reply, len(body), len(body) // 2)
    if fault.kind is Kind.TRUNCATE:
        size = int(fault.amount)
        return await _cut(request, reply, max(len(body), size + 1), size)
    response = await _headers(request, reply, len(body))
    if fault.kind is Kind.STALL_AFTER_HEADERS:
        await pause(fault.amount)
        await response.write(body)
    else:
        await _drip(response, body, fault.amount)
    return response


async def _headers(
    request: web.BaseRequest, reply: Reply, length: int
) -> web.StreamResponse:
    response = web.StreamResponse(status=reply.status, headers=dict(reply.headers))
    response.content_length = length
    await response.prepare(request)
    return response


async def _cut(
    request: web.BaseRequest, reply: Reply, announced: int, sent: int
) -> web.StreamResponse:
    response = await _headers(request, reply, announced)
    response.force_close()
    await response.write(reply.body[:sent])
    dropped(request)
    return response


async def _drip(
    response: web.StreamResponse, body: bytes, bytes_per_second: float
) -> None:
    size = max(1, int(bytes_per_second / _DRIPS_PER_SECOND))
    for start in range(0, len(body), size):
        await response.write(body[start : start + size])
        await asyncio.sleep(size / bytes_per_second)
