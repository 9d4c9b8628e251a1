"""What `on_search` is told of, over sockets."""

import asyncio
import contextvars

import aiohttp
import pytest
from support import client_of

from verifik_async import (
    Attempt,
    AttemptTimeoutError,
    Charge,
    DeadlineExceededError,
    ImageError,
    NotFoundError,
    Pause,
    RetryPolicy,
    SearchEnd,
    Slot,
    Timeouts,
)
from verifik_async.testing import Fault

TAKEN, LEFT = Slot(taken=True), Slot(taken=False)


class Notes:
    """Every search with all that was told of it."""

    def __init__(self):
        self.searches = []

    def __call__(self):
        """Begin a search."""
        self.searches.append([])
        return self.searches[-1].append


def kinds(events):
    """Return the classes of events, slots apart."""
    return [type(event) for event in events if not isinstance(event, Slot)]


async def test_a_search_that_succeeds(mock, image):
    """A slot, a request, the slot back, the end with what it took."""
    notes = Notes()
    mock.enroll("person-1", image)
    async with client_of(mock.url, on_search=notes) as client:
        result = await client.search_active_user(image)
    [[taken, attempt, left, end]] = notes.searches
    assert (taken, left) == (TAKEN, LEFT)
    assert isinstance(attempt, Attempt)
    assert (attempt.status, attempt.number) == (200, 1)
    assert (end.matches, end.error, end.charge) == (1, None, Charge.ANSWERED)
    assert (end.call.attempts, end.call.status) == (result.call.attempts, 200)


async def test_what_a_search_waits_for(mock, image):
    """Waits that an answer brought are told with their reason, and add up."""
    notes = Notes()
    mock.script(Fault.status(429, retry_after="0.1"), Fault.status(503))
    async with client_of(mock.url, on_search=notes) as client:
        await client.search_active_user(image)
    [events] = notes.searches
    assert kinds(events) == [Attempt, Pause, Attempt, Pause, Attempt, SearchEnd]
    pauses = [event for event in events if isinstance(event, Pause)]
    assert [pause.reason for pause in pauses] == ["pause", "backoff"]
    end = events[-1]
    assert (end.call.throttled, end.call.attempts) == (1, 2)
    assert end.call.waited_s == pytest.approx(sum(p.seconds for p in pauses))
    assert pauses[0].seconds > 0.05
    # Each wait is without a slot.
    slots = [event for event in events if isinstance(event, Slot)]
    assert slots == [TAKEN, LEFT] * 3


@pytest.mark.parametrize(
    ("fault", "error", "charge", "status"),
    [
        (Fault.status(404), NotFoundError, Charge.ANSWERED, 404),
        (Fault.stall(), AttemptTimeoutError, Charge.MAYBE_CHARGED, None),
    ],
)
async def test_a_search_that_fails(mock, image, fault, error, charge, status):
    """The error's class and charge are told, and nothing else of it."""
    notes = Notes()
    mock.script(fault)
    async with client_of(
        mock.url, on_search=notes, timeouts=Timeouts(attempt=0.2)
    ) as client:
        with pytest.raises(error):
            await client.search_active_user(image)
    [events] = notes.searches
    assert kinds(events) == [Attempt, SearchEnd]
    end = events[-1]
    assert (end.error, end.charge, end.matches) == (error.__name__, charge, 0)
    assert end.call.status == status


async def test_a_search_that_is_cancelled_on_the_wire(mock, image):
    """It has an end as well, and may have been charged."""
    notes = Notes()
    mock.script(Fault.stall())
    async with client_of(mock.url, on_search=notes) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await client.search_active_user(image)
    [events] = notes.searches
    assert events[0::2] == [TAKEN, LEFT]
    end = events[-1]
    assert (end.error, end.charge) == ("CancelledError", Charge.MAYBE_CHARGED)


async def test_a_search_that_never_leaves_the_queue(mock, image):
    """It takes no slot and costs nothing."""
    notes = Notes()
    mock.latency = 0.3
    async with (
        client_of(mock.url, on_search=notes, max_concurrency=1) as client,
        asyncio.TaskGroup() as group,
    ):
        first = group.create_task(client.search_active_user(image))
        while not mock.in_flight:
            await asyncio.sleep(0.005)
        with pytest.raises(DeadlineExceededError):
            await client.search_active_user(image, deadline=0.05)
        await first
    [end] = notes.searches[1]
    assert (end.error, end.charge) == ("DeadlineExceededError", Charge.NOT_SENT)
    assert end.call.queued_s > 0.04


