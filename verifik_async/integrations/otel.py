"""Spans and metrics of searches, by OpenTelemetry; needs the extra `otel`.

    client = VerifikClient(on_search=Telemetry())

A span for each search, with an event for each request and each pause; counts, times and
what the searches may have cost as metrics. `docs/telemetry.md` lists all of them. What
is exported, and where to, is the application's business: only the API of OpenTelemetry
is used here, which does nothing until the application brings an SDK.

No picture, token, name or id of a person is in any of it, and no collection: events
do not tell them.
"""

import functools
from collections.abc import Callable
from typing import Final, TypeAlias

from verifik_async import Attempt, Charge, Pause, SearchEnd, Slot, __version__

try:
    from opentelemetry import context, metrics, trace
except ImportError as error:
    raise ImportError(
        "verifik_async.integrations.otel needs opentelemetry-api, 1.30 or newer: "
        'pip install "verifik-async[otel]"',
        name="opentelemetry",
    ) from error

__all__ = ["Telemetry"]

_Event: TypeAlias = Slot | Attempt | Pause | SearchEnd
_Attributes: TypeAlias = dict[str, str | int | float | bool]

_SCOPE: Final = "verifik_async"
_SPAN: Final = "verifik.search_active_user"
# From an answer of a service next door to the default deadline of a search.
_SECONDS: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 15.0, 30.0, 60.0),
)
# Whether anybody listens is asked at each of so many searches, then at one in so many.
_EAGER: Final = 100
_EVERY: Final = 32
# How a search ends that somebody here wanted no longer: no fault of the service.
_DESTROYED: Final = "GeneratorExit"
_CANCELLED: Final = frozenset({"CancelledError", _DESTROYED})


