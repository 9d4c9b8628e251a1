"""Deadlines, attempts, throttles, dropped connections: what is sent again and when."""

import asyncio
import contextlib
import datetime as dt
import email.utils
import socket
import time

import attrs
import pytest
from support import OPTIONS, QUICK, TOKEN, client_of
from support.raw_server import OK, raw_server

from verifik_async import (
    Charge,
    RateLimit,
    RetryPolicy,
    Timeouts,
    VerifikClient,
    errors,
)
from verifik_async.testing import Fault, MockVerifik


async def test_a_deadline_bounds_the_whole_call(mock, image):
    """A hung server costs the deadline and says that it may have charged."""
    mock.script(Fault.stall(), Fault.stall())
    async with client_of(mock.url) as client:
        began = time.monotonic()
        with pytest.raises(errors.DeadlineExceededError) as caught:
            await client.search_active_user(image, deadline=0.3)
        assert 0.3 <= time.monotonic() - began < 0.6
    assert caught.value.charge is Charge.MAYBE_CHARGED
    assert caught.value.attempts == 1
    assert isinstance(caught.value, TimeoutError)


async def test_an_attempt_that_timed_out_after_the_last_byte_is_not_sent_again(
    mock, image
):
    """It may have been charged: sending it again is the caller's choice."""
    mock.script(Fault.stall())
    async with client_of(mock.url, timeouts=Timeouts(attempt=0.2)) as client:
        with pytest.raises(errors.AttemptTimeoutError) as caught:
            await client.search_active_user(image)
    assert caught.value.charge is Charge.MAYBE_CHARGED
    assert mock.hits == 1


async def test_retry_maybe_charged_is_that_choice(mock, image):
    """With it the search goes on, and the result tells what it may have cost."""
    mock.script(Fault.stall(), Fault.drop_before_headers())
    policy = attrs.evolve(QUICK, retry_maybe_charged=True)
    async with client_of(
        mock.url, timeouts=Timeouts(attempt=0.3), retry=policy
    ) as client:
        result = await client.search_active_user(image)
    assert result.call.attempts == 3
    assert result.call.maybe_charged == 2


async def test_a_stall_in_mid_answer_may_have_been_charged(mock, image):
    """The status came, the answer did not."""
    mock.script(Fault.stall_after_headers())
    async with client_of(mock.url, timeouts=Timeouts(attempt=0.2)) as client:
        with pytest.raises(errors.AttemptTimeoutError) as caught:
            await client.search_active_user(image)
    assert caught.value.charge is Charge.MAYBE_CHARGED


async def test_a_server_that_stops_reading_was_not_sent_the_search(image):
    """The last byte was never written: nothing is charged, it is sent again."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        policy = attrs.evolve(QUICK, attempts=2)
        timeouts = Timeouts(attempt=0.2)
        async with client_of(url, timeouts=timeouts, retry=policy) as client:
            with pytest.raises(errors.AttemptTimeoutError) as caught:
                await client.search_active_user(image * 900)  # more than buffers hold
    assert caught.value.charge is Charge.NOT_SENT
    assert caught.value.attempts == 2


async def test_refused_connections_are_tried_again(image):
    """Nothing arrived, so nothing was charged; host, port and errno are told."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    async with client_of(f"http://127.0.0.1:{port}") as client:
        with pytest.raises(errors.ConnectError) as caught:
            await client.search_active_user(image)
        assert client.stats().attempts == 0
    error = caught.value
    assert (error.host, error.port, error.attempts) == ("127.0.0.1", port, 4)
    assert error.errno is not None
    assert error.cause == "ClientConnectorError"
    assert error.charge is Charge.NOT_SENT


async def test_connecting_has_a_limit_of_its_own(image):
    """A TLS handshake that hangs ends after `connect`, as never sent."""
    async with raw_server() as server:
        policy, timeouts = attrs.evolve(QUICK, attempts=1), Timeouts(connect=0.2)
        url = server.url.replace("http:", "https:")
        async with client_of(url, retry=policy, timeouts=timeouts) as client:
            began = time.monotonic()
            with pytest.raises(errors.ConnectError) as caught:
                await client.search_active_user(image)
            assert time.monotonic() - began < 1.0
    assert caught.value.charge is Charge.NOT_SENT


