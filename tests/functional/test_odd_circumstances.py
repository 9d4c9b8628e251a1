"""What goes wrong between two parts that are right: closing, slow files, refusals."""

import asyncio
import gc
import io
import mmap
import tempfile
import time
import warnings

import aiohttp
import attrs
import pytest
from support import OPTIONS, QUICK, client_of
from support.raw_server import OK, raw_server

from verifik_async import (
    Attempt,
    Charge,
    ConfigurationError,
    RetryPolicy,
    Timeouts,
    VerifikClient,
    errors,
)
from verifik_async.testing import Fault, MockVerifik


async def test_closing_while_another_threads_loop_ends(image):
    """That loop cancels what runs on it; the one who closes does not feel it."""
    async with MockVerifik(latency=0.3) as mock:
        client = client_of(mock.url)
        async with asyncio.TaskGroup() as tasks:
            elsewhere = tasks.create_task(
                asyncio.to_thread(asyncio.run, client.search_active_user(image))
            )
            while mock.hits == 0:
                await asyncio.sleep(0.01)
            async with asyncio.timeout(3):
                await client.aclose()
        assert elsewhere.result().matches == ()


async def test_closing_at_the_same_time(image):
    """All of them wait for the one closing, and none for the whole grace."""
    async with MockVerifik(latency=0.2) as mock:
        client = client_of(mock.url)
        async with asyncio.timeout(2), asyncio.TaskGroup() as tasks:
            search = tasks.create_task(client.search_active_user(image))
            await asyncio.sleep(0.05)
            for _ in range(3):
                tasks.create_task(client.aclose())
        assert search.done()


class SlowFile(io.BytesIO):
    """A file on a slow disk; counts who reads at once."""

    readers = most = reads = 0

    def read(self, size: int = -1, /) -> bytes:
        self.readers += 1
        self.reads += 1
        self.most = max(self.most, self.readers)
        time.sleep(0.15)
        self.readers -= 1
        return super().read(size)


async def test_a_file_slower_than_an_attempt_is_read_once(mock, image):
    """Attempts that time out meanwhile are counted, and start no second reader."""
    file = SlowFile(image)
    timeouts = Timeouts(attempt=0.1, deadline=None)
    async with client_of(mock.url, timeouts=timeouts) as client:
        result = await client.search_active_user(file)
        assert 1 < result.call.attempts <= 4
    assert file.most == 1
    assert mock.requests[0].image_bytes == len(image)


async def test_a_file_much_slower_than_all_attempts_ends_the_search(mock, image):
    """The number of attempts bounds it, without a deadline too."""
    policy = attrs.evolve(QUICK, attempts=2)
    timeouts = Timeouts(attempt=0.02, deadline=None)
    async with client_of(mock.url, timeouts=timeouts, retry=policy) as client:
        with pytest.raises(errors.AttemptTimeoutError) as caught:
            await client.search_active_user(SlowFile(image))
    assert caught.value.charge is Charge.NOT_SENT
    assert caught.value.attempts == 2
    assert mock.connections == 0


async def test_a_failed_search_leaves_no_cycle(mock, image):
    """Its picture is freed with its error, not when the collector comes by."""
    async with client_of(mock.url) as client:

        async def fail() -> None:
            with pytest.raises(errors.NotFoundError):
                await client.search_active_user(image)

        def errors_alive() -> int:
            return sum(type(one) is errors.NotFoundError for one in gc.get_objects())

        mock.script(*[Fault.status(404)] * 11)
        await fail()
        gc.collect()
        before = errors_alive()
        gc.disable()
        try:
            for _ in range(10):
                await fail()
            assert errors_alive() == before
        finally:
            gc.enable()


@pytest.mark.parametrize("status", [502, 429, 401])
async def test_a_refusal_too_large_to_read_stays_a_refusal(status, image):
    """The status says all that is needed; the limit is for answers."""
    seen: list[Attempt] = []

    async def answer(request, writer):
        if request.number == 1:
            head = b"HTTP/1.1 %d X\r\nContent-Length: 5000\r\n\r\n" % status
            writer.write(head + bytes(5000))
        else:
            writer.write(OK)

    tokens = iter(["old", "new"])
    async with (
        raw_server(answer) as server,
        VerifikClient(
            lambda: next(tokens),
            base_url=server.url,
            defaults=OPTIONS,
            retry=QUICK,
            max_response_bytes=1000,
            on_attempt=seen.append,
        ) as client,
    ):
        result = await client.search_active_user(image)
    assert result.call.maybe_charged == (status == 502)
    assert [attempt.status for attempt in seen] == [status, 200]


@pytest.mark.parametrize("header", ["0", "soon", "Mon, 01 Jan 2001 00:00:00 GMT"])
async def test_a_503_with_a_useless_retry_after_is_a_throttle(header, mock, image):
    """It pauses everybody by backoff, and is not one of the attempts."""
    policy = attrs.evolve(QUICK, attempts=2)
    async with client_of(mock.url, retry=policy) as client:
        mock.script(*[Fault.status(503, retry_after=header)] * 4)
        result = await client.search_active_user(image)
    assert (result.call.attempts, result.call.throttled) == (1, 4)