class Telemetry:
    """Tells OpenTelemetry of each search: `VerifikClient(on_search=Telemetry())`.

    One serves any number of clients, event loops and threads. A search's span is a
    child of the span that is current where the search is awaited, for `search_many`
    of the one around its `async with`, and is current itself while the search runs.

    Args:
        tracer_provider: Makes the spans; None: the global one, which may be set later:
            from the next search on, or after a hundred without it one of the next 32.
        meter_provider: Makes the metrics; None: as above.
    """

    def __init__(
        self,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        self._tracer = trace.get_tracer(_SCOPE, __version__, tracer_provider)
        meter = metrics.get_meter(_SCOPE, __version__, meter_provider)
        self._instruments = _Instruments(meter)
        self._heard = tracer_provider is not None or meter_provider is not None
        self._unheard = 0  # searches that nobody was told of

    def __call__(self) -> "Callable[[_Event], None] | None":
        """Begin a search; called by the client, in the search's task.

        Returns:
            What is told of it, or None as long as there is nobody to tell.
        """
        if not self._heard:
            self._unheard += 1
            if self._unheard > _EAGER and self._unheard % _EVERY:
                return None
            # For good then: a global provider is set once.
            self._heard = _is_heard()
            if not self._heard:
                return None
        return _Search(self._tracer.start_span(_SPAN), self._instruments)


def _is_heard() -> bool:
    """Return whether the application has brought a provider, for spans or metrics.

    The API's own do nothing, and have no public name in common. To ask takes longer
    than all else here: the API looks into the environment each time.
    """
    providers = (trace.get_tracer_provider(), metrics.get_meter_provider())
    own = ("opentelemetry.trace", "opentelemetry.metrics")
    return not all(type(one).__module__.startswith(own) for one in providers)


class _Instruments:
    """What is counted and measured, over all searches.

    Attributes cost an SDK as much as the measurement itself: where all would be the
    same there are none.
    """

    def __init__(self, meter: metrics.Meter) -> None:
        self.in_flight = meter.create_up_down_counter(
            "verifik.client.in_flight", "{search}", "Searches that hold a slot."
        )
        self._attempts = meter.create_counter(
            "verifik.client.attempts", "{attempt}", "Requests, throttled ones apart."
        )
        self._throttled = meter.create_counter(
            "verifik.client.throttled", "{request}", "Requests that were throttled."
        )
        self._duration = meter.create_histogram(
            "verifik.client.operation.duration",
            "s",
            "Searches, from the call to its end, waits included.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._queue = meter.create_histogram(
            "verifik.client.queue.wait",
            "s",
            "What searches waited for a slot, pauses apart.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )

    def count(self, attempt: Attempt) -> None:
        """Count a request."""
        if attempt.throttled:
            self._throttled.add(1)
            return
        kind = _kind(attempt.charge, _error_of(attempt), attempt.status)
        self._attempts.add(1, kind)

    def measure(self, end: SearchEnd) -> None:
        """Measure a search that is over."""
        self._duration.record(end.call.elapsed_s, _kind(end.charge, end.error, None))
        self._queue.record(end.call.queued_s)


# Of few kinds: classes of errors, and the statuses of HTTP. None is built twice.
@functools.lru_cache(maxsize=1024)
def _kind(charge: Charge, error: str | None, status: int | None) -> _Attributes:
    """Return the attributes of a request or a search that is counted."""
    return {"verifik.charge": charge.value} | _ending(error, status)


def _ending(error: str | None, status: int | None) -> _Attributes:
    """Return the attributes that say how something has ended."""
    found: _Attributes = {}
    if status is not None:
        found["http.response.status_code"] = status
    if error in _CANCELLED:
        found["verifik.cancelled"] = True
    elif error is not None:
        found["error.type"] = error
    return found


def _error_of(attempt: Attempt) -> str | None:
    """Return what a request ended in; one that was cancelled tells neither."""
    silent = attempt.error is None and attempt.status is None
    return "CancelledError" if silent else attempt.error


class _Search:
    """One search; told of all that it does, in its own task."""

    __slots__ = ("_instruments", "_recording", "_span", "_token")

    def __init__(self, span: trace.Span, instruments: _Instruments) -> None:
        self._span = span
        self._instruments = instruments
        self._recording = span.is_recording()
        # One that is not recorded is passed on as well: who is below is not either.
        valid = span.get_span_context().is_valid
        current = trace.set_span_in_context(span) if valid else None
        self._token = None if current is None else context.attach(current)

    def __call__(self, event: _Event) -> None:
        """Take note of an event."""
        if isinstance(event, Slot):
            self._instruments.in_flight.add(1 if event.taken else -1)
        elif isinstance(event, Attempt):
            self._instruments.count(event)
            if self._recording:
                self._span.add_event("verifik.attempt", _of_attempt(event))
        elif isinstance(event, SearchEnd):
            self._finish(event)
        elif self._recording:
            self._span.add_event("verifik.pause", _of_pause(event))

    def _finish(self, end: SearchEnd) -> None:
        try:
            # While it is current: an exemplar of the histogram leads to the span.
            self._instruments.measure(end)
            if self._recording:
                self._describe(end)
        finally:
            # A coroutine that is destroyed may be so in another context than its own,
            # which is gone with it.
            if self._token is not None and end.error != _DESTROYED:
                context.detach(self._token)
            self._span.end()

    def _describe(self, end: SearchEnd) -> None:
        self._span.set_attributes(_of_end(end))
        if end.error is not None and end.error not in _CANCELLED:
            # The class only: a message may quote what the service said.
            status = trace.Status(trace.StatusCode.ERROR, end.error)
            self._span.set_status(status)


def _of_attempt(attempt: Attempt) -> _Attributes:
    return {
        "verifik.attempt.number": attempt.number,
        "verifik.attempt.duration": attempt.elapsed_s,
        "verifik.attempt.throttled": attempt.throttled,
        "verifik.charge": attempt.charge.value,
        "http.request.body.size": attempt.request_bytes,
        "http.response.body.size": attempt.response_bytes,
    } | _ending(_error_of(attempt), attempt.status)


def _of_pause(pause: Pause) -> _Attributes:
    return {
        "verifik.pause.reason": pause.reason,
        "verifik.pause.duration": pause.seconds,
    }


def _of_end(end: SearchEnd) -> _Attributes:
    call = end.call
    found: _Attributes = {
        "verifik.attempt.count": call.attempts,
        "verifik.throttled.count": call.throttled,
        "verifik.maybe_charged.count": call.maybe_charged,
        "verifik.charge": end.charge.value,
        "verifik.queue.wait": call.queued_s,
        "verifik.pause.wait": call.waited_s,
    }
    if end.error is None:
        found["verifik.match.count"] = end.matches
    return found | _ending(end.error, call.status)