async def test_a_dropped_idle_connection_costs_one_resend(image):
    """A server that drops every second reuse unread: no error, one resend each."""

    async def answer(request, writer):
        if request.number_on_connection == 2:
            writer.close()
        else:
            writer.write(OK)

    async with raw_server(answer) as server, client_of(server.url) as client:
        infos = [(await client.search_active_user(image)).call for _ in range(20)]
        assert client.stats().resent == sum(info.attempts == 2 for info in infos) == 10
    assert all(info.maybe_charged == info.attempts - 1 for info in infos)


async def test_dropped_idle_connections_side_by_side(image):
    """The resend goes over a fresh connection: the other kept ones may be gone too."""

    async def answer(request, writer):
        await asyncio.sleep(0.002)
        if request.number_on_connection % 2 == 0:
            writer.close()
        else:
            writer.write(OK)

    async with raw_server(answer) as server, client_of(server.url) as client:
        outcomes = await client.search_all([image] * 300)
        stats = client.stats()
    drops = sum(r.number_on_connection % 2 == 0 for r in server.requests)
    assert all(outcome.ok for outcome in outcomes)
    assert drops > 50
    assert stats.resent == drops == len(server.requests) - 300


@pytest.mark.parametrize("cut", [0, 9, 60, len(OK) - 1])
async def test_a_connection_lost_later_is_not_sent_again(cut, image):
    """Dropped when fresh, or with an answer begun: it may have been charged."""

    async def answer(_, writer):
        writer.write(OK[:cut])
        writer.close()

    async with raw_server(answer) as server, client_of(server.url) as client:
        with pytest.raises(errors.ConnectionLostError) as caught:
            await client.search_active_user(image)
    assert caught.value.charge is Charge.MAYBE_CHARGED
    assert len(server.requests) == 1


async def test_an_answer_begun_on_a_reused_connection_is_not_sent_again(image):
    """Only 'no byte of an answer' is proof enough that an idle one was dropped."""

    async def answer(request, writer):
        if request.number == 1:
            writer.write(OK)
        else:
            writer.write(OK[:9])
            writer.close()

    async with raw_server(answer) as server, client_of(server.url) as client:
        await client.search_active_user(image)
        with pytest.raises(errors.ConnectionLostError):
            await client.search_active_user(image)
    assert len(server.requests) == 2


async def test_bytes_that_are_no_http(client, mock, image):
    """Garbage is a lost connection, not a crash of the parser."""
    mock.script(Fault.garbage())
    with pytest.raises(errors.ConnectionLostError) as caught:
        await client.search_active_user(image)
    assert caught.value.charge is Charge.MAYBE_CHARGED


async def test_an_early_answer_during_the_upload_arrives(image):
    """A 413 that comes before the body is through is a status, and ends it."""
    early = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    ended = asyncio.Event()

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(early)
        with contextlib.suppress(ConnectionError):
            while await reader.read(65_536):
                pass
        writer.close()
        ended.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, client_of(url) as client:
        with pytest.raises(errors.APIStatusError) as caught:
            await client.search_active_user(image * 900)
        await ended.wait()
    assert caught.value.status == 413
    assert caught.value.charge is Charge.ANSWERED


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("0.3", 0.3, 0.6),
        ("1", 1.0, 1.3),
        ("1.5", 1.5, 1.8),
        ("in 2 s", 1.0, 2.3),  # a date has whole seconds
        ("0", 0, 0.3),
        ("-5", 0, 0.3),
        ("abc", 0, 0.3),
        ("a minute ago", 0, 0.3),
    ],
)
async def test_throttles_are_waited_out(header, least, most, image):
    """Retry-After is a lower bound; junk, zero and the past fall back to backoff."""
    now = dt.datetime.now(dt.UTC)
    dates = {
        "in 2 s": now + dt.timedelta(seconds=2),
        "a minute ago": now - dt.timedelta(minutes=1),
    }
    if header in dates:
        header = email.utils.format_datetime(dates[header], usegmt=True)
    async with MockVerifik() as mock, client_of(mock.url) as client:
        mock.script(Fault.status(429, retry_after=header))
        began = time.monotonic()
        result = await client.search_active_user(image)
        assert least <= time.monotonic() - began <= most
    assert (result.call.attempts, result.call.throttled) == (1, 1)
    assert least - 0.01 <= result.call.waited_s <= most


