"""Many searches: workers pull probes from a source, outcomes come out as they are.

The searches of a batch belong to its `async with` block: whoever leaves it, for
whatever reason, leaves nothing running behind.
"""

import asyncio
import contextlib
import functools
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, Final, Self

import attrs

from verifik_async._call import Company, Plan, Search
from verifik_async._deadline import CutOff, Deadline
from verifik_async._source import END, Probes, Source, check_key, key_of
from verifik_async._state import LoopState
from verifik_async._tally import Tally
from verifik_async._types import Charge, Masked
from verifik_async.errors import (
    BatchStoppedError,
    ClientClosedError,
    ConfigurationError,
    VerifikError,
)
from verifik_async.models import (
    BatchSummary,
    CallInfo,
    Outcome,
    Probe,
    SearchResult,
)

# Probes that may be pulled and not yet be taken by the consumer, per worker.
_AHEAD: Final = 2


@attrs.frozen(kw_only=True)
class Order:
    """What a batch is asked for, checked.

    Attributes:
        probes: The source; never shown.
        plan_of: Makes the plan of one search; raises what is wrong with a probe.
        state: Returns what belongs to the running loop.
        concurrency: Workers.
        ordered: Whether outcomes come in the order of the input.
        deadline: Seconds for all of it, or None.
        coalesce: Whether equal searches go over the wire once.
        stop_on: Errors that stop the batch.
        max_searches: Searches at most, or None.
        patient: Whether a stopped batch waits for what its source is asked for, so
            that nothing of that is lost.
    """

    probes: Masked[Probes]
    plan_of: Callable[[Probe], Plan]
    state: Callable[[], Awaitable[LoopState]]
    concurrency: int
    ordered: bool
    deadline: float | None
    coalesce: bool
    stop_on: tuple[type[VerifikError], ...]
    max_searches: int | None
    patient: bool = False


class _Shared:
    """Results of a batch by parameters and picture, and who is searching for them."""

    def __init__(self) -> None:
        self._known: dict[object, SearchResult | asyncio.Future[None]] = {}

    async def search(
        self,
        key: object,
        search: Callable[[], Awaitable[SearchResult]],
        wait: Callable[[Awaitable[None]], Awaitable[None]],
    ) -> tuple[SearchResult, bool]:
        """Return the result, and whether it is another's; errors are not shared."""
        while (known := self._known.get(key)) is not None:
            if isinstance(known, SearchResult):
                return known, True
            await wait(asyncio.shield(known))
        done = self._known[key] = asyncio.get_running_loop().create_future()
        try:
            result = self._known[key] = await search()
        except BaseException:
            del self._known[key]
            raise
        finally:
            done.set_result(None)
        return result, False


