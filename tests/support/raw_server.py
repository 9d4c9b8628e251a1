"""A server on a bare socket: it sees the bytes as they are and answers what it is told.

Independent of aiohttp on purpose: what aiohttp would mend on the way stays visible.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

OK = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n"
    b'{"data":[]}'
)


@dataclass
class RawRequest:
    """One request as it came over the wire."""

    start_line: str
    headers: list[tuple[str, str]]
    body: bytes
    number: int
    number_on_connection: int

    def header(self, name: str) -> str | None:
        """Return a header that must not be there twice."""
        found = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(found) < 2, f"{name} was sent {len(found)} times"
        return found[0] if found else None


Answer = Callable[[RawRequest, asyncio.StreamWriter], Awaitable[None]]


async def answer_ok(_: RawRequest, writer: asyncio.StreamWriter) -> None:
    writer.write(OK)


@dataclass
class RawServer:
    """Requests seen and connections accepted."""

    url: str = ""
    requests: list[RawRequest] = field(default_factory=list)
    connections: int = 0


async def _read_request(
    reader: asyncio.StreamReader, number: int, on_connection: int
) -> RawRequest:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii")
    start_line, *lines = head.strip().split("\r\n")
    headers = [(k, v.strip()) for k, _, v in (line.partition(":") for line in lines)]
    request = RawRequest(start_line, headers, b"", number, on_connection)
    request.body = await reader.readexactly(int(request.header("Content-Length") or 0))
    return request


@contextlib.asynccontextmanager
async def raw_server(answer: Answer = answer_ok) -> AsyncIterator[RawServer]:
    """Run a server that calls `answer` for each request, on loopback."""
    seen = RawServer()
    tasks: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        seen.connections += 1
        on_connection = 0
        with contextlib.suppress(
            asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError
        ):
            while not writer.is_closing():
                on_connection += 1
                request = await _read_request(
                    reader, len(seen.requests) + 1, on_connection
                )
                seen.requests.append(request)
                await answer(request, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    seen.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield seen
    finally:
        server.close()
        for task in tasks:
            if task is not None:
                task.cancel()
        await asyncio.sleep(0)
