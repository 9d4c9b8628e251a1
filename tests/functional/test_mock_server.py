"""Capacity, latency, records, seeds and the life of the stand-in."""

import asyncio
import base64
import contextlib
import hashlib
import json
import subprocess
import sys
import time

import aiohttp
import pytest

from verifik_async.testing import Fault, MockVerifik

PATH = "/v2/face-recognition/search-active-user"
IMAGE = bytes(range(256))
GOOD = {
    "image": base64.b64encode(IMAGE).decode(),
    "os": "DESKTOP",
    "min_score": 0.7,
    "search_mode": "FAST",
}


@pytest.fixture
async def session():
    headers = {"Authorization": "Bearer secret-token"}
    async with aiohttp.ClientSession(headers=headers) as made:
        yield made


async def search(session, mock, **fields):
    """Search and return status, headers and decoded body."""
    async with session.post(mock.url + PATH, json=GOOD | fields) as response:
        return response.status, response.headers, await response.json()


async def test_capacity(session):
    """What goes beyond the burst gets 429 at once, and the rate fills up again."""
    async with MockVerifik(rate=20, burst=3) as mock:
        answers = [await search(session, mock) for _ in range(5)]
        assert [status for status, _, _ in answers] == [200, 200, 200, 429, 429]
        _, headers, body = answers[-1]
        assert headers["Retry-After"] == "1"
        assert body == {"message": "too_many_requests", "code": "TooManyRequests"}
        await asyncio.sleep(0.06)
        assert (await search(session, mock))[0] == 200
        assert (await search(session, mock))[0] == 429


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("Mon, 01 Jan 2035 00:00:00 GMT", "Mon, 01 Jan 2035 00:00:00 GMT"),
        (2, "2"),
        (0.25, "0.25"),
        (120.0, "120"),
        (None, None),
    ],
)
async def test_retry_after_of_throttles(session, setting, text):
    """Texts go out verbatim, numbers as short as they can be, None not at all."""
    async with MockVerifik(rate=1, retry_after=setting) as mock:
        await search(session, mock)
        _, headers, _ = await search(session, mock)
        assert headers.get("Retry-After") == text


async def test_faults_take_nothing_of_the_capacity(session):
    """A gateway's answer does not use up the service."""
    async with MockVerifik(rate=1, burst=1) as mock:
        mock.script(Fault.status(503), Fault.status(503))
        statuses = [(await search(session, mock))[0] for _ in range(4)]
        assert statuses == [503, 503, 200, 429]


async def test_latency(session):
    """A search takes its time, and the searches of a moment share it."""
    async with MockVerifik(latency=0.1) as mock:
        start = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(5):
                tasks.create_task(search(session, mock))
        assert 0.1 <= time.perf_counter() - start < 0.4
        assert mock.max_in_flight == 5
        assert mock.in_flight == 0
        mock.latency = 0
        start = time.perf_counter()
        await search(session, mock)
        assert time.perf_counter() - start < 0.1


async def test_latency_within_a_span(session):
    """A span of latencies is kept."""
    async with MockVerifik(latency=(0.02, 0.04)) as mock:
        for _ in range(5):
            start = time.perf_counter()
            await search(session, mock)
            assert 0.02 <= time.perf_counter() - start < 0.15


async def test_record_of_a_search(session):
    """All is remembered but the picture and the token."""
    async with MockVerifik(collections=["code-a"]) as mock:
        await search(session, mock, collection_id="code-a", includeCost=False)
        await search(session, mock, images=[GOOD["image"]], os="x" * 300)
        first, second = mock.requests
        assert (first.method, first.path) == ("POST", PATH)
        assert first.image_sha256 == hashlib.sha256(IMAGE).hexdigest()
        assert first.image_bytes == len(IMAGE)
        assert (first.os, first.min_score) == ("DESKTOP", 0.7)
        assert (first.search_mode, first.collection_id) == ("FAST", "code-a")
        assert first.extra == {"includeCost": False}
        assert (first.status, first.token_ok, first.reused) == (200, True, False)
        assert first.headers["Content-Type"] == "application/json"
        assert (second.status, second.reused) == (409, True)
        assert second.at > first.at
        assert second.os == "<300 characters>"
        shown = repr(mock.requests) + repr(mock)
        assert GOOD["image"] not in shown
        assert "secret-token" not in shown


