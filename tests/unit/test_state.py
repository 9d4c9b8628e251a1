"""Counts of a client, put together from its loops."""

import asyncio

import pytest

from verifik_async._gate import Gate
from verifik_async._state import Counters, LoopState, closed_error, summarise
from verifik_async.errors import ClientClosedError
from verifik_async.models import Attempt


def test_requests_on_the_wire_are_attempts_and_throttled():
    """Every request is counted in exactly one of the two."""
    counters = Counters()
    counters.count(Attempt(number=1, status=429, throttled=True), resent=False)
    counters.count(Attempt(number=2, status=200), resent=True)
    assert (counters.attempts, counters.throttled, counters.resent) == (1, 1, 1)


def test_only_answers_have_a_latency():
    """Errors and lost requests do not blur the latency of answers."""
    counters = Counters()
    counters.count(Attempt(number=1, error="ConnectError"), resent=False)
    counters.count(Attempt(number=1, status=500, error="ServerError"), resent=False)
    counters.count(Attempt(number=2, status=200, elapsed_s=0.25), resent=True)
    assert list(counters.latencies) == [0.25]


def test_bytes_are_summed():
    """Bodies of all requests count, whatever they ended in."""
    counters = Counters()
    for status in (200, 500):
        counters.count(
            Attempt(number=1, status=status, request_bytes=10, response_bytes=3),
            resent=False,
        )
    assert (counters.bytes_sent, counters.bytes_received) == (20, 6)


@pytest.mark.parametrize(
    ("count", "p50", "p95", "p99"),
    [(0, None, None, None), (1, 1, 1, 1), (100, 51, 96, 100), (1000, 501, 951, 991)],
)
def test_percentiles(count, p50, p95, p99):
    """Percentiles are values that were measured."""
    retired = Counters()
    retired.latencies.extend(float(n) for n in range(count, 0, -1))
    stats = summarise([], retired, 4)
    assert (stats.latency_p50_s, stats.latency_p95_s, stats.latency_p99_s) == (
        p50,
        p95,
        p99,
    )


async def test_loops_that_run_and_loops_that_ended_are_added():
    """The snapshot covers the past and every running loop."""
    loop = asyncio.get_running_loop()
    states = [LoopState(loop, None, Gate(3, None, loop), None) for _ in range(2)]
    for number, state in enumerate(states, 1):
        state.counters.attempts = number
        state.gate.in_flight = number
    stats = summarise(states, Counters(attempts=10, failed=1), 32)
    assert (stats.attempts, stats.failed, stats.in_flight) == (13, 1, 3)
    assert stats.window == 6
    assert summarise([], Counters(), 32).window == 32


def test_the_error_for_a_closed_client():
    """It says what to do instead."""
    error = closed_error()
    assert type(error) is ClientClosedError
    assert "new VerifikClient" in str(error)
