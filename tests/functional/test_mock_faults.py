"""What each fault of the stand-in looks like from the other end of the wire."""

import asyncio
import base64
import contextlib
import gzip
import json
import time

import aiohttp
import pytest

from verifik_async.testing import Fault, MockVerifik

PATH = "/v2/face-recognition/search-active-user"
BODY = json.dumps(
    {
        "image": base64.b64encode(bytes(300)).decode(),
        "os": "IOS",
        "min_score": 0.5,
        "search_mode": "ACCURATE",
    }
).encode()


@pytest.fixture
async def mock():
    async with MockVerifik() as server:
        yield server


class Wire:
    """A bare connection that can search again and again."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer

    def send(self, body=BODY):
        """Write a search."""
        head = (
            f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self.writer.write(head.encode() + body)

    async def head(self):
        """Read an answer's status and headers."""
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        pairs = [line.split(": ", 1) for line in lines[1:] if line]
        return int(lines[0].split(" ")[1]), dict(pairs)

    async def answer(self):
        """Read a whole answer: status, headers and body."""
        status, headers = await self.head()
        body = await self.reader.readexactly(int(headers["Content-Length"]))
        return status, headers, body


@pytest.fixture
async def wire(mock):
    host, port = mock.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, port)
    yield Wire(reader, writer)
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


@pytest.mark.parametrize(
    ("fault", "status", "body", "retry_after"),
    [
        (
            Fault.status(503, retry_after="2"),
            503,
            {
                "message": "This endpoint is temporarily unavailable.",
                "code": "ServiceUnavailable",
            },
            "2",
        ),
        (
            Fault.status(402),
            402,
            {"message": "insufficient_credits", "code": "PaymentRequired"},
            None,
        ),
        (
            Fault.status(429, retry_after=0.5, message="m", code="c"),
            429,
            {"message": "m", "code": "c"},
            "0.5",
        ),
        (Fault.status(418), 418, {"message": "error", "code": "ERROR"}, None),
    ],
)
async def test_status(mock, wire, fault, status, body, retry_after):
    """A status comes with the API's usual body; the connection lives on."""
    mock.script(fault, None)
    wire.send()
    got = await wire.answer()
    assert (got[0], json.loads(got[2])) == (status, body)
    assert got[1].get("Retry-After") == retry_after
    wire.send()
    assert (await wire.answer())[0] == 200
    assert [record.status for record in mock.requests] == [status, 200]


async def test_status_before_the_body(mock, wire):
    """An early answer is there while the request's body is still to come."""
    mock.script(Fault.status(413, before_body=True))
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n"
    wire.writer.write(head.encode())
    status, _, body = await wire.answer()
    assert (status, json.loads(body)["code"]) == (413, "PayloadTooLarge")


@pytest.mark.parametrize(
    ("fault", "status", "kind", "body"),
    [
        (Fault.empty(), 200, "application/json; charset=utf-8", b""),
        (Fault.body({"a": [1]}), 200, "application/json; charset=utf-8", b'{"a": [1]}'),
        (Fault.body(float("nan")), 200, "application/json; charset=utf-8", b"NaN"),
        (
            Fault.body(b"\xff", 409, content_type="text/plain"),
            409,
            "text/plain",
            b"\xff",
        ),
    ],
)
async def test_any_body(mock, wire, fault, status, kind, body):
    """Any bytes can be the body, and anything else goes out as JSON."""
    mock.script(fault)
    wire.send()
    got = await wire.answer()
    assert (got[0], got[1]["Content-Type"], got[2]) == (status, kind, body)


async def test_more_headers(mock, wire):
    """A body may bring headers of its own."""
    mock.script(Fault.body([], headers={"X-Request-Id": "r1"}))
    wire.send()
    assert (await wire.answer())[1]["X-Request-Id"] == "r1"


async def test_html(mock, wire):
    """A gateway's page is no JSON."""
    mock.script(Fault.html(502))
    wire.send()
    status, headers, body = await wire.answer()
    assert (status, headers["Content-Type"]) == (502, "text/html")
    assert body.startswith(b"<!DOCTYPE html>")