@pytest.mark.parametrize("before", [1, 2, 5])
async def test_a_throttle_among_a_few_is_waited_out_and_no_longer(before, image):
    """However few were searched before: what the service asks for is enough."""
    async with MockVerifik() as mock, client_of(mock.url) as client:
        for _ in range(before):
            await client.search_active_user(image)
            await asyncio.sleep(0.2)
        for _ in range(2):
            mock.script(Fault.status(429, retry_after="0.5"))
            began = time.monotonic()
            await client.search_active_user(image)
            assert 0.5 <= time.monotonic() - began <= 0.75


async def test_a_503_with_retry_after_is_a_throttle(client, mock, image):
    """It is not one of the attempts."""
    mock.script(*[Fault.status(503, retry_after="0.02")] * 6)
    result = await client.search_active_user(image)
    assert (result.call.attempts, result.call.throttled) == (1, 6)


async def test_one_throttle_pauses_everyone(mock, image):
    """While the service wants quiet nobody sends."""
    async with client_of(mock.url) as client:
        mock.script(Fault.status(429, retry_after="0.4"))
        first = client.search_active_user(image)
        began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(first)
            while mock.hits == 0:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            tasks.create_task(client.search_active_user(image))
        assert time.monotonic() - began >= 0.4
        assert client.stats().throttled == 1
        assert mock.hits == 3


async def test_a_pause_too_long_ends_the_call_and_those_that_follow(mock, image):
    """Above `max_retry_after` nothing waits, and nothing more is sent."""
    async with client_of(mock.url) as client:
        mock.script(Fault.status(429, retry_after="86400"))
        with pytest.raises(errors.RateLimitedError) as caught:
            await client.search_active_user(image)
        assert caught.value.retry_after == 86400
        with pytest.raises(errors.RateLimitedError) as caught:
            await client.search_active_user(image)
    assert caught.value.retry_after == pytest.approx(86400, abs=5)
    assert caught.value.charge is Charge.NOT_SENT
    assert mock.hits == 1


async def test_a_503_that_asks_for_too_long_a_pause_is_a_rate_limit(mock, image):
    """Whoever catches `RateLimitedError` to come back later catches both."""
    async with client_of(mock.url) as client:
        mock.script(Fault.status(503, retry_after="86400"))
        with pytest.raises(errors.RateLimitedError) as caught:
            await client.search_active_user(image)
    assert (caught.value.status, caught.value.retry_after) == (503, 86400)
    assert caught.value.charge is Charge.ANSWERED


async def test_a_throttled_search_finds_its_place_in_a_full_queue(mock, image):
    """`max_waiting` sheds new searches, not those that were on the wire already."""
    async with client_of(mock.url, max_concurrency=2, max_waiting=0) as client:
        mock.script(*[Fault.status(429, retry_after="0.1")] * 2)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(2):
                tasks.create_task(client.search_active_user(image))
    assert client.stats().answered == 2


async def test_a_pause_longer_than_the_deadline_ends_at_once(mock, image):
    """Waiting for what can't be reached is no service to anybody."""
    async with client_of(mock.url) as client:
        mock.script(Fault.status(429, retry_after="30"))
        began = time.monotonic()
        with pytest.raises(errors.RateLimitedError):
            await client.search_active_user(image, deadline=2.0)
        assert time.monotonic() - began < 0.5


