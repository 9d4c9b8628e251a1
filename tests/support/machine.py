"""A client's life from its opening to its end, for tests that do things in any order.

It keeps what was asked of the client and what came of it, and knows what must hold:
`check` at any time, `check_quiet` when nothing runs.
"""

import asyncio
import functools
import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from support import client_of
from verifik_async import (
    Attempt,
    BatchStoppedError,
    Charge,
    Outcome,
    Timeouts,
    VerifikClient,
    VerifikError,
    errors,
)
from verifik_async.testing import MockVerifik

# Against hanging only.
GUARD = 60.0
# What ends a search wherever it is, in the middle of a request too.
CUT_SHORT = (errors.ClientClosedError, errors.DeadlineExceededError)


class LeftError(Exception):
    """What leaves a batch in the middle."""


@dataclass(eq=False)
class Single:
    """A search and the requests that were told of it."""

    task: asyncio.Task
    told: list[Attempt] = field(default_factory=list)
    was_cancelled: bool = False

    def cancel(self) -> None:
        self.was_cancelled |= self.task.cancel()

    def check(self, *, exact: bool) -> None:
        """Check the one end that it has come to, and what that says."""
        assert self.task.done()
        assert self.task.cancelled() == self.was_cancelled
        numbers = [attempt.number for attempt in self.told]
        assert numbers == sorted({*numbers})
        if self.task.cancelled():
            return
        throttled = sum(attempt.throttled for attempt in self.told)
        if (error := self.task.exception()) is None:
            call = self.task.result().call
            assert self.told[-1].status == call.status == 200
            assert call.throttled == throttled
            maybe = [one.charge for one in self.told].count(Charge.MAYBE_CHARGED)
            assert call.maybe_charged == maybe
        else:
            assert isinstance(error, VerifikError), repr(error)
            call = error
            exact = exact and not isinstance(error, CUT_SHORT)
            assert error.charge == worst(self.told)
        counted = len(self.told) - throttled
        # A request may have run out of time before it had a connection.
        assert call.attempts == counted if exact else call.attempts >= counted


@dataclass(eq=False)
class Many:
    """A batch, and the task that takes an outcome whenever it is allowed to."""

    size: int
    options: dict[str, object]
    asked: int = 0
    outcomes: list[Outcome] = field(default_factory=list)
    is_complete: bool = False
    error: VerifikError | None = None
    was_stopped: bool = False
    leaves_by: str | None = None

    def start(self, client: VerifikClient) -> None:
        self._permits = asyncio.Semaphore(0)
        self.batch = client.search_many(self._probes(), **self.options)
        self.task = _task(self._take())

    def _probes(self) -> Iterator[bytes]:
        for number in range(self.size):
            self.asked += 1
            yield picture(number)

    async def _take(self) -> None:
        try:
            async with self.batch:
                while await self._may_take():
                    self.outcomes.append(await anext(self.batch))
        except StopAsyncIteration:
            self.is_complete = True
        except VerifikError as error:
            self.is_complete = isinstance(error, BatchStoppedError)
            self.error = error
        except LeftError:
            pass

    async def _may_take(self) -> bool:
        await self._permits.acquire()
        if self.leaves_by == "raise":
            raise LeftError
        return self.leaves_by is None

    def allow(self, outcomes: int) -> None:
        for _ in range(outcomes):
            self._permits.release()

    async def stop(self) -> None:
        self.was_stopped = True
        self.batch.stop()

    def leave(self, way: str) -> None:
        self.leaves_by = way
        if way == "cancel":
            self.task.cancel()
        self.allow(1)

    def check(self) -> None:
        """Check that no probe is lost or told of twice, and that the sums are right."""
        assert self.task.done()
        if not self.task.cancelled():
            self.task.result()
        summary, got = self.batch.summary, self.outcomes
        assert all((one.result is None) != (one.error is None) for one in got)
        failed = [outcome.error for outcome in got if outcome.error is not None]
        assert summary.answered == len(got) - len(failed)
        assert summary.failed == len(failed)
        assert summary.errors == Counter(type(error).__name__ for error in failed)
        states = Counter(error.charge for error in failed)
        assert summary.not_sent == states[Charge.NOT_SENT]
        assert summary.maybe_charged == states[Charge.MAYBE_CHARGED]
        indices = [outcome.index for outcome in got]
        assert len({*indices}) == len(indices)
        if self.options["ordered"]:
            assert indices == [*range(len(indices))]
        if self.is_complete:
            self._check_complete(indices)

    def _check_complete(self, indices: list[int]) -> None:
        summary, calls = self.batch.summary, [outcome.call for outcome in self.outcomes]
        assert sorted(indices) == [*range(self.asked)]
        assert summary.attempts == sum(call.attempts for call in calls)
        assert summary.throttled == sum(call.throttled for call in calls)
        if self.error is not None:
            assert summary.stopped_by == type(self.error.cause).__name__
            assert self.error.cause in [outcome.error for outcome in self.outcomes]
        elif summary.stopped_by is None:
            assert self.asked == self.size
        else:
            assert self.was_stopped
            assert summary.stopped_by == "stop"