async def test_redirect(mock, wire):
    """A redirect names its place verbatim; following it would be another hit."""
    mock.script(Fault.redirect(308, "http://example.invalid/x"))
    wire.send()
    status, headers, body = await wire.answer()
    assert (status, headers["Location"]) == (308, "http://example.invalid/x")
    assert (body, mock.hits) == (b"", 1)


async def test_gzip_bomb(mock, wire):
    """A few kilobytes inflate to megabytes of JSON."""
    mock.script(Fault.gzip_bomb(5))
    wire.send()
    _, headers, body = await wire.answer()
    assert headers["Content-Encoding"] == "gzip"
    assert len(body) < 20_000
    content = gzip.decompress(body)
    assert len(content) > 5 * 1024 * 1024
    assert json.loads(content)["data"] == []


@pytest.mark.parametrize(
    ("fault", "sent"),
    [
        (Fault.drop_before_headers(), b""),
        (Fault.garbage(b"HTTP? no"), b"HTTP? no"),
        (Fault.raw(b"HTTP", 0.01, b"/1.1 ", "close"), b"HTTP/1.1 "),
    ],
)
async def test_end_without_an_answer(mock, wire, fault, sent):
    """The connection is closed in order, after no byte of HTTP."""
    mock.script(fault)
    wire.send()
    assert await wire.reader.read() == sent
    record = mock.requests[0]
    assert (mock.hits, record.status, record.image_bytes) == (1, None, 300)


async def test_raw_bytes_and_a_reset(mock, wire):
    """What was written first arrives, if it has a moment for that."""
    mock.script(Fault.raw(b"HTTP/1.1 ", 0.05, "reset"))
    wire.send()
    assert await wire.reader.readexactly(9) == b"HTTP/1.1 "
    with pytest.raises(ConnectionResetError):
        await wire.reader.read()


async def test_raw_bytes_before_the_body(mock, wire):
    """The request's head is enough for them."""
    mock.script(Fault.raw(b"x", before_body=True))
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n"
    wire.writer.write(head.encode())
    assert await wire.reader.read() == b"x"


async def test_a_half_closed_connection(mock, wire):
    """Nothing more comes, but what is sent is taken, until the other side closes."""
    mock.script(Fault.raw(b"x", "half_close"))
    wire.send()
    assert await wire.reader.read() == b"x"
    await asyncio.sleep(0.02)
    assert mock.in_flight == 1
    wire.writer.write(b"more")
    await wire.writer.drain()
    wire.writer.close()
    async with asyncio.timeout(10):
        while mock.in_flight:
            await asyncio.sleep(0.01)


async def test_a_silent_connection(mock, wire):
    """It stays open without a word."""
    mock.script(Fault.raw(b"x", "stall"))
    wire.send()
    assert await wire.reader.readexactly(1) == b"x"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await wire.reader.read(1)


async def test_bytes_without_an_end(mock, wire):
    """They come as long as somebody takes them, and pile up nowhere."""
    mock.script(Fault.raw(b"start", b"abc", "repeat"))
    wire.send()
    assert await wire.reader.readexactly(20) == b"startabcabcabcabcabc"
    await wire.reader.readexactly(30_000_000)
    wire.writer.close()
    async with asyncio.timeout(10):
        while mock.in_flight:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("steps", "complaint"),
    [
        (("stall", b"x"), "'stall' must be the last step"),
        ((b"x", "repeat", "close"), "steps may end in one of"),
        ((b"x", "explode"), "steps may end in one of"),
        (("repeat",), "before 'repeat' there must be bytes"),
        ((1, "repeat"), "before 'repeat' there must be bytes"),
    ],
)
def test_steps_that_make_no_sense(steps, complaint):
    """They are refused where they are written down."""
    with pytest.raises(ValueError, match=complaint):
        Fault.raw(*steps)


async def test_default_garbage_is_no_http(mock):
    """A client cannot make an answer of garbage."""
    mock.script(Fault.garbage())
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            await session.post(mock.url + PATH, data=BODY)


async def test_reset(mock, wire):
    """A reset is an error at the other end, after the request was read."""
    mock.script(Fault.reset())
    wire.send()
    with pytest.raises(ConnectionResetError):
        await wire.reader.read()
    assert mock.requests[0].image_bytes == 300