class Batch:
    """The outcomes of many searches: enter with `async with`, then iterate.

    One probe that fails does not end it: its error is in its outcome. Several tasks
    may share the iteration.
    """

    def __init__(self, order: Order) -> None:
        self._order = order
        self._group: asyncio.TaskGroup | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._idle: set[asyncio.Task[Any] | None] = set()  # those that search nothing
        self._asking: asyncio.Task[Any] | None = None  # the one that asks the source
        self._working = 0
        self._pulled = 0
        self._reserved = 0  # searches that were or will be sent
        self._spent = False  # no more of these are allowed
        self._ended = False  # no more probes are pulled
        self._stopped_by: str | None = None
        self._last: Callable[[], Exception] | None = None  # raised when all is yielded
        self._ready: deque[Outcome] = deque()
        self._early: dict[int, Outcome] = {}  # of an ordered batch: not yet its turn
        self._due = 0
        self._counts: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._shared = _Shared()
        self._finished_at: float | None = None

    async def __aenter__(self) -> Self:
        if self._group is not None:
            raise ConfigurationError("a batch is entered once: call search_many again")
        order = self._order
        await order.state()  # or there is none, and no probe need tell so
        self._loop = loop = asyncio.get_running_loop()
        self._began = loop.time()
        self._source = Source(order.probes)
        until = None if order.deadline is None else self._began + order.deadline
        self._company = Company(self._began, until, CutOff(loop, gentle=True))
        self._timer = None if until is None else loop.call_at(until, self._time_is_up)
        self._room = asyncio.Semaphore(order.concurrency * _AHEAD)
        self._turn = asyncio.Lock()
        self._news = asyncio.Event()
        self._group = await asyncio.TaskGroup().__aenter__()
        self._working = order.concurrency
        self._tasks = [
            self._group.create_task(self._work(), name=f"verifik-batch-{number}")
            for number in range(order.concurrency)
        ]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._group is not None  # noqa: S101 - entered before
        self._ended = True
        for task in self._tasks:
            task.cancel()
        try:
            # Not told of the error: it is the caller's, and goes on as it is.
            await self._group.__aexit__(None, None, None)
        finally:
            self._working = 0  # those that had not begun can't count themselves out
            self._finish()
            # Whoever keeps the batch for its summary keeps no picture.
            self._tasks.clear()
            self._shared = _Shared()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Outcome:
        """Return the next outcome.

        Raises:
            BatchStoppedError: one of `stop_on`, or what would meet every search,
                stopped the batch; all that was pulled has been yielded.
        """
        if self._group is None:
            raise ConfigurationError("a batch is iterated inside of its `async with`")
        while not self._ready:
            if not self._working:
                last, self._last = self._last, None
                raise StopAsyncIteration if last is None else last()
            self._news.clear()
            await self._news.wait()
        outcome = self._ready.popleft()
        self._room.release()
        self._count(outcome)
        return outcome

    @property
    def summary(self) -> BatchSummary:
        """Counts so far."""
        counts, end = self._counts, self._finished_at
        if self._group is None:
            return BatchSummary()
        return BatchSummary(
            **{name: counts[name] for name in _COUNTS},
            elapsed_s=(self._loop.time() if end is None else end) - self._began,
            errors=dict(self._errors),
            stopped_by=self._stopped_by,
        )

    def stop(self) -> None:
        """Send no more searches, let those on the wire finish, then end."""
        self._stop("stop")

    async def unsent(self) -> AsyncIterator[Outcome]:
        """Yield an outcome for each probe that a stopped batch has not asked for.

        Of an asynchronous source none once the deadline is over: it may take long.
        """
        if self._source.is_asynchronous and self._stopped_by == "deadline":
            return
        while (probe := await self._source.next()) is not END:
            index, self._pulled = self._pulled, self._pulled + 1
            yield Outcome(
                index=index,
                key=key_of(probe, index),
                context=probe.context,
                error=_stopped(self._stopped_by),
            )

    # -- ending ------------------------------------------------------------------

    def _end(self) -> None:
        """Pull no more; who only waits for a probe is sent home."""
        self._ended = True
        spared = {asyncio.current_task()}
        if self._order.patient and self._stopped_by != "deadline":
            spared.add(self._asking)
        for task in self._idle - spared:
            if task is not None:
                task.cancel()

    def _stop(self, reason: str, cause: VerifikError | None = None) -> None:
        """Pull no more, and send nothing that is not on the wire."""
        if self._group is None:  # not begun: then nothing will be
            self._stopped_by, self._ended = reason, True
        if not self._working or self._company.cut.error:
            return
        self._stopped_by = reason
        self._company.cut.cut(functools.partial(_stopped, reason, cause))
        if cause is not None and self._last is None:
            self._last = functools.partial(self._stopped_error, reason, cause)
        self._end()

    def _stopped_error(self, reason: str, cause: VerifikError) -> BatchStoppedError:
        return BatchStoppedError(
            f"the batch was stopped ({reason}): {cause}",
            charge=cause.charge,
            attempts=cause.attempts,
            cause=cause,
            summary=self.summary,
        )

    def _fail(self, error: Exception) -> None:
        """End with an error of the caller's, once what was pulled is done."""
        if isinstance(error, StopAsyncIteration):  # it would look like a good end
            error = RuntimeError("the source of probes raised StopAsyncIteration")
        if self._last is None:
            self._last = lambda: error
        self._end()

    def _time_is_up(self) -> None:
        if self._stopped_by is None:
            self._stopped_by = "deadline"
        self._end()  # the searches have deadlines of their own

    def _finish(self) -> None:
        if self._finished_at is None:
            self._finished_at = self._loop.time()
            left = self._spent and not self._source.is_empty
            if left and self._stopped_by is None:
                self._stopped_by = "max_searches"
        if self._timer is not None:
            self._timer.cancel()
        self._news.set()

    # -- workers -----------------------------------------------------------------

    async def _work(self) -> None:
        task = asyncio.current_task()
        try:
            while (pulled := await self._pull(task)) is not None:
                self._deliver(await self._search(*pulled))
                del pulled  # the picture, before a long wait for the next
        finally:
            self._working -= 1
            if not self._working:
                self._finish()

    async def _pull(self, task: asyncio.Task[Any] | None) -> tuple[int, Probe] | None:
        """Return the next probe, once the consumer keeps up; None: there is none."""
        self._idle.add(task)
        try:
            await self._room.acquire()
            if self._source.is_asynchronous:
                async with self._turn:
                    probe = await self._next(task)
            else:  # nobody else comes in between
                probe = await self._next(task)
        except Exception as error:  # noqa: BLE001 - the caller's source
            self._fail(error)
            return None
        except asyncio.CancelledError:
            if not self._ended:  # nobody but the source itself has cancelled this
                self._fail(RuntimeError("the source of probes was cancelled"))
            raise
        finally:
            self._idle.discard(task)
        if probe is None:
            return None
        if probe is END:
            self._end()
            return None
        self._pulled += 1
        self._reserved += 1
        return self._pulled - 1, probe

    async def _next(self, task: asyncio.Task[Any] | None) -> Any:
        """Return the next probe or `END`; None where no more may be pulled."""
        self._spent = self._is_spent()
        if self._ended or self._spent:
            return None
        self._asking = task
        return await self._source.next()

    def _is_spent(self) -> bool:
        """Whether the budget allows no further search."""
        limit = self._order.max_searches
        return limit is not None and self._reserved >= limit

    async def _search(self, index: int, probe: Probe) -> Outcome:
        key = key_of(probe, index)
        search: Search | None = None
        try:
            check_key(probe)
            plan = self._order.plan_of(probe)
            state = await self._order.state()
            search = Search(plan, state, self._company)
            result, call = await self._result(search, plan, state)
        except VerifikError as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - of the caller's token or limiter
            self._fail(error)
            failure = _stopped(type(error).__name__)
            if search is not None:
                search.tally.complete(failure)
        else:
            return Outcome(
                index=index, key=key, context=probe.context, result=result, call=call
            )
        finally:
            self._account(None if search is None else search.tally)
        self._stop_for(failure, hopeless=search is not None and search.hopeless)
        # The frames in it hold the picture, and an outcome may be kept for long.
        failure.__traceback__ = None
        tally = Tally(self._loop.time()) if search is None else search.tally
        return Outcome(
            index=index,
            key=key,
            context=probe.context,
            error=failure,
            call=tally.info(self._loop.time()),
        )

    def _account(self, tally: Tally | None) -> None:
        if tally is not None:
            self._counts["attempts"] += tally.attempts
            self._counts["throttled"] += tally.throttled
        self._reserved -= tally is None or not tally.on_wire

    async def _result(
        self, search: Search, plan: Plan, state: LoopState
    ) -> tuple[SearchResult, CallInfo]:
        if not self._order.coalesce:
            result = await search.run()
            return result, result.call
        waits = Deadline(
            self._loop, None, (state.cut, self._company.cut), self._company.until
        )
        digest = await waits.within(_digest(plan), search.tally)
        result, coalesced = await self._shared.search(
            (plan.start, digest),
            search.run,
            lambda work: waits.within(work, search.tally),
        )
        self._counts["coalesced"] += coalesced
        return result, CallInfo() if coalesced else result.call

    def _stop_for(self, error: VerifikError, *, hopeless: bool) -> None:
        """Stop the batch if an error would meet every other search as well."""
        stops = (*self._order.stop_on, ClientClosedError)
        if hopeless or isinstance(error, stops):
            self._stop(type(error).__name__, error)

    # -- what comes out ----------------------------------------------------------

    def _deliver(self, outcome: Outcome) -> None:
        if self._order.ordered:
            self._early[outcome.index] = outcome
            while self._due in self._early:
                self._ready.append(self._early.pop(self._due))
                self._due += 1
        else:
            self._ready.append(outcome)
        self._news.set()

    def _count(self, outcome: Outcome) -> None:
        if outcome.error is None:
            self._counts["answered"] += 1
            return
        self._counts["failed"] += 1
        self._errors[type(outcome.error).__name__] += 1
        if outcome.state is not Charge.ANSWERED:
            self._counts[outcome.state] += 1


_COUNTS: Final = (
    "answered",
    "failed",
    "not_sent",
    "maybe_charged",
    "coalesced",
    "attempts",
    "throttled",
)


async def _digest(plan: Plan) -> str:
    """Open the picture of a plan, once and for all, and return its digest."""
    plan.source = picture = await plan.source.open()
    return await picture.digest()


async def collect(order: Order) -> list[Outcome]:
    """Return an outcome for each probe, in the order of the input.

    Those that a stopped batch left in its source are not sent.
    """
    outcomes: list[Outcome] = []
    async with Batch(attrs.evolve(order, patient=True)) as batch:
        with contextlib.suppress(BatchStoppedError):
            async for outcome in batch:
                outcomes.append(outcome)  # noqa: PERF401 - kept when the batch stops
        outcomes.extend([outcome async for outcome in batch.unsent()])
    return outcomes


def _stopped(reason: str | None, cause: Exception | None = None) -> BatchStoppedError:
    """Return the error of a probe that a stopped batch did not search."""
    return BatchStoppedError(
        f"not sent: the batch was stopped ({reason})",
        cause=cause if isinstance(cause, VerifikError) else None,
    )
