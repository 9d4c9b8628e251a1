"""Servers that answer what was not asked, or without an end."""

import asyncio
import resource
import socket
import sys
import threading
import time

import aiohttp
import pytest
from support import QUICK, client_of
from support.raw_server import raw_server

from verifik_async import Charge, RetryPolicy, Timeouts, errors
from verifik_async._transport import BESIDE_BODY
from verifik_async.testing import Fault, MockVerifik

MB = 1_000_000
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


def found(person: str) -> bytes:
    """Return the answer that finds this person."""
    body = b'{"data":[{"id":"%s","score":0.9}]}' % person.encode()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


UNASKED = {
    "an answer": found("somebody-else"),
    "two answers": found("somebody-else") * 2,
    "half an answer": found("somebody-else")[:-20],
    "a head": b"HTTP/1.1 408 Request Time-out\r\nContent-Length: 10\r\n\r\n",
    "a refusal": b"HTTP/1.1 408 Request Time-out\r\nContent-Length: 0\r\n\r\n",
    "a word": b"HTTP",
    "no HTTP": b"\x00\x01\x02\r\n\r\n",
}


@pytest.mark.parametrize("injected", [False, True], ids=["ours", "injected"])
@pytest.mark.parametrize("unasked", UNASKED.values(), ids=UNASKED)
async def test_nobody_gets_the_answer_to_another_search(unasked, injected):
    """What comes over a kept connection before the next search is no answer to it."""

    async def answer(request, writer):
        writer.write(found(f"person-{request.number}"))
        if request.number_on_connection < 3:
            await writer.drain()
            await asyncio.sleep(0.01)  # by then the connection is kept
            writer.write(unasked)
        answered.set()

    answered = asyncio.Event()
    async with (
        raw_server(answer) as server,
        aiohttp.ClientSession() as session,
        client_of(server.url, session=session if injected else None) as client,
    ):
        for number in range(1, 4):
            result = await client.search_active_user(b"picture %d" % number)
            assert result.best.id == f"person-{number}"
            assert result.call.maybe_charged == 0
            await answered.wait()
            answered.clear()
            await asyncio.sleep(0.01)  # the loop looks for what has come meanwhile
    assert len(server.requests) == 3


def test_what_a_busy_loop_has_not_read_yet(image):
    """It is noticed before the next request is sent."""

    async def search_twice(mock):
        async with client_of(mock.url) as client:
            first = await client.search_active_user(image)
            time.sleep(0.2)  # noqa: ASYNC251 - nothing is read meanwhile
            second = await client.search_active_user(image)
        return first, second

    with MockVerifik() as mock:  # in a thread of its own, which goes on
        unasked = found("somebody-else")
        mock.script(Fault.raw(found("person-1"), 0.05, unasked, 1.0))
        first, second = asyncio.run(search_twice(mock))
        assert mock.connections == 2
    assert (first.best.id, second.best) == ("person-1", None)
    assert second.call.maybe_charged == 0


async def test_an_answer_in_the_same_segment_is_no_answer_to_the_next(image):
    """The connection that brought it is not used again."""

    async def answer(request, writer):
        writer.write(found(f"person-{request.number}") + found("somebody-else"))

    async with raw_server(answer) as server, client_of(server.url) as client:
        for number in range(1, 4):
            result = await client.search_active_user(image)
            assert (result.best.id, result.call.attempts) == (f"person-{number}", 1)


ENDLESS = {
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X-%d: a\r\n" % 7),
    "one header": (b"HTTP/1.1 200 OK\r\nX: ", b"a" * 5_000),
    "the status line": (b"HTTP/1.1 200 ", b"a" * 5_000),
    "100 Continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "103 Early Hints": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"),
    "trailers": (CHUNKED + b'b\r\n{"data":[]}\r\n0\r\n', b"X-Trailer: a\r\n"),
    "a chunk's size": (CHUNKED, b"0" * 5_000),
    "a chunk's extension": (CHUNKED + b"b;", b"a" * 5_000),
    "chunks of a byte": (CHUNKED, b"1\r\n \r\n"),
}


