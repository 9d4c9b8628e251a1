"""Many searches: what comes out, in which order, and how a batch ends."""

import asyncio
import base64
import gc
import io
import pathlib
import time
import traceback
import weakref
from collections.abc import AsyncIterator, Iterator

import attrs
import pytest
from support import OPTIONS, QUICK, client_of

from verifik_async import (
    BatchStoppedError,
    BatchSummary,
    Charge,
    ClientClosedError,
    ConfigurationError,
    ConnectError,
    DeadlineExceededError,
    ImageError,
    InvalidRequestError,
    PaymentRequiredError,
    Probe,
    SearchOptions,
    ServerError,
    Timeouts,
    VerifikClient,
    errors,
)
from verifik_async.testing import Fault, MockVerifik


def pictures(count: int, size: int = 200) -> Iterator[bytes]:
    """Yield pictures, each another one."""
    return (number.to_bytes(4, "big") * (size // 4) for number in range(count))


async def later(items, pause: float = 0.0) -> AsyncIterator[object]:
    """Yield items from an asynchronous source."""
    for item in items:
        await asyncio.sleep(pause)
        yield item


async def outcomes_of(client: VerifikClient, probes, **settings):
    """Return all outcomes of a batch that ends normally, and its summary."""
    async with client.search_many(probes, **settings) as batch:
        return [outcome async for outcome in batch], batch.summary


async def until_stopped(batch):
    """Return what a batch yields before it is stopped, and the error of that."""
    yielded = []
    with pytest.raises(BatchStoppedError) as caught:
        async for outcome in batch:
            yielded.append(outcome)  # noqa: PERF401 - an error ends the loop
    return yielded, caught.value


# -- what comes out ------------------------------------------------------------------


@pytest.mark.parametrize("source", [list, iter, later], ids=["list", "iter", "async"])
@pytest.mark.parametrize("ordered", [False, True])
async def test_every_probe_has_one_outcome(source, ordered, image):
    """Whatever iterable they come from; with `ordered` in the order of the input."""
    async with MockVerifik(latency=(0.0, 0.02)) as mock, client_of(mock.url) as client:
        mock.enroll("person", image)
        probes = [image, *pictures(99)]
        outcomes, summary = await outcomes_of(client, source(probes), ordered=ordered)
    found = [outcome.index for outcome in outcomes]
    assert sorted(found) == list(range(100))
    assert (found == list(range(100))) is ordered
    [first] = [outcome for outcome in outcomes if outcome.index == 0]
    assert first.unwrap().best.id == "person"
    assert all(outcome.ok and outcome.state is Charge.ANSWERED for outcome in outcomes)
    assert (summary.answered, summary.failed, summary.attempts) == (100, 0, mock.hits)
    assert summary.stopped_by is None


async def test_an_empty_source(client, mock):
    """Nothing to do is done at once."""
    outcomes, summary = await outcomes_of(client, [])
    assert outcomes == []
    assert attrs.evolve(summary, elapsed_s=0.0) == BatchSummary()
    assert await client.search_all(later([])) == []
    assert mock.hits == 0


async def test_keys_and_contexts(client, image, tmp_path):
    """The caller's key, else the path's text, else the index; the context as it is."""
    path = tmp_path / "face.jpg"
    path.write_bytes(image)
    context = object()
    outcomes = await client.search_all(
        [
            image,
            path,
            Probe(image, key="mine", context=context),
            Probe(path, key=7),
            io.BytesIO(image),
            base64.b64encode(image).decode(),
        ]
    )
    assert [outcome.key for outcome in outcomes] == [0, str(path), "mine", 7, 4, 5]
    assert outcomes[2].context is context
    assert all(outcome.ok for outcome in outcomes)


async def test_a_bad_probe_is_an_outcome_like_others(client, mock, image, tmp_path):
    """Its error says that nothing was sent, and the rest goes on."""
    probes = [
        image,
        b"",
        5,
        tmp_path / "missing.jpg",
        Probe(image, min_score=7),
        Probe(image, key=1.5),
        Probe(image, key=True),
        Probe(image, extra={"os": "IOS"}),
        image,
    ]
    outcomes, summary = await outcomes_of(client, probes, ordered=True)
    kinds = [type(outcome.error) for outcome in outcomes]
    assert kinds == [
        type(None),
        *[ImageError] * 3,
        *[ConfigurationError] * 4,
        type(None),
    ]
    assert {o.state for o in outcomes[1:-1]} == {Charge.NOT_SENT}
    assert (summary.answered, summary.failed, summary.not_sent) == (2, 7, 7)
    assert summary.errors == {"ImageError": 3, "ConfigurationError": 4}
    assert mock.hits == 2
    with pytest.raises(ImageError):
        outcomes[1].unwrap()


async def test_what_a_probe_brings_goes_first(mock, image):
    """Probe before batch before client."""
    mock.enroll("person", image, collection_id="mine")
    async with client_of(mock.url) as client:
        view = client.with_options(
            defaults=SearchOptions(os="IOS", search_mode="FAST")  # no min_score
        )
        outcomes = await view.search_all(
            [Probe(image, min_score=0.9), Probe(image, collection_id="other"), image],
            collection_id="mine",
        )
    assert [type(outcome.error) for outcome in outcomes] == [
        type(None),
        ConfigurationError,
        ConfigurationError,
    ]
    assert [r.min_score for r in mock.requests] == [0.9]
    assert [r.collection_id for r in mock.requests] == ["mine"]


@pytest.mark.parametrize(
    ("probes", "settings", "named"),
    [
        ("text", {}, "probes must be an iterable of pictures, not one"),
        (b"bytes", {}, "probes"),
        (pathlib.Path("face.jpg"), {}, "probes"),
        (Probe(b"x"), {}, "probes"),
        (io.BytesIO(b"x"), {}, "probes"),
        (5, {}, "probes must be an iterable or an async iterable"),
        ([], {"concurrency": 0}, "concurrency"),
        ([], {"concurrency": True}, "concurrency"),
        ([], {"deadline": -1}, "deadline"),
        ([], {"max_searches": -1}, "max_searches"),
        ([], {"max_searches": 1.5}, "max_searches"),
        ([], {"ordered": "no"}, "ordered"),
        ([], {"coalesce": 1}, "coalesce"),
        ([], {"stop_on": (ValueError,)}, "stop_on"),
        ([], {"stop_on": "402"}, "stop_on"),
        ([], {"min_score": 0.1}, "min_score"),
        ([], {"os": "WINDOWS"}, "os"),
        ([], {"timeouts": 5}, "timeouts"),
    ],
)
async def test_wrong_arguments_are_refused_at_the_call(probes, settings, named, client):
    """Before anything is pulled or sent, and by name."""
    with pytest.raises(ConfigurationError, match=named):
        client.search_many(probes, **settings)


async def test_what_the_api_requires_is_required_at_the_call(mock):
    """But for min_score, which each probe may bring."""
    async with VerifikClient("t", base_url=mock.url) as client:
        with pytest.raises(ConfigurationError, match="os is required"):
            client.search_many([])
        with pytest.raises(ConfigurationError, match="search_mode is required"):
            client.search_many([], os="IOS")
        client.search_many([], os="IOS", search_mode="FAST")


async def test_a_batch_is_used_in_its_block_and_once(client, image):
    """Elsewhere it says so instead of hanging."""
    stopped = client.search_many([image])
    stopped.stop()  # before it begins: then it does not
    async with stopped:
        assert [outcome async for outcome in stopped] == []
    assert stopped.summary.stopped_by == "stop"
    batch = client.search_many([image])
    assert batch.summary == BatchSummary()
    with pytest.raises(ConfigurationError, match="async with"):
        await anext(batch)
    async with batch:
        assert (await anext(batch)).ok
    with pytest.raises(StopAsyncIteration):
        await anext(batch)
    with pytest.raises(ConfigurationError, match="entered once"):
        await batch.__aenter__()


# -- pulling ---------------------------------------------------------------------------


async def test_the_source_is_pulled_as_the_consumer_takes(image):
    """A consumer that stops soon stops the source, and tasks are bounded."""
    pulled = 0

    def source() -> Iterator[bytes]:
        nonlocal pulled
        while True:  # endless
            pulled += 1
            yield image

    async with (
        MockVerifik() as mock,
        client_of(mock.url, max_concurrency=8) as client,
        client.search_many(source()) as batch,
    ):
        taken = 0
        async for _ in batch:
            taken += 1
            assert pulled - taken <= 3 * 8
            names = [task.get_name() for task in asyncio.all_tasks()]
            assert sum(name.startswith("verifik-") for name in names) <= 8
            if taken == 50:
                await asyncio.sleep(0.2)
                held = pulled
                await asyncio.sleep(0.2)
                assert pulled == held
            if taken == 300:
                break


async def test_a_share_of_the_clients_concurrency(image):
    """`concurrency` bounds this batch, whatever the client allows."""
    async with MockVerifik(latency=0.02) as mock, client_of(mock.url) as client:
        await outcomes_of(client, [image] * 30, concurrency=3)
        assert mock.max_in_flight == 3


async def test_two_batches_share_the_slots(image):
    """The limit is the client's."""
    async with (
        MockVerifik(latency=0.02) as mock,
        client_of(mock.url, max_concurrency=4) as client,
        asyncio.TaskGroup() as tasks,
    ):
        for _ in range(2):
            tasks.create_task(outcomes_of(client, [image] * 30))
    assert mock.max_in_flight == 4
    assert client.stats().answered == 60


async def test_a_single_search_goes_before_a_batch(image):
    """Beside a running batch it waits for one slot at most."""
    async with (
        MockVerifik(latency=0.05) as mock,
        client_of(mock.url, max_concurrency=4) as client,
        client.search_many([image] * 400, concurrency=64) as batch,
    ):
        await anext(batch)
        for _ in range(5):
            result = await client.search_active_user(image)
            assert result.call.queued_s <= 0.1
        assert client.stats().waiting > 20


async def test_several_tasks_may_share_the_iteration(client):
    """Each outcome goes to one of them, and all see the end."""
    async with client.search_many(pictures(60)) as batch:

        async def consume() -> list[int]:
            return [outcome.index async for outcome in batch]

        async with asyncio.TaskGroup() as tasks:
            consumers = [tasks.create_task(consume()) for _ in range(3)]
    found = [index for consumer in consumers for index in consumer.result()]
    assert sorted(found) == list(range(60))


# -- equal searches --------------------------------------------------------------------


async def test_equal_searches_go_over_the_wire_once(image, tmp_path):
    """However the picture is given; other parameters are another search."""
    path, large = tmp_path / "small", tmp_path / "large"
    path.write_bytes(image)
    large.write_bytes(image * 100)
    probes = [
        *[image] * 20,
        base64.b64encode(image).decode(),
        path,
        io.BytesIO(image),
        Probe(image, key="same"),
        Probe(image, min_score=0.8),
        *[large] * 3,
        image * 100,
        Probe(b"other" * 50),
    ]
    async with MockVerifik(latency=0.02) as mock, client_of(mock.url) as client:
        outcomes, summary = await outcomes_of(client, probes, coalesce=True)
    assert mock.hits == 4
    assert (summary.answered, summary.coalesced) == (len(probes), len(probes) - 4)
    assert sum(outcome.call.attempts for outcome in outcomes) == 4


async def test_errors_are_not_shared(image):
    """Who waited for a search that failed searches itself."""
    async with MockVerifik() as mock, client_of(mock.url) as client:
        mock.script(Fault.status(404), Fault.status(404))
        _, summary = await outcomes_of(client, [image] * 10, coalesce=True)
    assert (summary.answered, summary.failed, summary.coalesced) == (8, 2, 7)
    assert mock.hits == 3


async def test_an_unusable_picture_among_equal_ones(client, mock, tmp_path):
    """What can't be read has no digest, and its outcome."""
    outcomes = await client.search_all([tmp_path / "none"] * 2, coalesce=True)
    assert [type(outcome.error) for outcome in outcomes] == [ImageError] * 2
    assert mock.hits == 0


# -- how it ends -----------------------------------------------------------------------


async def test_what_would_meet_every_search_stops_the_batch(image):
    """A 402 stops the sending at once; what was in flight comes out, then the error."""
    async with (
        MockVerifik(latency=0.01) as mock,
        client_of(mock.url) as client,
        client.search_many([image] * 1000) as batch,
    ):
        mock.script(*[None] * 100)
        for _ in range(50):
            assert (await anext(batch)).ok
        mock.faults = {Fault.status(402): 1.0}
        mock.reset()
        yielded, error = await until_stopped(batch)
        refused = sum(record.status == 402 for record in mock.requests)
        assert refused <= 33
        with pytest.raises(StopAsyncIteration):
            await anext(batch)
        summary = batch.summary
    assert isinstance(error.cause, PaymentRequiredError)
    assert error.summary.stopped_by == summary.stopped_by == "PaymentRequiredError"
    assert summary.answered + summary.failed == 50 + len(yielded)
    stopped = [o for o in yielded if isinstance(o.error, BatchStoppedError)]
    assert all(outcome.state is Charge.NOT_SENT for outcome in stopped)
    assert summary.not_sent == len(stopped)
    assert summary.attempts == client.stats().attempts


async def test_errors_that_do_not_stop(image):
    """`stop_on` is the caller's: others are outcomes, and so is a 402 without it."""
    async with MockVerifik() as mock, client_of(mock.url) as client:
        mock.script(*[Fault.status(402)] * 5)
        _, summary = await outcomes_of(client, [image] * 20, stop_on=())
        assert (summary.answered, summary.failed) == (15, 5)
        mock.script(Fault.status(404))
        async with client.search_many(
            pictures(100), stop_on=(errors.NotFoundError,)
        ) as batch:
            _, error = await until_stopped(batch)
        assert isinstance(error.cause, errors.NotFoundError)


async def test_one_renewal_of_the_token_in_mid_batch(image):
    """All who met the old one wait for the new one, and no search fails."""
    asked = 0

    async def token() -> str:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.02)
        return f"token-{asked}"

    async with (
        MockVerifik(latency=0.005, tokens=["token-1"]) as mock,
        VerifikClient(token, base_url=mock.url, defaults=OPTIONS) as client,
        client.search_many([image] * 300) as batch,
    ):
        async for outcome in batch:
            assert outcome.ok
            if batch.summary.answered == 100:
                mock.tokens = {"token-2"}
        assert batch.summary.answered == 300
    assert asked == 2


async def test_a_pause_longer_than_the_policy_stops_the_batch(image):
    """Nobody waits a day; what was not sent says so."""
    async with (
        MockVerifik() as mock,
        client_of(mock.url, max_concurrency=4) as client,
        client.search_many([image] * 100) as batch,
    ):
        mock.script(*[None] * 10, Fault.status(429, retry_after="86400"))
        yielded, error = await until_stopped(batch)
        assert mock.hits <= 10 + 4
    assert isinstance(error.cause, errors.RateLimitedError)
    assert error.cause.retry_after == pytest.approx(86400, abs=5)
    assert error.summary.stopped_by == "RateLimitedError"
    assert len(yielded) == error.summary.answered + error.summary.failed < 30


async def test_a_deadline_ends_the_batch_normally(image):
    """In time, with an outcome for all that was pulled, whether sent or not."""
    async with (
        MockVerifik(latency=0.1) as mock,
        client_of(mock.url, max_concurrency=4) as client,
    ):
        began = asyncio.get_running_loop().time()
        outcomes, summary = await outcomes_of(
            client, [image] * 1000, deadline=0.35, concurrency=8
        )
        assert 0.35 <= asyncio.get_running_loop().time() - began < 0.7
    assert summary.stopped_by == "deadline"
    late = [outcome for outcome in outcomes if not outcome.ok]
    assert {type(outcome.error) for outcome in late} == {DeadlineExceededError}
    assert "deadline of the batch" in str(late[0].error)
    assert {outcome.state for outcome in late} == {
        Charge.MAYBE_CHARGED,
        Charge.NOT_SENT,
    }
    assert summary.answered + summary.failed == len(outcomes)
    assert summary.maybe_charged + summary.not_sent == summary.failed == len(late)


async def test_a_deadline_ends_an_idle_source_too(image):
    """A source that has nothing to give does not hold the batch open."""

    async def idle() -> AsyncIterator[bytes]:
        yield image
        await asyncio.Event().wait()

    async with MockVerifik() as mock, client_of(mock.url) as client:
        outcomes, summary = await outcomes_of(client, idle(), deadline=0.2)
    assert len(outcomes) == 1
    assert summary.stopped_by == "deadline"


async def test_the_time_of_a_search_begins_with_its_slot(image):
    """Waiting in the batch never eats it: 40 searches one by one, 0.3 s for each."""
    async with (
        MockVerifik(latency=0.02) as mock,
        client_of(mock.url, max_concurrency=1) as client,
    ):
        outcomes, summary = await outcomes_of(
            client, [image] * 40, concurrency=40, timeouts=Timeouts(deadline=0.3)
        )
    assert summary.failed == 0
    assert max(outcome.call.queued_s for outcome in outcomes) > 0.4


async def test_stop_lets_what_is_on_the_wire_finish(image):
    """What waits for a slot is not sent any more; the iteration ends normally."""
    async with (
        MockVerifik(latency=0.1) as mock,
        client_of(mock.url, max_concurrency=4) as client,
        client.search_many([image] * 1000, concurrency=10) as batch,
    ):
        await anext(batch)
        batch.stop()
        batch.stop()
        rest = [outcome async for outcome in batch]
        assert mock.hits <= 8
        assert mock.in_flight == 0
    assert batch.summary.stopped_by == "stop"
    assert sum(outcome.ok for outcome in rest) == mock.hits - 1
    unsent = [outcome.error for outcome in rest if not outcome.ok]
    assert {type(error) for error in unsent} == {BatchStoppedError}
    assert {error.charge for error in unsent} == {Charge.NOT_SENT}


async def test_stop_ends_an_idle_source(image):
    """A worker that waits for a message is sent home."""

    async def idle() -> AsyncIterator[bytes]:
        yield image
        await asyncio.Event().wait()

    async with (
        MockVerifik() as mock,
        client_of(mock.url) as client,
        client.search_many(idle()) as batch,
    ):
        async for outcome in batch:
            assert outcome.ok
            batch.stop()
    assert batch.summary.answered == 1


async def test_stop_ends_a_pause(image):
    """Throttled searches are not waited for; they have been answered, with a 429."""
    async with (
        MockVerifik() as mock,
        client_of(mock.url, max_concurrency=2) as client,
        client.search_many([image] * 100) as batch,
    ):
        mock.script(*[Fault.status(429, retry_after="30")] * 2)
        while mock.hits < 2:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        async with asyncio.timeout(10):
            batch.stop()
            outcomes = [outcome async for outcome in batch]
    assert [outcome.state for outcome in outcomes] == [Charge.ANSWERED] * 2
    assert [outcome.call.throttled for outcome in outcomes] == [1, 1]


async def test_a_stopped_search_that_has_failed_already_keeps_its_error(image):
    """What waits to be sent again tells what happened, and not that it was stopped."""
    policy = attrs.evolve(QUICK, base_delay=3000.0, max_delay=3000.0)
    times = Timeouts(deadline=None)
    async with (
        MockVerifik() as mock,
        client_of(mock.url, retry=policy, max_concurrency=1, timeouts=times) as client,
        client.search_many([image] * 100) as batch,
    ):
        mock.script(Fault.status(502))
        while mock.hits < 1 or mock.in_flight:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        batch.stop()
        [outcome] = [outcome async for outcome in batch]
    assert isinstance(outcome.error, ServerError)
    assert (outcome.state, outcome.call.attempts) == (Charge.MAYBE_CHARGED, 1)


async def test_a_pause_beyond_the_deadline_of_the_batch(image):
    """Who has not been sent waits for the deadline; the source is not burnt through."""
    async with (
        MockVerifik() as mock,
        client_of(mock.url, max_concurrency=4) as client,
        client.search_many([image] * 1000, deadline=0.4) as batch,
    ):
        mock.script(Fault.status(429, retry_after="60"))
        outcomes = [outcome async for outcome in batch]
    assert len(outcomes) < 20
    assert batch.summary.stopped_by == "deadline"


@pytest.mark.parametrize("budget", [0, 1, 20])
async def test_a_budget_of_searches(budget):
    """Not one search more; resends are no searches, and nothing is pulled in vain."""
    async with MockVerifik() as mock, client_of(mock.url) as client:
        mock.script(Fault.status(500))
        outcomes, summary = await outcomes_of(
            client, pictures(100), max_searches=budget, concurrency=8
        )
    assert len(outcomes) == summary.answered == budget
    assert mock.hits == (budget + 1 if budget else 0)
    assert summary.stopped_by == "max_searches"


async def test_a_budget_is_not_spent_on_what_is_not_sent(image):
    """Unusable and equal pictures cost nothing of it."""
    probes = [b"", *[image] * 30, b"", *pictures(30)]
    async with MockVerifik() as mock, client_of(mock.url) as client:
        _, summary = await outcomes_of(
            client, iter(probes), max_searches=10, coalesce=True
        )
        assert mock.hits == 10
        assert summary.stopped_by == "max_searches"
        _, summary = await outcomes_of(client, [image] * 5, max_searches=5)
        assert summary.stopped_by is None  # as many as there were


@pytest.mark.parametrize("source", [iter, later], ids=["sync", "async"])
async def test_an_error_in_the_source_comes_out_as_it_is(source, image):
    """After what was in flight; nothing is left running."""

    class SourceError(Exception):
        pass

    def broken() -> Iterator[bytes]:
        yield from [image] * 5
        raise SourceError("mine")

    async with MockVerifik(latency=0.05) as mock, client_of(mock.url) as client:
        yielded = []
        with pytest.raises(SourceError, match="mine"):
            async with client.search_many(source(broken())) as batch:
                async for outcome in batch:
                    yielded.append(outcome)  # noqa: PERF401 - an error ends the loop
        assert len(yielded) == 5
        assert all(outcome.ok for outcome in yielded)
        assert client.stats().in_flight == 0


async def test_a_source_that_is_cancelled_loses_nothing_in_silence(image):
    """A source whose own task was cancelled is an error, not an end."""

    async def broken() -> AsyncIterator[bytes]:
        yield image
        raise asyncio.CancelledError

    async with MockVerifik() as mock, client_of(mock.url) as client:
        with pytest.raises(RuntimeError, match="source of probes was cancelled"):
            await outcomes_of(client, broken())


async def test_an_error_of_the_token_callable_comes_out_as_it_is(image):
    """It is the caller's; what was pulled was not sent."""

    async def token() -> str:
        raise LookupError("no vault")

    async with MockVerifik() as mock:
        async with VerifikClient(token, base_url=mock.url, defaults=OPTIONS) as client:
            with pytest.raises(LookupError, match="no vault"):
                await outcomes_of(client, [image] * 100)
        assert mock.hits == 0


@pytest.mark.parametrize("how", ["break", "raise", "cancel"])
async def test_leaving_the_block_leaves_nothing_running(how, image):
    """Every slot is back, and one more search works at once."""
    async with (
        MockVerifik(latency=0.05) as mock,
        client_of(mock.url, max_concurrency=8) as client,
    ):
        before = asyncio.all_tasks()

        async def run() -> None:
            async with client.search_many([image] * 1000) as batch:
                async for outcome in batch:
                    if outcome.index > 20 and how == "break":
                        break
                    if outcome.index > 20 and how == "raise":
                        raise KeyError("mine")

        task = asyncio.get_running_loop().create_task(run())
        if how == "cancel":
            await asyncio.sleep(0.2)
            task.cancel()
        await asyncio.wait([task], timeout=2)
        assert task.done()
        if how == "raise":
            assert isinstance(task.exception(), KeyError)
            assert task.exception().__context__ is None
        assert task.cancelled() is (how == "cancel")
        ours = {t for t in asyncio.all_tasks() - before if "verifik" in t.get_name()}
        assert ours == set()
        assert (client.stats().in_flight, client.stats().waiting) == (0, 0)
        assert (await client.search_active_user(image)).call.queued_s == 0.0


async def test_closing_the_client_stops_its_batches(image):
    """Searches get the grace; the rest was not sent; nobody waits in vain."""
    async with MockVerifik(latency=0.1) as mock:
        client = client_of(mock.url, max_concurrency=4)
        async with client.search_many([image] * 1000) as batch:
            await anext(batch)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(client.aclose())
                yielded, error = await until_stopped(batch)
    assert isinstance(error.cause, ClientClosedError)
    assert sum(outcome.ok for outcome in yielded) >= 3
    assert {o.state for o in yielded} <= {Charge.ANSWERED, Charge.NOT_SENT}


async def test_a_closed_client_and_a_setting_that_dooms_all(image, monkeypatch):
    """They are told at once, and not once per probe."""
    client = client_of("http://127.0.0.1:1")
    await client.aclose()
    with pytest.raises(ClientClosedError):
        await client.search_all([image] * 50)
    with pytest.raises(ClientClosedError):
        async with client.search_many([image] * 50):
            pass
    async with MockVerifik() as mock:
        async with VerifikClient(base_url=mock.url, defaults=OPTIONS) as client:
            async with client.search_many([image] * 1000) as batch:
                yielded, error = await until_stopped(batch)
            assert isinstance(error.cause, ConfigurationError)
            assert "token is required" in str(error.cause)
            assert len(yielded) <= 32
        assert mock.hits == 0
    monkeypatch.setenv("VERIFIK_BASE_URL", "ftp://nowhere")
    async with VerifikClient("t", defaults=OPTIONS) as client:
        with pytest.raises(ConfigurationError, match="base_url"):
            await client.search_all([image])


async def test_a_search_that_a_stop_leaves_on_the_wire_keeps_its_deadline(image):
    """It was sent, so it was not stopped: it ran out of time."""
    async with (
        MockVerifik() as mock,
        client_of(mock.url, timeouts=Timeouts(deadline=0.3)) as client,
        client.search_many([image] * 100, concurrency=2) as batch,
    ):
        mock.faults = {Fault.stall(): 1.0}
        while mock.hits < 2:
            await asyncio.sleep(0.01)
        batch.stop()
        outcomes = [outcome async for outcome in batch]
    assert [type(outcome.error) for outcome in outcomes] == [DeadlineExceededError] * 2
    assert {outcome.state for outcome in outcomes} == {Charge.MAYBE_CHARGED}


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_a_long_outage_stops_a_batch_of_few_workers(concurrency, image):
    """It is one outage for all its searches, however short their deadlines are."""
    policy = attrs.evolve(QUICK, base_delay=0.02, max_delay=0.05, outage_limit=1.0)
    async with MockVerifik() as mock:
        mock.faults = {Fault.status(500): 1.0}
        async with (
            client_of(
                mock.url, retry=policy, timeouts=Timeouts(deadline=0.4)
            ) as client,
            client.search_many([image] * 1000, concurrency=concurrency) as batch,
            asyncio.timeout(4),
        ):
            _, error = await until_stopped(batch)
    assert isinstance(error.cause, ServerError)


async def test_endless_throttles_stop_a_batch_and_all_calls_at_once(image):
    """Nobody waits for the limit after somebody else has.

    One after another the calls would take 16 s.
    """
    policy = attrs.evolve(QUICK, base_delay=0.01, max_delay=0.02, outage_limit=0.4)
    async with (
        MockVerifik() as mock,
        client_of(mock.url, retry=policy, timeouts=Timeouts(deadline=None)) as client,
        asyncio.timeout(8),
    ):
        mock.faults = {Fault.status(429): 1.0}
        async with client.search_many([image] * 1000) as batch:
            _, error = await until_stopped(batch)
        assert isinstance(error.cause, errors.RateLimitedError)
        async with asyncio.TaskGroup() as tasks:
            calls = [tasks.create_task(client.search_all([image])) for _ in range(40)]
    failures = [call.result()[0].error for call in calls]
    assert {type(failure) for failure in failures} == {errors.RateLimitedError}


@pytest.mark.parametrize("property_", ["path", "file"])
async def test_a_broken_object_is_one_outcome(property_, client, image):
    """Whatever it raises when it is looked at is that picture's fault."""

    class BrokenPath:
        def __fspath__(self) -> str:
            raise ZeroDivisionError

    class BrokenFile:
        @property
        def read(self) -> object:
            raise ZeroDivisionError

    broken = BrokenPath() if property_ == "path" else BrokenFile()
    outcomes = await client.search_all([image, broken, image])
    assert [outcome.ok for outcome in outcomes] == [True, False, True]
    assert isinstance(outcomes[1].error, ImageError)
    assert (outcomes[1].key, outcomes[1].state) == (1, Charge.NOT_SENT)


async def test_a_length_that_is_refused_is_not_needed(client, image):
    """Some iterables have one and do not tell it."""

    class Shy(list):
        def __len__(self) -> int:
            raise TypeError("no length")

    outcomes, _ = await outcomes_of(client, Shy([image] * 3), max_searches=9)
    assert len(outcomes) == 3


async def test_a_source_that_raises_the_end_of_iterations(client, image):
    """It is an error, and no end."""

    def broken() -> Iterator[bytes]:
        yield image
        raise StopAsyncIteration

    with pytest.raises(RuntimeError, match="raised StopAsyncIteration"):
        await client.search_all(broken())


class SlowFile(io.BytesIO):
    """A file on a slow disk."""

    def read(self, size: int = -1, /) -> bytes:
        time.sleep(0.8)
        return super().read(size)


@pytest.mark.parametrize("coalesce", [False, True])
async def test_a_slow_file_does_not_hold_the_deadline(coalesce, client, image):
    """Reading is part of the search, with `coalesce` as well; nothing was sent."""
    began = time.monotonic()
    [outcome] = await client.search_all(
        [SlowFile(image)], deadline=0.3, coalesce=coalesce
    )
    assert time.monotonic() - began < 0.7
    assert isinstance(outcome.error, DeadlineExceededError)
    assert outcome.state is Charge.NOT_SENT


async def test_files_that_were_not_read_in_time_cost_no_budget(mock, image):
    """What never had a connection was no search."""
    times = Timeouts(deadline=0.2)
    async with client_of(mock.url, timeouts=times, max_concurrency=1) as client:
        probes = [SlowFile(image), *[image] * 5]
        outcomes, summary = await outcomes_of(client, probes, max_searches=2)
    assert mock.hits == summary.answered == 2
    assert len(outcomes) == 3


async def test_search_all_does_not_wait_for_a_slow_source_after_its_deadline(
    client, image
):
    """An endless one would never let it return."""
    began = time.monotonic()
    outcomes = await client.search_all(later([image] * 50, pause=0.2), deadline=0.5)
    assert time.monotonic() - began < 1.0
    assert 1 <= len(outcomes) <= 3


async def test_no_picture_in_tracebacks_with_locals(mock):
    """Neither of our own errors nor of those that the caller's parts raise."""
    secret = b"SECRET-PICTURE" * 20

    async def token() -> str:
        raise LookupError("no vault")

    async def broken(client: VerifikClient) -> None:
        await outcomes_of(client, [secret] * 3)

    async with VerifikClient(token, base_url=mock.url, defaults=OPTIONS) as client:
        attempts = [
            lambda: client.search_all([secret], min_score=7),
            lambda: client.search_all([secret], concurrency=0),
            lambda: client.search_all(secret),
            lambda: client.search_all([secret]),
            lambda: broken(client),
        ]
        for attempt in attempts:
            with pytest.raises((ConfigurationError, LookupError)) as caught:
                await attempt()
            told = traceback.TracebackException.from_exception(
                caught.value, capture_locals=True
            )
            ours = [
                repr(frame.locals)
                for frame in told.stack
                if "verifik_async" in frame.filename and "/tests/" not in frame.filename
            ]
            assert ours
            assert "SECRET" not in "".join(ours)


async def test_what_is_not_taken_is_not_kept(image):
    """Outcomes with errors hold no picture, however long they are kept."""

    class Picture(io.BytesIO):
        pass

    seen: list[weakref.ref[Picture]] = []

    def source() -> Iterator[Picture]:
        for _ in range(5):
            picture = Picture(image)
            seen.append(weakref.ref(picture))
            yield picture
            del picture

    async with MockVerifik() as mock, client_of(mock.url) as client:
        mock.faults = {Fault.status(404): 1.0}
        kept = await client.search_all(source())
    gc.collect()
    assert len(kept) == 5
    assert [reference() for reference in seen] == [None] * 5


async def test_idle_workers_and_ended_batches_keep_no_picture(image):
    """A batch is kept for its summary, and a source may be idle for long."""

    class Picture(io.BytesIO):
        pass

    seen: list[weakref.ref[Picture]] = []

    async def source() -> AsyncIterator[Picture]:
        for _ in range(8):
            picture = Picture(image)
            seen.append(weakref.ref(picture))
            yield picture
            del picture
        await asyncio.Event().wait()

    async with MockVerifik() as mock, client_of(mock.url) as client:
        async with client.search_many(source()) as batch:
            for _ in range(8):
                await anext(batch)
            await asyncio.sleep(0.05)
            gc.collect()
            assert [reference() for reference in seen] == [None] * 8
        assert batch.summary.answered == 8


# -- outages ---------------------------------------------------------------------------


async def test_an_outage_pauses_the_batch_and_costs_no_attempts(image):
    """One request at a time asks whether it is over; then all are answered."""
    policy = attrs.evolve(QUICK, attempts=3, base_delay=0.05, max_delay=0.1)
    async with (
        MockVerifik() as mock,
        client_of(mock.url, retry=policy) as client,
        client.search_many([image] * 300) as batch,
    ):
        for _ in range(50):
            await anext(batch)
        mock.faults = {Fault.status(500): 1.0}
        mock.reset()
        await asyncio.sleep(1.0)
        assert mock.hits <= 32 + 40
        in_outage = mock.max_in_flight
        mock.faults = {}
        rest = [outcome async for outcome in batch]
    assert in_outage <= 32
    assert all(outcome.ok for outcome in rest)
    assert batch.summary.answered == 300


async def test_a_server_that_comes_back(image):
    """Refused connections are an outage like any other."""
    async with MockVerifik() as mock:
        port = int(mock.url.rpartition(":")[2])
    policy = attrs.evolve(QUICK, base_delay=0.05, max_delay=0.1)
    async with client_of(f"http://127.0.0.1:{port}", retry=policy) as client:

        async def serve() -> int:
            await asyncio.sleep(0.6)
            async with MockVerifik(port=port) as again:
                while again.hits < 100:
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.1)
                return again.hits

        async with asyncio.TaskGroup() as tasks:
            served = tasks.create_task(serve())
            outcomes, summary = await outcomes_of(client, [image] * 100)
    assert all(outcome.ok for outcome in outcomes)
    assert served.result() == summary.answered == 100


