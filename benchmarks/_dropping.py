"""A server that closes kept connections under the requests that come over them.

On bare sockets: only there can it be seen that a request has come without reading it,
and a connection that is closed with something unread ends in a reset, as those of busy
servers do.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

_HOST = "127.0.0.1"
_BACKLOG = 1024
_CHUNK = 65536
_BODY = b'{"id":"AbCdE","data":[]}'
_ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(_BODY), _BODY)
)
_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = b"content-length:"


class Dropping:
    """Counts of such a server.

    Attributes:
        url: Base URL.
        answered: Requests that were answered.
        reused: Requests that came over a connection that had served before.
        dropped: Those of them that met their connection's end: every second.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://{_HOST}:{port}"
        self.answered = 0
        self.reused = 0
        self.dropped = 0

    async def serve(self, sock: socket.socket) -> None:
        """Serve one connection until it ends."""
        loop = asyncio.get_running_loop()
        with sock, contextlib.suppress(ConnectionError):
            while await _has_request(sock):
                await _read_request(sock)
                await loop.sock_sendall(sock, _ANSWER)
                self.answered += 1
                if not await _has_request(sock):
                    return
                self.reused += 1
                if self.reused % 2 == 0:
                    self.dropped += 1
                    return


@contextlib.asynccontextmanager
async def dropping() -> AsyncIterator[Dropping]:
    """Run the server."""
    with socket.create_server((_HOST, 0), backlog=_BACKLOG) as listener:
        listener.settimeout(0)
        server = Dropping(listener.getsockname()[1])
        async with asyncio.TaskGroup() as tasks:
            accepting = tasks.create_task(_accept(server, listener), name="dropping")
            try:
                yield server
            finally:
                accepting.cancel()


async def _accept(server: Dropping, listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as tasks:
        while True:
            sock, _ = await loop.sock_accept(listener)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            tasks.create_task(server.serve(sock), name="dropping-connection")


async def _has_request(sock: socket.socket) -> bool:
    """Wait for a request or the end of the connection, without reading."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(sock, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(sock)
    return bool(sock.recv(1, socket.MSG_PEEK))


async def _read_request(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    received = b""
    while _END_OF_HEAD not in received:
        received += await _receive(loop, sock)
    head, _, body = received.partition(_END_OF_HEAD)
    length = next(
        int(line.partition(b":")[2])
        for line in head.lower().split(b"\r\n")
        if line.startswith(_LENGTH)
    )
    left = length - len(body)
    while left > 0:
        left -= len(await _receive(loop, sock))


async def _receive(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> bytes:
    if not (chunk := await loop.sock_recv(sock, _CHUNK)):
        raise ConnectionResetError
    return chunk