async def test_drop_before_the_body_is_read(mock, wire):
    """The connection is reset while the body is being written."""
    mock.script(Fault.drop_before_body_read())
    wire.send(bytes(20_000_000))
    with pytest.raises(ConnectionError):
        async with asyncio.timeout(2):
            await wire.writer.drain()
            await wire.reader.read()
    assert mock.requests[0].image_bytes is None


async def test_drop_of_a_reused_connection(mock, wire):
    """A fresh connection is served, the same one is dropped the next time."""
    mock.faults = {Fault.drop_reused(): 1.0}
    wire.send()
    assert (await wire.answer())[0] == 200
    wire.send()
    assert await wire.reader.read() == b""
    assert [(r.reused, r.status) for r in mock.requests] == [(False, 200), (True, None)]


async def test_drop_after_headers(mock, wire):
    """Half of the announced body comes, then the end."""
    mock.script(Fault.drop_after_headers())
    wire.send()
    status, headers = await wire.head()
    assert status == 200
    assert len(await wire.reader.read()) == int(headers["Content-Length"]) // 2
    assert mock.requests[0].status == 200


@pytest.mark.parametrize("size", [0, 7, 4, 9, 1000])
async def test_truncate(mock, wire, size):
    """More is announced than sent, whatever the body's length."""
    mock.script(Fault.truncate(size))
    wire.send()
    _, headers = await wire.head()
    rest = await wire.reader.read()
    assert len(rest) <= size < int(headers["Content-Length"])


async def test_stall(mock, wire):
    """Nothing comes for a time, then the normal answer."""
    mock.script(Fault.stall(0.15))
    wire.send()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await wire.reader.read(1)
    assert (await wire.answer())[0] == 200


async def test_stall_after_headers(mock, wire):
    """The headers come at once, the body after a time."""
    mock.script(Fault.stall_after_headers(0.15))
    wire.send()
    async with asyncio.timeout(0.1):
        _, headers = await wire.head()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await wire.reader.read(1)
    assert await wire.reader.readexactly(int(headers["Content-Length"]))


async def test_stall_before_the_body_is_read(mock, wire):
    """A large body cannot be written while the stall lasts, and then it is read."""
    mock.script(Fault.stall_before_body_read(0.4))
    wire.send(b'{"image": "' + b"QUJD" * 4_000_000 + b'"}')
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await wire.writer.drain()
    async with asyncio.timeout(5):
        assert (await wire.answer())[0] == 409
    assert mock.requests[0].image_bytes == 12_000_000


async def test_slow_drip(mock, wire):
    """The body comes bit by bit at the speed asked for, and is whole."""
    mock.script(Fault.slow_drip(400))
    start = time.perf_counter()
    wire.send()
    body = (await wire.answer())[2]
    taken = time.perf_counter() - start
    assert json.loads(body)["data"] == []
    assert 0.7 * len(body) / 400 < taken < 3 * len(body) / 400


@pytest.mark.parametrize("speed", [0, -1, float("nan")])
def test_drip_of_no_speed(speed):
    """A drip needs a speed."""
    with pytest.raises(ValueError, match="above 0"):
        Fault.slow_drip(speed)


async def test_script_comes_in_order_and_before_probabilities(mock, wire):
    """Each request takes one entry; None is a normal answer."""
    mock.faults = {Fault.status(500): 1.0}
    mock.script(Fault.status(503), None)
    mock.script(Fault.status(502))
    statuses = []
    for _ in range(4):
        wire.send()
        statuses.append((await wire.answer())[0])
    assert statuses == [503, 200, 502, 500]
    assert mock.hits == 4


def test_faults_are_values():
    """Equal faults are equal, hashable, and show no body."""
    assert Fault.status(503) == Fault.status(503)
    assert len({Fault.stall(1), Fault.stall(1), Fault.stall(2)}) == 2
    shown = repr(Fault.raw(b"abc", 0.5, "stall"))
    assert "<3 bytes>, 0.5, 'stall'" in shown
    assert "abc" not in shown