@pytest.mark.parametrize("fault", ["refused", "500"])
async def test_an_outage_that_lasts_too_long_stops_the_batch(fault):
    """`outage_limit` bounds it, and every probe that was pulled is accounted for."""
    policy = attrs.evolve(QUICK, base_delay=0.02, max_delay=0.05, outage_limit=0.5)
    pulled = 0

    def source() -> Iterator[bytes]:
        nonlocal pulled
        for picture in pictures(1000):
            pulled += 1
            yield picture

    async with MockVerifik() as mock:
        url = "http://127.0.0.1:1" if fault == "refused" else mock.url
        mock.faults = {Fault.status(500): 1.0}
        async with (
            client_of(url, retry=policy) as client,
            client.search_many(source()) as batch,
            asyncio.timeout(3),
        ):
            yielded, error = await until_stopped(batch)
    kind = ConnectError if fault == "refused" else ServerError
    assert isinstance(error.cause, kind)
    assert len(yielded) == pulled == error.summary.failed
    assert {type(outcome.error) for outcome in yielded} <= {kind, BatchStoppedError}
    charges = {o.state for o in yielded}
    assert Charge.MAYBE_CHARGED not in charges
    if fault == "refused":
        assert charges == {Charge.NOT_SENT}


async def test_single_calls_wait_for_the_end_of_an_outage(image):
    """Within their deadlines; beyond `outage_limit` they get the last error."""
    policy = attrs.evolve(QUICK, attempts=1, outage_limit=0.3)
    async with MockVerifik() as mock, client_of(mock.url, retry=policy) as client:
        mock.faults = {Fault.status(503): 1.0}
        for _ in range(10):
            with pytest.raises(ServerError):
                await client.search_active_user(image)
        with pytest.raises(DeadlineExceededError):
            await client.search_active_user(image, deadline=0.1)
        with pytest.raises(ServerError) as caught:
            await client.search_active_user(image, deadline=None)
        assert caught.value.status == 503
        mock.faults = {}
        result = await client.search_active_user(image)
    assert result.call.attempts >= 1