async def test_a_call_that_had_its_slot_is_not_shed(image):
    """A throttle while it waits for its permit sends it to the queue, full or not."""

    class Slow:
        permits = 0

        async def acquire(self) -> None:
            self.permits += 1
            await asyncio.sleep(0.1 * self.permits)

        def pause(self, seconds: float) -> None:
            assert seconds > 0

    async with (
        MockVerifik() as mock,
        client_of(
            mock.url, max_concurrency=2, max_waiting=0, rate_limit=Slow()
        ) as client,
    ):
        mock.script(Fault.status(429, retry_after="0.3"))
        async with asyncio.TaskGroup() as tasks:
            for _ in range(2):
                tasks.create_task(client.search_active_user(image))
    assert client.stats().answered == 2


@pytest.mark.parametrize("arguments", [{"retry": False}, {"timeouts": 0}])
async def test_settings_of_a_call_that_are_falsy(arguments, client, mock, image):
    """They are refused, not taken for 'not given'."""
    with pytest.raises(ConfigurationError):
        await client.search_active_user(image, **arguments)
    assert mock.hits == 0


async def test_a_memory_map_is_bytes(client, mock, image):
    """It has read() too, but a position in it means nothing."""
    with tempfile.TemporaryFile() as file:
        file.write(image)
        file.flush()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            for _ in range(2):
                await client.search_active_user(mapped)
    assert {request.image_bytes for request in mock.requests} == {len(image)}


async def test_a_session_that_cannot_be_used(mock, image):
    """What aiohttp raises of it shows the header in its frames: it stays inside."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer versions of aiohttp advise against it
        session = aiohttp.ClientSession(auth=aiohttp.BasicAuth("user", "password"))
    async with session, client_of(mock.url, session=session) as client:
        with pytest.raises(ConfigurationError, match="session") as caught:
            await client.search_active_user(image)
    assert caught.value.__context__ is None
    assert mock.hits == 0


async def test_a_dropped_search_keeps_its_slot(image):
    """It has waited its turn: it does not queue a second time."""

    async def answer(request, writer):
        if request.number == 2:
            writer.close()
        else:
            writer.write(OK)

    async with (
        raw_server(answer) as server,
        client_of(server.url, max_concurrency=1) as client,
    ):
        await client.search_active_user(image)
        order: list[int] = []

        async def search(number: int) -> None:
            await client.search_active_user(image)
            order.append(number)

        async with asyncio.TaskGroup() as tasks:
            for number in range(4):
                tasks.create_task(search(number))
    assert order == [0, 1, 2, 3]


async def test_bytes_that_never_left_are_not_sent(image):
    """A reset throws away what waits in our buffer: the last byte was not sent."""
    policy = RetryPolicy(attempts=1)

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.1)
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=4096)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, client_of(url, retry=policy) as client:
        with pytest.raises(errors.ConnectionLostError) as caught:
            await client.search_active_user(image * 900)
    assert caught.value.charge is Charge.NOT_SENT
    assert isinstance(caught.value, errors.TransportError)


async def test_a_search_that_ends_late_leaves_the_connection_to_its_heir():
    """Cancelled in the tick after its answer: another search has it by then."""
    searches = {}

    async def answer(request, writer) -> None:
        if request.number > 1:
            await asyncio.sleep(0.05)
            writer.write(OK)
            return
        writer.write(OK[:-11])
        await asyncio.sleep(0.1)
        writer.write(OK[-11:])

        def beside() -> None:
            searches["heir"] = loop.create_task(client.search_active_user(b"B" * 50))
            loop.call_soon(searches["first"].cancel)

        loop.call_soon(beside)

    loop = asyncio.get_running_loop()
    once = RetryPolicy(attempts=1)
    async with (
        raw_server(answer) as server,
        client_of(server.url, retry=once) as client,
    ):
        searches["first"] = loop.create_task(client.search_active_user(b"A" * 50))
        await asyncio.wait([searches["first"]])
        assert (await searches["heir"]).call.attempts == 1
    assert len(server.requests) == 2


@pytest.mark.parametrize("kind", [KeyError, AttributeError, ValueError, Exception])
async def test_a_bug_in_a_trace_is_told_as_one(mock, image, kind):
    """Its class is named, and what the search may have cost."""

    async def broken(*_) -> None:
        raise kind("in the caller's hook")

    trace = aiohttp.TraceConfig()
    trace.on_request_end.append(broken)
    async with client_of(mock.url, trace_configs=[trace]) as client:
        with pytest.raises(ConfigurationError, match=kind.__name__) as caught:
            await client.search_active_user(image)
    assert caught.value.charge is Charge.MAYBE_CHARGED
    assert mock.hits == 1
