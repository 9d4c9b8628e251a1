"""Counts of a client, put together from its loops."""

import asyncio

import pytest

from verifik_async._deadline import Deadline
from verifik_async._gate import Gate, Patience, Rank, Ticket
from verifik_async._state import Counters, LoopState, closed_error, summarise
from verifik_async._tally import Tally
from verifik_async.errors import ClientClosedError, VerifikError


def test_requests_on_the_wire_are_attempts_and_throttled():
    """Every request is counted in exactly one of the two."""
    counters = Counters()
    counters.count_throttled(10, 3)
    counters.count(10, 3, 0.1, resent=True)
    assert (counters.attempts, counters.throttled, counters.resent) == (1, 1, 1)


def test_only_answers_have_a_latency():
    """Errors and lost requests do not blur the latency of answers."""
    counters = Counters()
    counters.count(10, 0, None, resent=False)
    counters.count_throttled(10, 3)
    counters.count(10, 3, 0.25, resent=True)
    assert list(counters.latencies) == [0.25]


def test_bytes_are_summed():
    """Bodies of all requests count, whatever they ended in."""
    counters = Counters()
    counters.count(10, 3, None, resent=False)
    counters.count_throttled(10, 3)
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


class Pool:
    """Stands for the connections, of which only the end is of interest."""

    closed = 0

    async def close(self):
        """Count how often it was closed."""
        self.closed += 1


def new_state(slots=3):
    """Return the state of the running loop."""
    loop = asyncio.get_running_loop()
    return LoopState(loop, Pool(), Gate(slots, None, loop), None)


async def test_loops_that_run_and_loops_that_ended_are_added():
    """The snapshot covers the past and every running loop."""
    states = [new_state() for _ in range(2)]
    for number, state in enumerate(states, 1):
        state.counters.attempts = number
        state.gate.in_flight = number
    stats = summarise(states, Counters(attempts=10, failed=1), 32)
    assert (stats.attempts, stats.failed, stats.in_flight) == (13, 1, 3)
    assert stats.window == 6
    assert summarise([], Counters(), 32).window == 32


async def test_the_window_of_a_loop_that_was_throttled():
    """The snapshot shows what may be on the wire now, not what was set."""
    state = new_state(slots=8)
    ticket = Ticket(Rank.SINGLE, Patience(None, 1.0), state.loop.time())
    assert state.gate.try_enter(ticket)
    state.gate.throttled(ticket, VerifikError("busy"), None, lambda _: 0.0)
    state.gate.leave(ticket)
    assert summarise([state], Counters(), 8).window == 4


async def search(state, seconds):
    """Stand for a search that waits so long, unless it is cut off; when it ended."""
    state.begin()
    try:
        deadline = Deadline(state.loop, None, (state.cut,))
        await deadline.within(asyncio.sleep(seconds), Tally(0.0))
    except ClientClosedError:
        return "cut off", state.loop.time()
    finally:
        state.end()
    return "done", state.loop.time()


@pytest.mark.parametrize(
    ("takes", "grace", "end"),
    [(3, 5, ("done", 3)), (30, 5, ("cut off", 5)), (30, 0, ("cut off", 0))],
)
def test_closing(virtual, takes, grace, end):
    """Searches may go on for a while, then they are cut off; whoever closes waits."""

    async def play():
        state = new_state()
        began = state.loop.time()
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(search(state, takes))
            await asyncio.sleep(0)
            closing = [tasks.create_task(state.close(grace)) for _ in range(2)]
            await closing[1]
            closed_at = state.loop.time() - began
        await state.close(grace)
        how, ended_at = running.result()
        return (how, ended_at - began), closed_at, state.pool.closed

    assert virtual(play) == (end, end[1], 1)


def test_closing_while_nothing_runs(virtual):
    """It waits for nobody, and cuts off what comes too late."""

    async def play():
        state = new_state()
        began = state.loop.time()
        await state.close(5)
        return await search(state, 30), began

    (how, ended_at), began = virtual(play)
    assert (how, ended_at) == ("cut off", began)


def test_the_error_for_a_closed_client():
    """It says what to do instead."""
    error = closed_error()
    assert type(error) is ClientClosedError
    assert "new VerifikClient" in str(error)