async def test_record_without_a_picture(session):
    """What is no picture leaves its digest out."""
    async with MockVerifik() as mock:
        await search(session, mock, image="nonsense!")
        await session.get(mock.url + "/nowhere?token=secret-token")
        first, second = mock.requests
        assert (first.image_sha256, first.image_bytes, first.status) == (
            None,
            None,
            412,
        )
        assert (second.method, second.path, second.status) == ("GET", "/nowhere", 404)


async def test_records_are_bounded_and_ordered(session):
    """The newest are kept, in the order of arrival, whatever the order of answers."""
    async with MockVerifik(max_recorded=3) as mock:
        mock.script(None, None, Fault.stall(0.1))
        async with asyncio.TaskGroup() as tasks:
            for number in range(4):
                tasks.create_task(search(session, mock, number=number))
                await asyncio.sleep(0.02)
        assert [record.extra["number"] for record in mock.requests] == [1, 2, 3]
        assert mock.hits == 4
    async with MockVerifik(max_recorded=0) as mock:
        await search(session, mock)
        assert (mock.hits, mock.requests) == (1, ())


async def test_connections_and_reset(session):
    """Connections are counted as accepted, and a reset starts all counts anew."""
    async with MockVerifik(rate=1, burst=3) as mock:
        mock.enroll("person-1", IMAGE)
        await search(session, mock)
        await search(session, mock)
        assert (mock.hits, mock.connections, len(mock.requests)) == (2, 1, 2)
        await session.post(mock.url + PATH, headers={"Connection": "close"})
        await search(session, mock)
        assert mock.connections == 2
        mock.script(Fault.status(500))
        mock.reset()
        assert (mock.hits, mock.connections, mock.max_in_flight) == (0, 0, 0)
        assert mock.requests == ()
        status, _, body = await search(session, mock)
        assert (status, len(body["data"])) == (200, 1)


async def behaviour(session, seed, **settings):
    """Return what 40 searches of a fresh stand-in came to."""
    faults = {Fault.status(500): 0.2, Fault.status(429): 0.2}
    async with MockVerifik(seed=seed, faults=faults, **settings) as mock:
        answers = [await search(session, mock) for _ in range(40)]
        first = [(status, body.get("id")) for status, _, body in answers]
        mock.reset()
        answers = [await search(session, mock) for _ in range(40)]
        assert first == [(status, body.get("id")) for status, _, body in answers]
        return first


async def test_seed(session):
    """A seed decides ids and faults; latencies have a sequence of their own."""
    first = await behaviour(session, 1)
    assert {status for status, _ in first} == {200, 429, 500}
    assert await behaviour(session, 1, latency=(0.0, 0.001)) == first
    assert await behaviour(session, 2) != first


async def test_probabilities_may_change_while_it_runs(session):
    """An outage can begin and end between two requests."""
    async with MockVerifik() as mock:
        mock.faults = {Fault.status(502): 1.0}
        assert (await search(session, mock))[0] == 502
        mock.script(None)
        assert (await search(session, mock))[0] == 200
        mock.faults = {}
        assert (await search(session, mock))[0] == 200


@pytest.mark.parametrize(
    "settings",
    [
        {"data_shape": "list"},
        {"rate": 0},
        {"rate": 5, "burst": 0},
        {"faults": {Fault.status(500): 1.5}},
        {"faults": {Fault.status(500): float("nan")}},
        {"faults": {Fault.status(500): -0.5}},
    ],
)
def test_wrong_settings(settings):
    """Settings out of their range are refused before anything is opened."""
    with pytest.raises(ValueError, match=r"must be|add up"):
        MockVerifik(**settings)


async def test_use_outside_its_block():
    """There is no URL before the start, and no second start."""
    mock = MockVerifik()
    with pytest.raises(RuntimeError):
        _ = mock.url
    await mock.__aexit__(None, None, None)
    async with mock:
        assert mock.url.startswith("http://127.0.0.1:")
    with pytest.raises(RuntimeError):
        await mock.__aenter__()