# -- all at once -----------------------------------------------------------------------


async def test_search_all_accounts_for_every_probe():
    """In the order of the input, those that a stop kept from being pulled included."""
    async with MockVerifik(latency=0.01) as mock, client_of(mock.url) as client:
        mock.script(*[None] * 40, Fault.status(402))
        outcomes = await client.search_all(
            [Probe(picture, key=f"k{n}") for n, picture in enumerate(pictures(500))]
        )
    assert [outcome.index for outcome in outcomes] == list(range(500))
    assert [outcome.key for outcome in outcomes] == [f"k{n}" for n in range(500)]
    assert {type(outcome.error) for outcome in outcomes} == {
        type(None),
        PaymentRequiredError,
        BatchStoppedError,
    }
    assert outcomes[-1].state is Charge.NOT_SENT


async def test_search_all_asks_an_asynchronous_source_to_its_end(image):
    """A stop does not tear the source down: the rest is still there, unsent."""
    async with MockVerifik() as mock, client_of(mock.url) as client:
        mock.script(Fault.status(402))
        outcomes = await client.search_all(later([image] * 20, pause=0.01))
    assert len(outcomes) == 20
    assert isinstance(outcomes[0].error, PaymentRequiredError)
    assert mock.hits < 20


async def test_search_all_within_a_deadline_and_a_budget(image):
    """Both end it; the rest says that it was not sent."""
    async with (
        MockVerifik(latency=0.05) as mock,
        client_of(mock.url, max_concurrency=2) as client,
    ):
        outcomes = await client.search_all([image] * 30, max_searches=4)
        assert [outcome.ok for outcome in outcomes] == [True] * 4 + [False] * 26
        assert mock.hits == 4
        outcomes = await client.search_all([image] * 30, deadline=0.12)
        assert len(outcomes) == 30
        assert outcomes[0].ok
        assert not outcomes[-1].ok


async def test_search_all_with_a_broken_source(client, image):
    """The caller's own error comes out."""

    def broken() -> Iterator[bytes]:
        yield image
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await client.search_all(broken())


async def test_outcomes_of_invalid_requests_do_not_stop(client, image):
    """A picture that the API refuses is that picture's business."""
    outcomes = await client.search_all([b"tiny", image])
    assert isinstance(outcomes[0].error, InvalidRequestError)
    assert outcomes[0].call.attempts == 1
    assert outcomes[1].ok
