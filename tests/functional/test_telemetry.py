"""Spans and metrics of searches, over sockets and with the SDK of OpenTelemetry."""

import asyncio
import contextlib
import contextvars
import logging
import pathlib
import subprocess
import sys
import threading

import pytest
from opentelemetry import context, metrics, trace
from opentelemetry.instrumentation.aiohttp_client import (
    AioHttpClientInstrumentor,
    create_trace_config,
)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from support import TOKEN, client_of

from verifik_async import (
    AttemptTimeoutError,
    DeadlineExceededError,
    ImageError,
    NotFoundError,
    Timeouts,
    VerifikError,
    __version__,
)
from verifik_async.integrations.otel import Telemetry
from verifik_async.testing import Fault, MockVerifik, assert_no_leaks

SPAN = "verifik.search_active_user"
PERSON, NAME = "person-of-the-tests", "Nadia Ferrante"
COLLECTION = "6f1c1f3e-0000-4000-8000-5d1f0a7c2b11"
INVALID = trace.INVALID_SPAN


class Exported:
    """An SDK of its own, and all that comes out of it."""

    def __init__(self, sampler=None):
        self._spans = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.traces = TracerProvider(sampler=sampler)
        self.traces.add_span_processor(SimpleSpanProcessor(self._spans))
        self.meters = MeterProvider([self._reader])
        self.tracer = self.traces.get_tracer("the tests")

    def telemetry(self):
        """Return what tells this SDK."""
        return Telemetry(tracer_provider=self.traces, meter_provider=self.meters)

    @property
    def spans(self):
        """All spans that are over."""
        return self._spans.get_finished_spans()

    def searches(self):
        """Return the spans of searches."""
        return [span for span in self.spans if span.name == SPAN]

    def metrics(self):
        """Return all metrics by name."""
        data = self._reader.get_metrics_data()
        return {
            metric.name: metric
            for resource in (data.resource_metrics if data else [])
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def points(self, name):
        """Return the attributes of each point of a metric, and its value or count."""
        metric = self.metrics().get(f"verifik.client.{name}")
        found = []
        for point in metric.data.data_points if metric else []:
            value = point.count if hasattr(point, "count") else point.value
            found.append((dict(point.attributes), value))
        return found

    def in_flight(self):
        """Return how many searches hold a slot."""
        [(attributes, value)] = self.points("in_flight")
        assert attributes == {}
        return value


@pytest.fixture
def exported():
    """An SDK whose spans and metrics stay in memory."""
    return Exported()


@pytest.fixture
async def watched(mock, exported):
    """A client that is watched."""
    async with client_of(
        mock.url, on_search=exported.telemetry(), timeouts=Timeouts(attempt=0.3)
    ) as client:
        yield client


def events(span, name):
    """Return the attributes of a span's events of that name."""
    return [dict(event.attributes) for event in span.events if event.name == name]


def nobody_is_current():
    """Tell whether no span is current."""
    return trace.get_current_span() is INVALID


# -- spans ---------------------------------------------------------------------


async def test_the_span_of_a_search_that_succeeds(mock, image, watched, exported):
    """One internal span that says what the search took, with its request inside."""
    mock.enroll("person-1", image)
    result = await watched.search_active_user(image)
    [span] = exported.spans
    assert (span.name, span.kind) == (SPAN, trace.SpanKind.INTERNAL)
    assert (span.parent, span.status.status_code) == (None, trace.StatusCode.UNSET)
    scope = span.instrumentation_scope
    assert (scope.name, scope.version) == ("verifik_async", __version__)
    assert dict(span.attributes) == {
        "verifik.attempt.count": 1,
        "verifik.throttled.count": 0,
        "verifik.maybe_charged.count": 0,
        "verifik.charge": "answered",
        "verifik.queue.wait": 0.0,
        "verifik.pause.wait": 0.0,
        "verifik.match.count": 1,
        "http.response.status_code": 200,
    }
    assert [event.name for event in span.events] == ["verifik.attempt"]
    [attempt] = events(span, "verifik.attempt")
    assert 0 < attempt.pop("verifik.attempt.duration") <= result.call.elapsed_s
    assert attempt == {
        "verifik.attempt.number": 1,
        "verifik.attempt.throttled": False,
        "verifik.charge": "answered",
        "http.request.body.size": result.call.request_bytes,
        "http.response.body.size": result.call.response_bytes,
        "http.response.status_code": 200,
    }


async def test_events_of_a_search_that_is_sent_again(mock, image, watched, exported):
    """Each request and each pause is an event, in their order."""
    mock.script(Fault.status(429, retry_after="0.1"), Fault.status(503))
    result = await watched.search_active_user(image)
    [span] = exported.spans
    attempt, pause = "verifik.attempt", "verifik.pause"
    names = [event.name for event in span.events]
    assert names == [attempt, pause, attempt, pause, attempt]
    told = events(span, attempt)
    assert [one["http.response.status_code"] for one in told] == [429, 503, 200]
    assert [one["verifik.attempt.throttled"] for one in told] == [True, False, False]
    assert [one.get("error.type") for one in told] == [
        *("RateLimitedError", "ServerError", None)
    ]
    pauses = events(span, pause)
    assert [one["verifik.pause.reason"] for one in pauses] == ["pause", "backoff"]
    waited = sum(one["verifik.pause.duration"] for one in pauses)
    assert waited == pytest.approx(result.call.waited_s)
    assert span.attributes["verifik.pause.wait"] == result.call.waited_s > 0.05
    assert span.attributes["verifik.throttled.count"] == 1
    assert span.attributes["verifik.attempt.count"] == 2
    assert span.status.status_code is trace.StatusCode.UNSET


async def test_earlier_requests_that_may_have_been_charged(
    mock, image, watched, exported
):
    """The span of a search that was paid twice, perhaps, says so."""
    mock.script(Fault.status(504))
    await watched.search_active_user(image)
    [span] = exported.spans
    assert span.attributes["verifik.maybe_charged.count"] == 1
    charges = [one["verifik.charge"] for one in events(span, "verifik.attempt")]
    assert charges == ["maybe_charged", "answered"]


@pytest.mark.parametrize(
    ("fault", "error", "charge", "status"),
    [
        (Fault.status(404), NotFoundError, "answered", 404),
        (Fault.stall(), AttemptTimeoutError, "maybe_charged", None),
    ],
)
async def test_a_search_that_fails(
    mock, image, watched, exported, fault, error, charge, status
):
    """Its span is an error by its class; no message, no traceback."""
    mock.script(fault)
    with pytest.raises(error):
        await watched.search_active_user(image)
    assert nobody_is_current()
    [span] = exported.spans
    assert span.status.status_code is trace.StatusCode.ERROR
    assert span.status.description == error.__name__
    assert span.attributes["error.type"] == error.__name__
    assert span.attributes["verifik.charge"] == charge
    assert span.attributes.get("http.response.status_code") == status
    assert "verifik.match.count" not in span.attributes
    [attempt] = events(span, "verifik.attempt")
    assert attempt["error.type"] == error.__name__
    assert [event.name for event in span.events] == ["verifik.attempt"]
    [(attributes, count)] = exported.points("operation.duration")
    assert count == 1
    assert attributes == {"error.type": error.__name__, "verifik.charge": charge}
    assert exported.in_flight() == 0


async def test_a_search_that_is_cancelled(mock, image, watched, exported):
    """It is no error of the service, and no success."""
    mock.script(Fault.stall())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await watched.search_active_user(image)
    assert nobody_is_current()
    [span] = exported.spans
    [attempt] = events(span, "verifik.attempt")
    for attributes in (span.attributes, attempt):
        assert attributes["verifik.cancelled"] is True
        assert attributes["verifik.charge"] == "maybe_charged"
        assert "error.type" not in attributes
    assert span.status.status_code is trace.StatusCode.UNSET
    kind = {"verifik.charge": "maybe_charged", "verifik.cancelled": True}
    assert exported.points("operation.duration") == [(kind, 1)]
    assert exported.points("attempts") == [(kind, 1)]
    assert exported.in_flight() == 0


async def test_a_search_that_never_leaves_the_queue(mock, image, exported):
    """It has a span without a request, and was never in flight."""
    mock.latency = 0.3
    async with (
        client_of(
            mock.url, on_search=exported.telemetry(), max_concurrency=1
        ) as client,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(client.search_active_user(image))
        while not mock.in_flight:
            await asyncio.sleep(0.005)
        with pytest.raises(DeadlineExceededError):
            await client.search_active_user(image, deadline=0.05)
        assert exported.in_flight() == 1
    assert exported.in_flight() == 0
    queued, _ = exported.spans
    assert queued.events == ()
    assert queued.attributes["verifik.charge"] == "not_sent"
    assert queued.attributes["verifik.queue.wait"] > 0.04
    [point] = exported.metrics()["verifik.client.queue.wait"].data.data_points
    assert (point.count, point.max) == (2, queued.attributes["verifik.queue.wait"])
    points = exported.metrics()["verifik.client.operation.duration"].data.data_points
    [failed, answered] = [point.sum for point in points]
    assert 0.04 < failed < 0.3 <= answered


async def test_a_search_that_is_destroyed_in_another_context(image, exported, caplog):
    """Its span ends, and nobody complains that the context is not its own."""
    async with (
        MockVerifik(latency=5) as mock,
        client_of(mock.url, on_search=exported.telemetry()) as client,
    ):
        coroutine = client.search_active_user(image)
        contextvars.copy_context().run(coroutine.send, None)
        with caplog.at_level(logging.DEBUG, "opentelemetry"):
            coroutine.close()
    assert caplog.records == []
    [span] = exported.spans
    assert span.attributes["verifik.cancelled"] is True
    assert exported.in_flight() == 0


# -- who is whose child ----------------------------------------------------------


async def test_searches_at_once_are_children_of_their_own_callers(
    image, watched, exported
):
    """Each search is under what is current in its task, and none under another."""

    async def visitor(number):
        with exported.tracer.start_as_current_span(f"visitor {number}") as span:
            await watched.search_active_user(image + bytes([number]))
            assert trace.get_current_span() is span

    with exported.tracer.start_as_current_span("all"):
        async with asyncio.TaskGroup() as group:
            group.create_task(watched.search_active_user(image))
            for number in range(8):
                group.create_task(visitor(number))
    by_id = {span.context.span_id: span.name for span in exported.spans}
    parents = sorted(by_id[span.parent.span_id] for span in exported.searches())
    assert parents == ["all", *(f"visitor {number}" for number in range(8))]


async def test_searches_of_a_batch_are_children_of_the_batch(image, watched, exported):
    """Of the span around the `async with`, wherever its outcomes are looked at."""
    pictures = [image + bytes([number]) for number in range(40)]
    with exported.tracer.start_as_current_span("around") as around:
        async with watched.search_many(pictures, concurrency=4) as outcomes:
            with exported.tracer.start_as_current_span("inside"):
                assert [o.ok async for o in outcomes] == [True] * 40
    searches = exported.searches()
    parents = {span.parent.span_id for span in searches}
    assert (len(searches), parents) == (40, {around.get_span_context().span_id})
    assert exported.in_flight() == 0


@contextlib.contextmanager
def instrumented(traces):
    """Let every session of aiohttp be traced, as an application does."""
    instrumentor = AioHttpClientInstrumentor()
    instrumentor.instrument(tracer_provider=traces)
    try:
        yield
    finally:
        instrumentor.uninstrument()


@pytest.mark.parametrize("way", ["instrumentor", "trace_configs"])
async def test_requests_are_children_of_their_search(mock, image, exported, way):
    """One client span for each request on the wire, and none twice."""
    mock.script(Fault.status(503))
    with contextlib.ExitStack() as stack:
        configs = [create_trace_config(tracer_provider=exported.traces)]
        if way == "instrumentor":
            configs = []
            stack.enter_context(instrumented(exported.traces))
        async with client_of(
            mock.url, on_search=exported.telemetry(), trace_configs=configs
        ) as client:
            await client.search_active_user(image)
            await client.search_active_user(image + b"2")
    requests = [span for span in exported.spans if span.kind is trace.SpanKind.CLIENT]
    assert (mock.hits, len(requests)) == (3, 3)
    first, second = (span.context.span_id for span in exported.searches())
    assert [span.parent.span_id for span in requests] == [first, first, second]
    assert len(exported.spans) == 5


async def test_searches_that_are_not_sampled(mock, image):
    """Nothing is built for them, who is below is not sampled, metrics go on."""
    exported, below, seen = Exported(sampler=ALWAYS_OFF), Exported(), []
    config = create_trace_config(
        tracer_provider=below.traces,
        request_hook=lambda span, _: seen.append(span.is_recording()),
    )
    mock.script(Fault.status(503))
    async with client_of(
        mock.url, on_search=exported.telemetry(), trace_configs=[config]
    ) as client:
        await client.search_active_user(image)
    assert (exported.spans, below.spans, seen) == ((), (), [False] * 2)
    assert nobody_is_current()
    answered, status = {"verifik.charge": "answered"}, "http.response.status_code"
    assert exported.points("attempts") == [
        (answered | {"error.type": "ServerError", status: 503}, 1),
        (answered | {status: 200}, 1),
    ]


# -- metrics -----------------------------------------------------------------------


async def test_metrics_of_some_searches(mock, image, watched, exported):
    """Names, units, and what was counted of which kind."""
    mock.script(
        *(Fault.status(429, retry_after="0.05"), Fault.status(503), Fault.status(404))
    )
    with pytest.raises(NotFoundError):
        await watched.search_active_user(image)
    for number in range(3):
        await watched.search_active_user(image + bytes([number]))
    units = {name: metric.unit for name, metric in exported.metrics().items()}
    assert units == {
        "verifik.client.operation.duration": "s",
        "verifik.client.attempts": "{attempt}",
        "verifik.client.queue.wait": "s",
        "verifik.client.in_flight": "{search}",
        "verifik.client.throttled": "{request}",
    }
    answered, status = {"verifik.charge": "answered"}, "http.response.status_code"
    failed = answered | {"error.type": "NotFoundError"}
    assert exported.points("operation.duration") == [(failed, 1), (answered, 3)]
    assert exported.points("attempts") == [
        (answered | {"error.type": "ServerError", status: 503}, 1),
        (failed | {status: 404}, 1),
        (answered | {status: 200}, 3),
    ]
    assert exported.points("throttled") == [({}, 1)]
    assert exported.points("queue.wait") == [({}, 4)]
    assert exported.in_flight() == 0
    stats = watched.stats()
    assert (stats.attempts, stats.throttled) == (5, 1)


async def test_buckets_are_of_seconds(image, watched, exported):
    """From milliseconds to the deadline, not the SDK's own, which begin at 5 s."""
    await watched.search_active_user(image)
    for name in ("operation.duration", "queue.wait"):
        metric = exported.metrics()[f"verifik.client.{name}"]
        bounds = metric.data.data_points[0].explicit_bounds
        assert (bounds[0], bounds[-1]) == (0.005, 60.0)
        assert [*bounds] == sorted(bounds)


async def test_a_batch_that_is_left_brings_all_slots_back(mock, image, exported):
    """Searches on the wire and in the queue are counted out as well."""
    mock.latency = 5
    pictures = [image + bytes([number]) for number in range(50)]
    async with client_of(
        mock.url, on_search=exported.telemetry(), max_concurrency=4
    ) as client:
        async with client.search_many(pictures, concurrency=8):
            while mock.in_flight < 4:
                await asyncio.sleep(0.005)
            assert exported.in_flight() == 4
        assert exported.in_flight() == 0
    assert len(exported.spans) == 8
    assert nobody_is_current()


def test_one_for_clients_of_several_threads(exported, image):
    """All are counted, and each search has the parent of its own thread."""
    telemetry = exported.telemetry()

    async def search(url, number):
        async with client_of(url, on_search=telemetry) as client:
            with exported.tracer.start_as_current_span(f"thread {number}"):
                async with asyncio.TaskGroup() as group:
                    for one in range(10):
                        picture = image + bytes([number, one])
                        group.create_task(client.search_active_user(picture))

    with MockVerifik() as mock:
        threads = [
            threading.Thread(target=asyncio.run, args=[search(mock.url, number)])
            for number in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    by_id = {span.context.span_id: span.name for span in exported.spans}
    parents = sorted(by_id[span.parent.span_id] for span in exported.searches())
    assert parents == [f"thread {number}" for number in range(3) for _ in range(10)]
    [(_, count)] = exported.points("operation.duration")
    assert (count, exported.in_flight()) == (30, 0)


# -- with less than an SDK -----------------------------------------------------------


async def test_providers_that_do_nothing(mock, image):
    """Searches go on as ever, and leave nothing current."""
    telemetry = Telemetry(
        tracer_provider=trace.NoOpTracerProvider(),
        meter_provider=metrics.NoOpMeterProvider(),
    )
    async with client_of(mock.url, on_search=telemetry) as client:
        before = context.get_current()
        assert (await client.search_active_user(image)).call.status == 200
    assert context.get_current() is before


@pytest.mark.parametrize("given", ["traces", "meters"])
async def test_one_provider_of_the_two(mock, image, exported, given):
    """Spans without metrics, or metrics without spans."""
    name = {"traces": "tracer_provider", "meters": "meter_provider"}[given]
    telemetry = Telemetry(**{name: getattr(exported, given)})
    async with client_of(mock.url, on_search=telemetry) as client:
        await client.search_active_user(image)
    assert len(exported.spans) == (given == "traces")
    assert len(exported.points("attempts")) == (given == "meters")


def test_nobody_is_told_without_an_sdk():
    """As long as no provider is set, a search is left alone."""
    assert Telemetry()() is None


def run(script, *arguments):
    """Run a script in a fresh interpreter, warnings as errors; return its output."""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", script, *arguments],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


LATE = """
import asyncio, sys
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from support import client_of
from verifik_async.integrations.otel import Telemetry
from verifik_async.testing import MockVerifik

spans, readers = InMemorySpanExporter(), []

def provide():
    if "spans" in sys.argv:
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(spans))
        trace.set_tracer_provider(provider)
    if "metrics" in sys.argv:
        readers.append(InMemoryMetricReader())
        metrics.set_meter_provider(MeterProvider(readers))

before, after = map(int, sys.argv[1:3])

async def main():
    telemetry = Telemetry()
    async with MockVerifik() as mock:
        async with client_of(mock.url, on_search=telemetry) as client:
            for _ in range(before):
                await client.search_active_user(bytes(500))
            provide()
            for _ in range(after):
                await client.search_active_user(bytes(501))

asyncio.run(main())
print(len(spans.get_finished_spans()))
for reader in readers:
    [resource] = reader.get_metrics_data().resource_metrics
    [scope] = resource.scope_metrics
    print(*(metric.name for metric in scope.metrics))
"""


@pytest.mark.parametrize("which", [["spans"], ["metrics"], ["spans", "metrics"]])
def test_providers_that_are_set_later(which):
    """Those set between two searches are told from then on, one or both."""
    count, *names = run(LATE, "1", "2", *which)
    assert count == ("2" if "spans" in which else "0")
    assert len(names) == (4 if "metrics" in which else 0)  # nothing was throttled


def test_providers_that_are_set_late():
    """After many searches without one not every search looks for it, but soon one."""
    [count] = run(LATE, "120", "40", "spans")
    assert count == "33"  # all from the 128th on


def test_without_the_package():
    """The error says what to install."""
    script = """
import sys
sys.modules["opentelemetry"] = None
try:
    import verifik_async.integrations.otel
except ImportError as error:
    print(error)
"""
    assert " ".join(run(script)).endswith('pip install "verifik-async[otel]"')


# -- what must not happen --------------------------------------------------------------


class BrokenProcessor(SpanProcessor):
    """One that fails at the end of each span."""

    def on_end(self, span):
        """Fail."""
        raise RuntimeError(span.name)


class BrokenMeters(metrics.MeterProvider):
    """One whose histograms fail."""

    class Histogram(metrics.NoOpHistogram):
        """Fails."""

        def record(self, *_):
            """Fail."""
            raise RuntimeError(self)

    class Meter(metrics.NoOpMeter):
        """Makes them."""

        def create_histogram(self, name, *_, **__):
            """Return one."""
            return BrokenMeters.Histogram(name)

    def get_meter(self, name, *_):
        """Return what makes them."""
        return self.Meter(name)


@pytest.mark.parametrize("breaks", ["spans", "metrics"])
async def test_an_sdk_that_fails_costs_no_answer(mock, image, exported, breaks):
    """Nor does it leave the span current for whoever comes next."""
    telemetry = Telemetry(
        tracer_provider=exported.traces, meter_provider=BrokenMeters()
    )
    if breaks == "spans":
        telemetry = exported.telemetry()
        exported.traces.add_span_processor(BrokenProcessor())
    async with client_of(mock.url, on_search=telemetry) as client:
        assert (await client.search_active_user(image)).call.status == 200
    assert nobody_is_current()
    assert len(exported.spans) == 1


async def test_nothing_of_a_person_is_exported(image, exported):
    """No token, picture, name, id or collection, whatever a search ends in."""
    faults = (
        *(Fault.status(400), Fault.status(401), Fault.status(402), Fault.stall()),
        *(Fault.drop_before_headers(), Fault.html(200), Fault.redirect()),
    )
    telemetry, short = exported.telemetry(), Timeouts(attempt=0.3)
    async with (
        MockVerifik(data_shape="object", collections=[COLLECTION]) as mock,
        client_of(mock.url, on_search=telemetry, timeouts=short) as client,
    ):
        mock.enroll(PERSON, image, name=NAME, collection_id=COLLECTION)
        result = await client.search_active_user(image, collection_id=COLLECTION)
        assert (result.best.id, result.best.name) == (PERSON, NAME)
        mock.script(*faults)
        for _ in faults:
            with pytest.raises(VerifikError):
                await client.search_active_user(image)
        with pytest.raises(ImageError):
            await client.search_active_user(pathlib.Path(f"{NAME}.jpg"))
    texts = [span.to_json() for span in exported.spans]
    texts += [metric.to_json() for metric in exported.metrics().values()]
    assert len(texts) == 1 + len(faults) + 1 + 4
    names = [NAME, PERSON, COLLECTION]
    assert_no_leaks(texts, token=TOKEN, images=[image], names=names)