@pytest.mark.skipif(sys.platform == "win32", reason="resource is of Unix")
@pytest.mark.parametrize(("start", "more"), ENDLESS.values(), ids=ENDLESS)
async def test_what_surrounds_a_body_is_bounded(start, more, image):
    """It ends the search at once and fills no memory, whatever its attempt's time."""
    sent = 0

    async def answer(_, writer):
        nonlocal sent
        writer.write(start)
        while sent < 50 * MB:
            writer.write(more * (20_000 // len(more)))
            sent += 20_000
            await writer.drain()

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    policy = RetryPolicy(attempts=1)
    async with (
        raw_server(answer) as server,
        client_of(server.url, retry=policy, timeouts=Timeouts(attempt=60)) as client,
    ):
        with pytest.raises(errors.ConnectionLostError) as caught:
            await client.search_active_user(image)
    assert caught.value.charge is Charge.MAYBE_CHARGED
    # Socket buffers apart, which hold what was sent and not received.
    assert sent < BESIDE_BODY + 12 * MB
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 40_000  # kilobytes; without the bound hundreds of thousands


async def test_a_body_of_small_chunks_arrives(image):
    """The parts of chunks are many times as large as what is in them."""
    body = found("p").partition(b"\r\n\r\n")[2] + b" " * 30_000

    async def answer(_, writer):
        writer.write(CHUNKED)
        for byte in body:
            writer.write(b"1\r\n%c\r\n" % byte)
        writer.write(b"0\r\n\r\n")

    async with raw_server(answer) as server, client_of(server.url) as client:
        for _ in range(20):
            result = await client.search_active_user(image)
            assert result.call.response_bytes == len(body)
    assert server.connections == 1


def answer_at_once(listener: socket.socket, answer: bytes) -> None:
    """Answer one search from a thread, as fast as the system takes it."""
    connection, _ = listener.accept()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, len(answer))
    request = b""
    while not request.endswith(b'"}'):
        request += connection.recv(65_536)
    connection.sendall(answer)
    connection.recv(1)
    connection.close()


def test_a_large_answer_that_is_all_there_at_once(image):
    """A session's own buffer may take it before the client has its turn."""
    uvloop = pytest.importorskip("uvloop")
    body = b'{"data":[]%b}' % (b" " * (6 * MB))
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)

    async def search(port: int) -> None:
        async with (
            aiohttp.ClientSession(read_bufsize=16 * MB) as session,
            client_of(f"http://127.0.0.1:{port}", session=session) as client,
            asyncio.TaskGroup() as tasks,
        ):
            found = tasks.create_task(client.search_active_user(image))
            while not found.done():
                time.sleep(0.1)  # noqa: ASYNC251 - meanwhile all of it arrives
                await asyncio.sleep(0)
        assert found.result().call.response_bytes == len(body)

    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        server = threading.Thread(target=answer_at_once, args=(listener, answer))
        server.start()
        runner.run(search(listener.getsockname()[1]))
        server.join()


async def test_bytes_without_an_end_on_an_idle_connection(image):
    """They fill no memory while nobody searches: the connection is cut off."""
    ended = asyncio.Event()

    async def answer(_, writer):
        writer.write(found("p"))
        try:
            while True:
                writer.write(found("somebody-else") * 200)
                await writer.drain()
        finally:
            ended.set()

    async with raw_server(answer) as server, client_of(server.url, retry=QUICK) as c:
        assert (await c.search_active_user(image)).best.id == "p"
        async with asyncio.timeout(20):
            await ended.wait()


async def test_other_uses_of_a_callers_connection_are_not_bounded(image):
    """A large download over a connection that a search was sent over arrives whole."""
    size = 20 * MB

    async def answer(request, writer):
        if request.start_line.startswith("POST"):
            writer.write(found("p"))
            return
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size // MB):
            writer.write(b"a" * MB)
            await writer.drain()

    async with (
        raw_server(answer) as server,
        aiohttp.ClientSession() as session,
        client_of(server.url, session=session) as client,
    ):
        for _ in range(2):
            assert (await client.search_active_user(image)).best.id == "p"
            async with session.get(server.url) as response:
                assert len(await response.read()) == size
    assert server.connections == 1