async def test_a_port_can_be_used_again(session):
    """A service that went down can come back where it was."""
    async with MockVerifik() as mock:
        await search(session, mock)
        port = int(mock.url.rpartition(":")[2])
    with pytest.raises(aiohttp.ClientConnectionError):
        await search(session, mock)
    async with MockVerifik(port=port) as mock:
        assert (await search(session, mock))[0] == 200


@pytest.mark.parametrize(
    "fault",
    [
        Fault.stall(),
        Fault.stall_before_body_read(),
        Fault.stall_after_headers(),
        Fault.slow_drip(1),
    ],
    ids=lambda fault: fault.kind.name,
)
async def test_exit_is_prompt_while_requests_hang(session, fault):
    """Hanging requests are cut off when the block ends."""
    async with asyncio.TaskGroup() as tasks:
        async with MockVerifik() as mock:
            mock.script(fault, fault)
            hanging = [tasks.create_task(lost(search(session, mock))) for _ in range(2)]
            while mock.in_flight < 2:
                await asyncio.sleep(0.01)
            start = time.perf_counter()
        assert time.perf_counter() - start < 0.5
        assert mock.in_flight == 0
        async with asyncio.timeout(10):
            assert [await task for task in hanging] == [True, True]


async def lost(search):
    """Tell whether a search lost its connection."""
    try:
        await search
    except aiohttp.ClientError:
        return True
    return False


async def test_exit_is_prompt_with_idle_and_deaf_clients(session):
    """Connections that say nothing, or take nothing, do not hold the exit up."""
    async with MockVerifik() as mock:
        host, port = mock.url.removeprefix("http://").split(":")
        await search(session, mock)
        _, silent = await asyncio.open_connection(host, port)
        _, deaf = await asyncio.open_connection(host, port, limit=1)
        mock.script(Fault.body(bytes(50_000_000)))
        deaf.write(
            f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode()
        )
        await asyncio.sleep(0.1)
        start = time.perf_counter()
    assert time.perf_counter() - start < 0.5
    for writer in (silent, deaf):
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_client_that_gives_up_leaves_nothing_behind(session):
    """A request whose client went away is no longer in flight and has no status."""
    async with MockVerifik() as mock:
        mock.script(Fault.stall())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await search(session, mock)
        async with asyncio.timeout(10):
            while mock.in_flight:
                await asyncio.sleep(0.01)
        assert [record.status for record in mock.requests] == [None]


async def test_client_that_goes_away_in_its_body():
    """A body that never ends is a hit without a status, and nothing is logged."""
    async with MockVerifik() as mock:
        host, port = mock.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, port)
        head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nab"
        writer.write(head.encode())
        await asyncio.sleep(0.05)
        writer.close()
        await writer.wait_closed()
        async with asyncio.timeout(10):
            while mock.in_flight or not mock.hits:
                await asyncio.sleep(0.01)
        assert mock.requests[0].status is None


async def test_body_that_cannot_be_unpacked(session):
    """A body that is not compressed as announced gets an answer of status 400."""
    async with MockVerifik() as mock:
        headers = {"Content-Encoding": "gzip"}
        async with session.post(
            mock.url + PATH, data=b"x" * 99, headers=headers
        ) as response:
            assert response.status == 400


def test_nothing_is_left_open():
    """A run with open connections ends without a warning of the interpreter."""
    code = f"""
import asyncio, aiohttp
from verifik_async.testing import Fault, MockVerifik
async def main():
    async with aiohttp.ClientSession() as session:
        async with MockVerifik() as mock:
            mock.script(None, Fault.stall(), Fault.slow_drip(1), Fault.reset())
            async def one():
                try:
                    async with session.post(mock.url + {PATH!r}, json={GOOD!r}) as got:
                        await got.read()
                except aiohttp.ClientError:
                    pass
            await one()
            tasks = [asyncio.create_task(one()) for _ in range(3)]
            await asyncio.sleep(0.1)
        await asyncio.wait(tasks)
asyncio.run(main())
"""
    flags = ("-X", "dev", "-W", "error")
    done = subprocess.run(
        [sys.executable, *flags, "-c", code], capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_import_brings_no_test_framework():
    """The package is usable where pytest is not installed."""
    code = "import sys, verifik_async.testing; print('pytest' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert json.loads(done.stdout.decode().lower()) is False