async def test_endless_throttles_end_with_the_deadline(image):
    """The last status is named."""
    async with (
        MockVerifik(rate=0.001, burst=1, retry_after=None) as mock,
        client_of(mock.url) as client,
    ):
        await client.search_active_user(image)
        with pytest.raises(errors.DeadlineExceededError) as caught:
            await client.search_active_user(image, deadline=0.3)
    assert caught.value.last_status == 429
    assert "last status 429" in str(caught.value)


async def test_endless_throttles_end_without_a_deadline_too(image):
    """Then `outage_limit` is the bound."""
    policy = RetryPolicy(base_delay=0.01, max_delay=0.02, outage_limit=0.3)
    async with (
        MockVerifik(rate=0.001, burst=1, retry_after=None) as mock,
        client_of(mock.url, retry=policy) as client,
    ):
        await client.search_active_user(image)
        with pytest.raises(errors.RateLimitedError) as caught:
            await client.search_active_user(image, deadline=None)
    assert caught.value.status == 429


@pytest.mark.parametrize("header", ["1", None])
async def test_a_storm_loses_nobody_and_is_no_siege(header, image):
    """120 searches at once at 40/s: all answered, and the limit is kept to."""
    async with (
        MockVerifik(rate=40, burst=40, retry_after=header) as mock,
        VerifikClient(TOKEN, base_url=mock.url, defaults=OPTIONS) as client,
    ):
        async with asyncio.TaskGroup() as tasks:
            for _ in range(120):
                tasks.create_task(client.search_active_user(image))
        stats = client.stats()
    assert (stats.answered, stats.failed) == (120, 0)
    assert stats.attempts + stats.throttled == mock.hits
    assert mock.hits <= 1.5 * 120
    assert 1 <= stats.window < 32


async def test_no_more_than_max_concurrency_at_once(image):
    """The semaphore holds, and the connections are as many."""
    async with (
        MockVerifik(latency=0.02) as mock,
        client_of(mock.url, max_concurrency=4) as client,
        asyncio.TaskGroup() as tasks,
    ):
        for _ in range(40):
            tasks.create_task(client.search_active_user(image))
    assert mock.max_in_flight == 4
    assert mock.connections == 4


async def test_time_in_the_queue_is_no_time_of_the_attempt(image):
    """200 searches, 10 at a time, 50 ms each: an attempt of 0.5 s is long enough."""
    async with (
        MockVerifik(latency=0.05) as mock,
        client_of(
            mock.url, max_concurrency=10, timeouts=Timeouts(attempt=0.5)
        ) as client,
    ):
        async with asyncio.TaskGroup() as tasks:
            searches = [
                tasks.create_task(client.search_active_user(image)) for _ in range(200)
            ]
        assert max(search.result().call.queued_s for search in searches) > 0.5
        assert mock.hits == 200


async def test_load_is_shed_at_max_waiting(image):
    """One more than may wait gets `QueueFullError` at once."""
    async with (
        MockVerifik(latency=0.3) as mock,
        client_of(mock.url, max_concurrency=1, max_waiting=1) as client,
    ):
        async with asyncio.TaskGroup() as tasks:
            for _ in range(2):
                tasks.create_task(client.search_active_user(image))
            await asyncio.sleep(0.05)
            assert (client.stats().in_flight, client.stats().waiting) == (1, 1)
            with pytest.raises(errors.QueueFullError):
                await client.search_active_user(image)
        assert mock.hits == 2


async def test_a_free_slot_sheds_nobody(image):
    """Not even right after the first answers of all."""
    async with (
        MockVerifik(latency=0.02) as mock,
        client_of(mock.url, max_concurrency=2, max_waiting=0) as client,
    ):
        for _ in range(5):
            async with asyncio.TaskGroup() as tasks:
                for _ in range(2):
                    tasks.create_task(client.search_active_user(image))


