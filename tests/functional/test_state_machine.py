"""Whatever is asked of a client, in whatever order, while the service misbehaves."""

import asyncio
import gc
import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support.machine import GUARD, Life

from verifik_async import RateLimit, Timeouts
from verifik_async.testing import Fault, MockVerifik

# The same examples each time, or so many others: VERIFIK_FUZZ_EXAMPLES=2000.
EXAMPLES = os.environ.get("VERIFIK_FUZZ_EXAMPLES")
several = settings(
    max_examples=int(EXAMPLES or 40),
    stateful_step_count=30,
    derandomize=EXAMPLES is None,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

# Those that end a connection, and those that do not.
DROPS = [
    Fault.drop_before_headers(),
    Fault.drop_after_headers(),
    Fault.drop_before_body_read(),
    Fault.drop_reused(),
    Fault.reset(),
    Fault.truncate(7),
    Fault.garbage(),
    Fault.status(401, before_body=True),
    Fault.status(429, retry_after=0.01, before_body=True),
]
DRIP = Fault.slow_drip(8_000)
OTHERS = [
    None,
    DRIP,
    Fault.status(429, retry_after=0.02),
    Fault.status(429),
    Fault.status(503, retry_after=0.01),
    Fault.status(500),
    Fault.status(502),
    Fault.status(503),
    Fault.status(401),
    Fault.status(402),
    Fault.status(404),
    Fault.stall(0.03),
    Fault.stall_after_headers(0.02),
    Fault.html(),
    Fault.empty(),
    Fault.redirect(),
    Fault.body({"data": [{"id": 7}]}),
]
clients = st.fixed_dictionaries(
    {
        "limit": st.integers(1, 4),
        "max_waiting": st.sampled_from([None, None, 0, 3, 10]),
        "rate_limit": st.sampled_from([None, None, RateLimit(500, burst=3)]),
        "close_grace": st.sampled_from([0.0, 0.02, 0.2]),
    },
    optional={"timeouts": st.just(Timeouts(attempt=0.05))},
)
any_number = st.integers(0, 1_000)
is_open = precondition(lambda machine: machine.life is not None)
is_closed = precondition(lambda machine: machine.life is None)
# Else there would be an end after each beginning.
is_busy = precondition(lambda machine: machine.life and machine.life.events >= 8)
has_singles = precondition(lambda machine: machine.life and machine.life.singles)
has_batches = precondition(lambda machine: machine.life and machine.life.batches)


class Machine(RuleBasedStateMachine):
    """A client, the stand-in, and one event loop that runs while a rule does."""

    def __init__(self):
        super().__init__()
        self.life = None
        self.complaints = []
        self.runner = asyncio.Runner()
        loop = self.runner.get_loop()
        loop.set_exception_handler(lambda _, context: self.complaints.append(context))
        self.mock = MockVerifik()
        self.run(self.mock.__aenter__())

    def run(self, work):
        return self.runner.run(work)

    def teardown(self):
        try:
            if self.life is not None:
                self.run(self._end())
            self.run(self.mock.__aexit__(None, None, None))
        finally:
            self.runner.close()
        assert not self.complaints

    # -- the client ------------------------------------------------------------------

    @initialize(settings=clients)
    def begin(self, settings):
        self.life = Life(self.mock, **settings)

    @is_closed
    @rule(settings=clients)
    def open(self, settings):
        self.life = Life(self.mock, **settings)

    @is_busy
    @rule(stuck=st.integers(0, 2))
    def close(self, stuck):
        """Close the client, with some searches that would never end."""
        self.mock.script(*[Fault.stall()] * stuck)
        for _ in range(stuck):
            self.run(self.life.search(500, None))
        self.run(self._end())

    async def _end(self):
        life, self.life = self.life, None
        await life.close()
        await life.settle()
        # What the client has left is gone: its connections, its tasks.
        async with asyncio.timeout(GUARD):
            while self.mock._web.connections:
                await asyncio.sleep(0.001)
        names = [task.get_name() for task in asyncio.all_tasks()]
        assert not [name for name in names if name.startswith(("verifik", "machine"))]

    @is_busy
    @rule()
    def finish(self):
        self.run(self.life.settle())
        self.run(self.life.prove())

    # -- searches --------------------------------------------------------------------

    @is_open
    @rule(
        sizes=st.lists(st.sampled_from([100, 20_000, 300_000]), min_size=2, max_size=8),
        deadline=st.sampled_from([None, None, None, 30.0, 0.03, 0.001]),
    )
    def search(self, sizes, deadline):
        for size in sizes:
            self.run(self.life.search(size, deadline))

    @is_open
    @rule(
        size=st.integers(0, 12),
        concurrency=st.none() | st.integers(1, 6),
        ordered=st.booleans(),
        deadline=st.sampled_from([None, None, 30.0]),
    )
    def search_many(self, size, **options):
        self.run(self.life.search_many(size, **options))

    @has_singles
    @rule(which=any_number)
    def cancel(self, which):
        singles = self.life.singles
        self.run(self.life.cancel(singles[which % len(singles)]))

    @has_batches
    @rule(which=any_number, outcomes=st.integers(1, 5))
    def take(self, which, outcomes):
        self._batch(which).allow(outcomes)
        self.run(asyncio.sleep(0.002))

    @has_batches
    @rule(which=any_number, way=st.sampled_from(["stop", "break", "raise", "cancel"]))
    def leave(self, which, way):
        batch = self._batch(which)
        self.run(batch.stop() if way == "stop" else self.life.leave(batch, way))

    def _batch(self, which):
        return self.life.batches[which % len(self.life.batches)]

    # -- the service, and time -------------------------------------------------------

    @is_open
    @rule(faults=st.lists(st.sampled_from(OTHERS), min_size=1, max_size=6))
    def misbehave(self, faults):
        self.life.drips += faults.count(DRIP)
        self.mock.script(*faults)

    @is_open
    @rule(fault=st.sampled_from(DROPS), times=st.integers(1, 3))
    def drop(self, fault, times):
        self.life.drops = True
        self.mock.script(*[fault] * times)

    @is_open
    @rule(fault=st.sampled_from([500, 503]), times=st.integers(8, 14))
    def be_down(self, fault, times):
        self.mock.script(*[Fault.status(fault)] * times)

    @rule(
        seconds=st.sampled_from([0.0, 0.001, 0.005, 0.02]),
        latency=st.sampled_from([0.0, 0.005, (0.0, 0.03)]),
    )
    def wait(self, seconds, latency):
        self.run(asyncio.sleep(seconds))
        self.mock.latency = latency

    @invariant()
    def holds(self):
        assert not self.complaints
        if self.life is not None:
            self.life.events += 1
            self.life.check()


def test_any_order_of_events():
    """No slot is lost, each search ends once, every request is accounted for."""
    run_state_machine_as_test(Machine, settings=several)
    gc.collect()  # whatever was not closed complains now
