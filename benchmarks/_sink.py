"""A server that reads bodies and throws them away: `python -m benchmarks._sink`.

It answers when a body is complete, always the same, and looks into none, so that large
ones cost it little. `Sink` runs it in a process of its own.
"""

import asyncio
import json
import os
import pathlib
import socket
import sys
from asyncio.subprocess import PIPE, Process
from types import TracebackType
from typing import Self, cast

import aiohttp
import attrs

from verifik_async.testing._child import end, first_line

from ._fixed import ANSWER, JSON_TYPE

_HOST = "127.0.0.1"
_COUNTS_PATH = "/counts"
_BACKLOG = 1024
_BUFFER = 256 * 1024
_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = b"content-length:"
_ROOT = pathlib.Path(__file__).parents[1]


@attrs.define
class Counts:
    """What a sink has seen.

    Attributes:
        requests: That were read to their ends.
        body_bytes: Of their bodies.
    """

    requests: int = 0
    body_bytes: int = 0


class Sink:
    """A sink in a process of its own, while its `async with` block runs.

    It ends with its parent whatever happens to that.
    """

    def __init__(self) -> None:
        self.url = ""
        self.pid = 0
        self._process: Process | None = None

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks._sink"),
            stdin=PIPE,
            stdout=PIPE,
            cwd=_ROOT,
        )
        self.pid = self._process.pid
        try:
            self.url = await first_line(self._process)
        except BaseException:
            await end(self._process)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process is not None:
            await end(self._process)

    async def counts(self) -> Counts:
        """Return what came in so far."""
        async with (
            aiohttp.ClientSession(raise_for_status=True) as session,
            session.get(self.url + _COUNTS_PATH) as response,
        ):
            return Counts(**await response.json())


# -- in the process of its own ---------------------------------------------------------


class _Connection(asyncio.BufferedProtocol):
    """One connection; requests follow each other, none is sent ahead of an answer."""

    def __init__(self, seen: Counts, buffer: memoryview) -> None:
        self._seen = seen
        self._buffer = buffer  # one for all: what is in it is used up at once
        self._head = b""
        self._length = 0
        self._left = 0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        sock: socket.socket = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._left:
            self._take(nbytes)
            return
        self._head += self._buffer[:nbytes]
        head, end, rest = self._head.partition(_END_OF_HEAD)
        if not end:
            return
        self._head = b""
        if head.startswith(b"GET "):
            self._write(json.dumps(attrs.asdict(self._seen)))
            return
        self._length = self._left = _length(head)
        self._take(len(rest))

    def _take(self, size: int) -> None:
        self._left -= size
        if self._left == 0:
            self._seen.requests += 1
            self._seen.body_bytes += self._length
            self._write(ANSWER)
        elif self._left < 0:
            raise ValueError("more came than was announced")

    def _write(self, body: str) -> None:
        if self._transport is not None:
            self._transport.write(
                f"HTTP/1.1 200 OK\r\nContent-Type: {JSON_TYPE}\r\n"
                f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
            )


def _length(head: bytes) -> int:
    return next(
        int(line.partition(b":")[2])
        for line in head.lower().split(b"\r\n")
        if line.startswith(_LENGTH)
    )


async def _serve() -> None:
    """Print the URL and serve until the standard input ends."""
    loop = asyncio.get_running_loop()
    seen = Counts()
    buffer = memoryview(bytearray(_BUFFER))
    listener = await loop.create_server(
        lambda: _Connection(seen, buffer), _HOST, 0, backlog=_BACKLOG
    )
    print(f"http://{_HOST}:{listener.sockets[0].getsockname()[1]}", flush=True)
    stop = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), _look_for_end, stop)
    try:
        await stop.wait()
    finally:
        loop.remove_reader(sys.stdin.fileno())
        listener.close()


def _look_for_end(stop: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        stop.set()


if __name__ == "__main__":
    asyncio.run(_serve())
