"""Ending a server at once, without losing track of a connection."""

import asyncio
import contextlib

from aiohttp import web

# A connection is a task first, then a transport, then its protocol's.
_TURNS = 3
_GRACE = 0.2


async def end_server(listener: asyncio.Server, server: web.Server) -> None:
    """Close a listener, cut off all connections, and wait for what handles them.

    What has not been accepted by now is refused.
    """
    loop = asyncio.get_running_loop()
    # asyncio forgets, and leaves open, what it accepts in the turn in which a listener
    # is closed: first it must accept no more.
    with contextlib.suppress(NotImplementedError):  # Windows' own loop
        for sock in listener.sockets:
            loop.remove_reader(sock)
    for _ in range(_TURNS):
        await asyncio.sleep(0)
    listener.close()
    # Closing would wait for clients to take what was written.
    for connection in list(server.connections):
        if connection.transport is not None:
            connection.transport.abort()
    # The callbacks of closed transports run in the next turn, and cancel handlers.
    await asyncio.sleep(0)
    await server.shutdown(_GRACE)
    await asyncio.sleep(0)