async def test_a_picture_that_can_not_be_read(mock, tmp_path):
    """It takes a slot and gives it back, without a request."""
    notes = Notes()
    async with client_of(mock.url, on_search=notes) as client:
        with pytest.raises(ImageError):
            await client.search_active_user(tmp_path / "missing.jpg")
    [events] = notes.searches
    assert kinds(events) == [SearchEnd]
    assert events[:2] == [TAKEN, LEFT]
    assert mock.hits == 0


async def test_all_searches_of_a_batch(mock, image):
    """Each has its own observer and one end."""
    notes = Notes()
    pictures = [image + bytes([number]) for number in range(50)]
    async with (
        client_of(mock.url, on_search=notes) as client,
        client.search_many(pictures, concurrency=8) as outcomes,
    ):
        assert [o.ok async for o in outcomes] == [True] * 50
    # Those that waited while the first answer was looked at say so.
    told = [[kind for kind in kinds(s) if kind is not Pause] for s in notes.searches]
    assert told == [[Attempt, SearchEnd]] * 50


@pytest.mark.parametrize("breaks", ["on_search", "told"])
async def test_a_bug_in_it_costs_no_answer(mock, image, caplog, breaks):
    """It is logged by its class and ignored."""

    def broken(*_):
        raise RuntimeError("secret of the callback")

    on_search = broken if breaks == "on_search" else lambda: broken
    async with client_of(mock.url, on_search=on_search) as client:
        assert (await client.search_active_user(image)).call.status == 200
    assert "on_search raised RuntimeError" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("event", [TAKEN, LEFT, Attempt, SearchEnd], ids=repr)
async def test_a_cancelled_future_in_it_cancels_no_search(mock, image, event):
    """Neither an answer nor a slot is lost to an observer that asks such a future."""

    def told(got):
        if event in (got, type(got)):
            raise asyncio.CancelledError

    async with client_of(mock.url, on_search=lambda: told, max_concurrency=1) as client:
        for _ in range(2):
            assert (await client.search_active_user(image)).call.status == 200


async def test_what_ends_a_program_takes_no_slot_with_it(mock, image):
    """An observer may raise what is no `Exception`: the slot is given back."""
    errors = [SystemExit()]

    def told(event):
        if event == TAKEN and errors:
            raise errors.pop()

    async with client_of(mock.url, on_search=lambda: told, max_concurrency=1) as client:
        search = client.search_active_user(image)
        with pytest.raises(SystemExit):
            await search
        assert (await client.search_active_user(image)).call.status == 200


async def test_searches_that_nobody_wants_to_know_of(mock, image):
    """None in place of an observer leaves a search alone."""
    async with client_of(mock.url, on_search=lambda: None) as client:
        assert (await client.search_active_user(image)).call.status == 200


async def test_context_variables_reach_the_request(mock, image):
    """What it sets is seen by the tracing of HTTP, until the end takes it back."""
    current = contextvars.ContextVar("current", default="nothing")
    seen = []

    def on_search():
        token = current.set("a search")

        def told(event):
            if isinstance(event, SearchEnd):
                current.reset(token)

        return told

    async def note(*_):
        seen.append(current.get())

    config = aiohttp.TraceConfig()
    config.on_request_start.append(note)
    async with client_of(
        mock.url, on_search=on_search, trace_configs=[config]
    ) as client:
        await client.search_active_user(image)
    assert seen == ["a search"]
    assert current.get() == "nothing"


async def test_endless_waits_for_the_service_are_told(mock, image):
    """A search that gives up for a throttle says so by its error."""
    notes = Notes()
    mock.script(Fault.status(429, retry_after="60"))
    async with client_of(
        mock.url, on_search=notes, retry=RetryPolicy(max_retry_after=1)
    ) as client:
        with pytest.raises(Exception, match="429"):
            await client.search_active_user(image)
    [events] = notes.searches
    assert events[-1].error == "RateLimitedError"
    assert events[-1].call.throttled == 1