async def test_a_rate_limit_paces_the_searches(image):
    """25 searches at 100/s with a burst of 5: 0.2 s, and no throttle."""
    async with (
        MockVerifik(rate=110, burst=12) as mock,
        client_of(mock.url, rate_limit=RateLimit(100, burst=5)) as client,
    ):
        began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(25):
                tasks.create_task(client.search_active_user(image))
        assert time.monotonic() - began >= 0.19
        assert client.stats().throttled == 0
        assert mock.hits == 25


async def test_a_limiter_of_the_callers_own(mock, image):
    """It is asked once per request and told of every throttle."""

    class Counting:
        def __init__(self) -> None:
            self.permits = 0
            self.pauses: list[float] = []

        async def acquire(self) -> None:
            self.permits += 1

        def pause(self, seconds: float) -> None:
            self.pauses.append(seconds)

    limiter = Counting()
    async with client_of(mock.url, rate_limit=limiter) as client:
        mock.script(Fault.status(429, retry_after="0.1"))
        await client.search_active_user(image)
    assert limiter.permits == mock.hits == 2
    assert limiter.pauses == [pytest.approx(0.1, abs=0.02)]


async def test_what_a_limiters_pause_returns_is_awaited(mock, image):
    """By the search that was throttled, outside of its slot, before it waits itself."""
    told = []

    class Telling:
        async def acquire(self) -> None:
            """Let it go."""

        async def pause(self, seconds: float) -> None:
            await asyncio.sleep(0)
            told.append((seconds, client.stats().in_flight))

    async with client_of(mock.url, rate_limit=Telling()) as client:
        mock.script(Fault.status(429, retry_after="0.1"))
        await client.search_active_user(image)
    assert told == [(pytest.approx(0.1, abs=0.02), 0)]


async def test_the_deadline_bounds_what_a_limiters_pause_returns(mock, image):
    """Nobody waits for ever to tell others."""

    class Hanging:
        async def acquire(self) -> None:
            """Let it go."""

        async def pause(self, _: float) -> None:
            await asyncio.Event().wait()

    async with client_of(mock.url, rate_limit=Hanging()) as client:
        mock.script(Fault.status(429))
        with pytest.raises(errors.DeadlineExceededError):
            await client.search_active_user(image, deadline=0.2)
        assert client.stats().in_flight == 0


async def test_a_limiter_that_raises_costs_no_slot(mock, image):
    """Whether it raises when it is called or when it is awaited."""

    class Broken:
        def acquire(self) -> None:
            raise LookupError("no permit")

        def pause(self, seconds: float) -> None:
            """Take note."""

    async with client_of(mock.url, rate_limit=Broken(), max_concurrency=1) as client:
        for _ in range(3):
            with pytest.raises(LookupError, match="no permit"):
                await client.search_active_user(image)
        assert client.stats().in_flight == 0
    assert mock.hits == 0


async def test_a_resend_after_a_drop_counts_against_the_rate(image):
    """It is sent at once, and those that follow wait for it."""

    async def answer(request, writer):
        if request.number_on_connection == 2:
            writer.close()
        else:
            writer.write(OK)

    async with (
        raw_server(answer) as server,
        client_of(server.url, rate_limit=RateLimit(50, burst=1)) as client,
    ):
        began = time.monotonic()
        for _ in range(10):
            await client.search_active_user(image)
        assert len(server.requests) == 15
        assert time.monotonic() - began >= (15 - 2) / 50


async def test_cancelled_searches_give_everything_back(image):
    """After a storm of cancellations all slots and connections are free again."""
    async with (
        MockVerifik(latency=0.05) as mock,
        client_of(mock.url, max_concurrency=5) as client,
    ):
        for delay in (0, 0.001, 0.01, 0.03, 0.06):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(delay), asyncio.TaskGroup() as tasks:
                    for _ in range(50):
                        tasks.create_task(client.search_active_user(image))
            assert (client.stats().in_flight, client.stats().waiting) == (0, 0)
        result = await client.search_active_user(image)
        assert result.call.queued_s + result.call.waited_s < 0.05
        stats = client.stats()
        assert stats.attempts + stats.throttled >= stats.answered