class Life:
    """One client, from its opening to its end."""

    def __init__(self, mock: MockVerifik, limit: int, **settings: object) -> None:
        self.mock = mock
        self.limit = limit
        self.exact = "timeouts" not in settings
        self.told: list[Attempt] = []
        self.singles: list[Single] = []
        self.batches: list[Many] = []
        self.closed = False
        self.drops = False  # whether connections ended that may have been kept
        self._of_task: dict[asyncio.Task | None, Single] = {}
        self._began = 0  # singles and probes that were searched in earlier periods
        self._period_begins(slack=0)
        self.client = client_of(
            mock.url, max_concurrency=limit, on_attempt=self._tell, **settings
        )

    def _period_begins(self, slack: int) -> None:
        """Count the server's requests anew; some given up may still come in."""
        self.mock.reset()
        self._told_before = len(self.told)
        self.events = 0
        self._slack_before = slack
        self.drips = 0
        self.given_up = 0

    def _tell(self, attempt: Attempt) -> None:
        self.told.append(attempt)
        single = self._of_task.get(asyncio.current_task())
        if single is not None:
            single.told.append(attempt)

    # -- doing ---------------------------------------------------------------------

    async def search(self, size: int, deadline: float | None) -> None:
        work = self.client.search_active_user(bytes(size), deadline=deadline)
        single = Single(task=_task(work))
        self._of_task[single.task] = single
        self.singles.append(single)
        await asyncio.sleep(0)  # it has begun, before anything else is done to it

    async def search_many(self, size: int, **options: object) -> None:
        many = Many(size, options)
        many.start(self.client)
        self.batches.append(many)
        await asyncio.sleep(0)

    async def leave(self, many: Many, way: str) -> None:
        if not many.task.done():
            self.given_up += many.options["concurrency"] or self.limit
        many.leave(way)

    async def cancel(self, single: Single) -> None:
        self.given_up += 1
        single.cancel()

    async def settle(self) -> None:
        """Wait until nothing runs, here and at the server."""
        for many in self.batches:
            many.allow(many.size + 1)
        async with asyncio.timeout(GUARD):
            if tasks := {one.task for one in (*self.singles, *self.batches)}:
                await asyncio.wait(tasks)
            while self.mock.in_flight:
                await asyncio.sleep(0.001)
        self.check_quiet()

    async def prove(self) -> None:
        """Search with nothing in the way, in all slots at once: none is lost."""
        latency, self.mock.latency = self.mock.latency, 0.003
        async with asyncio.timeout(GUARD):
            many = [picture(number) for number in range(2 * self.limit)]
            outcomes = await self.client.search_all(many, timeouts=Timeouts())
        self.mock.latency = latency
        assert all(outcome.ok for outcome in outcomes)
        assert sum(outcome.call.attempts for outcome in outcomes) == self._new()
        self._began += len(many)
        self._check_server()

    def _new(self) -> int:
        """Return how many requests were told of in this period."""
        return len(self.told) - self._told_before

    async def close(self) -> None:
        stats = self.client.stats()
        self.given_up += self.limit if stats.in_flight or stats.waiting else 0
        async with asyncio.timeout(GUARD):
            await self.client.aclose()
        self.closed = True
        assert (await self._refusal()) is errors.ClientClosedError

    async def _refusal(self) -> type[BaseException] | None:
        try:
            await self.client.search_active_user(bytes(500))
        except VerifikError as error:
            return type(error)
        return None

    # -- checking ------------------------------------------------------------------

    def check(self) -> None:
        """Check what holds at any time."""
        stats = self.client.stats()
        begun = self._begun()
        ended = stats.answered + stats.failed
        assert 0 <= stats.in_flight <= self.limit
        assert 1 <= stats.window <= self.limit
        assert stats.in_flight + stats.waiting <= begun - ended
        assert stats.attempts + stats.throttled == len(self.told)
        assert stats.throttled == sum(attempt.throttled for attempt in self.told)
        assert stats.resent <= stats.attempts
        assert stats.bytes_sent == sum(one.request_bytes for one in self.told)
        assert stats.bytes_received == sum(one.response_bytes for one in self.told)

    def check_quiet(self) -> None:
        """Check what holds when nothing runs, and begin a new period."""
        self.check()
        stats, begun = self.client.stats(), self._begun()
        assert (stats.in_flight, stats.waiting) == (0, 0)
        ended = stats.answered + stats.failed
        # Probes that meet a closed client are no searches any more.
        assert ended <= begun if self.closed else ended == begun
        for single in self.singles:
            single.check(exact=self.exact)
        for many in self.batches:
            many.check()
        self._check_requests()
        self._check_server()
        self._began = begun
        self.singles.clear()
        self.batches.clear()
        self._of_task.clear()

    def _begun(self) -> int:
        asked = sum(many.asked for many in self.batches)
        return self._began + len(self.singles) + asked

    def _check_requests(self) -> None:
        """Check that each request told is a search's, and the other way round."""
        by_singles = sum(len(single.told) for single in self.singles)
        summaries = [many.batch.summary for many in self.batches]
        by_batches = sum(one.attempts + one.throttled for one in summaries)
        is_exact = self.exact and not self.closed
        is_exact = is_exact and all(many.is_complete for many in self.batches)
        sent = self._new() - by_singles
        assert sent == by_batches if is_exact else sent >= 0

    def _check_server(self) -> None:
        """Check the server's counts against what was told, and the limit.

        What was given up may have arrived or not, told or not, and goes on at the
        server for a moment; so does the end of an answer that drips.
        """
        told, seen = self.told[self._told_before :], self.mock.hits
        assert seen >= sum(attempt.status is not None for attempt in told)
        ends = [_error(single.task) for single in self.singles]
        slack = self.given_up + sum(isinstance(end, CUT_SHORT) for end in ends)
        late = slack + self._slack_before
        if self.exact:
            assert seen <= len(told) + late
            assert late or self.drops or seen == len(told)
            assert self.mock.max_in_flight <= self.limit + late + self.drips
        self._period_begins(slack)


def worst(told: list[Attempt]) -> Charge:
    """Return the gravest charge of some requests."""
    charges = (attempt.charge for attempt in told)
    return functools.reduce(Charge.worst, charges, Charge.NOT_SENT)


def picture(number: int) -> bytes:
    return number.to_bytes(4, "big") * 200


def _error(task: asyncio.Task) -> BaseException | None:
    return None if task.cancelled() else task.exception()


_numbers = itertools.count()


def _task(work) -> asyncio.Task:
    """Start a task that is named as this package's."""
    name = f"machine-{next(_numbers)}"
    return asyncio.get_running_loop().create_task(work, name=name)
