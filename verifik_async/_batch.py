"""Many searches: workers pull probes from a source, outcomes come out as they are.

The searches of a batch belong to its `async with` block: whoever leaves it, for
whatever reason, leaves nothing running behind.
"""

import asyncio
import contextlib
import functools
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, Final, Self

import attrs

from verifik_async._call import Company
from verifik_async._deadline import CutOff
from verifik_async._finder import Finder, Item
from verifik_async._journal_file import JournalWriter
from verifik_async._order import Order
from verifik_async._source import END, Source
from verifik_async._tally import Tally
from verifik_async._types import Charge
from verifik_async.errors import (
    BatchStoppedError,
    ClientClosedError,
    ConfigurationError,
    JournalError,
    VerifikError,
)
from verifik_async.models import (
    BatchSummary,
    CallInfo,
    Outcome,
)

# Probes that may be pulled and not yet be taken by the consumer, per worker.
_AHEAD: Final = 2


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
        # Of an ordered batch: not yet its turn. None: it was skipped.
        self._early: dict[int, Outcome | None] = {}
        self._due = 0
        self._counts: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._journal: JournalWriter | None = None
        self._finished_at: float | None = None

    async def __aenter__(self) -> Self:
        if self._group is not None:
            raise ConfigurationError("a batch is entered once: call search_many again")
        order = self._order
        await order.state()  # or there is none, and no probe need tell so
        self._loop = loop = asyncio.get_running_loop()
        self._began = loop.time()
        self._source = Source(order.probes)
        if order.journal is not None:
            self._journal = await JournalWriter.open(
                order.journal.path, order.journal.parameters, self._journal_failed
            )
        until = None if order.deadline is None else self._began + order.deadline
        self._company = Company(self._began, until, CutOff(loop, gentle=True))
        self._finder = Finder(order, self._company, self._journal)
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
            self._finder.forget()
            if self._journal is not None:
                await self._close(self._journal, quietly=kind is not None)

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
            coalesced=self._finder.coalesced,
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
            yield Item(index, probe).outcome(error=_stopped(self._stopped_by))

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
            while (item := await self._pull(task)) is not None:
                outcome = await self._outcome(item)
                if outcome is not None:
                    await self._keep(item, outcome)
                self._hand_out(item.index, outcome)
                del item  # the picture, before a long wait for the next
        finally:
            self._working -= 1
            if not self._working:
                self._finish()

    async def _pull(self, task: asyncio.Task[Any] | None) -> Item | None:
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
        return Item(self._pulled - 1, probe)

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

    async def _outcome(self, item: Item) -> Outcome | None:
        """Return what became of a probe; None: the journal has its answer."""
        try:
            answer = await self._finder.find(item)
        except VerifikError as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - of the caller's token or limiter
            self._fail(error)
            failure = _stopped(type(error).__name__)
            if item.search is not None:
                item.search.tally.complete(failure)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                self._cut_off(item)
                raise
            # Nobody but the caller's own code, a limiter or `prepare`, did this.
            self._fail(RuntimeError("a search was cancelled from within"))
            failure = _stopped("RuntimeError")
        else:
            if answer is None:
                return None
            return item.outcome(result=answer[0], call=answer[1])
        finally:
            self._account(None if item.search is None else item.search.tally)
        hopeless = item.search is not None and item.search.hopeless
        self._stop_for(failure, hopeless=hopeless)
        # The frames in it hold the picture, and an outcome may be kept for long.
        failure.__traceback__ = None
        return item.outcome(error=failure, call=self._call(item))

    def _account(self, tally: Tally | None) -> None:
        if tally is not None:
            self._counts["attempts"] += tally.attempts
            self._counts["throttled"] += tally.throttled
        self._reserved -= tally is None or not tally.on_wire

    def _call(self, item: Item) -> CallInfo:
        now = self._loop.time()
        return (Tally(now) if item.search is None else item.search.tally).info(now)

    def _stop_for(self, error: VerifikError, *, hopeless: bool) -> None:
        """Stop the batch if an error would meet every other search as well."""
        stops = (*self._order.stop_on, ClientClosedError)
        if hopeless or isinstance(error, stops):
            self._stop(type(error).__name__, error)

    # -- the journal -------------------------------------------------------------

    async def _keep(self, item: Item, outcome: Outcome) -> None:
        """Wait until the journal has an outcome.

        The next search waits as well: so a process that is killed has at most as many
        answers that are not kept as it has workers.
        """
        # An answer of before is not forgotten because this run did not come to it.
        forgets = item.before is not None and outcome.state is Charge.NOT_SENT
        if self._journal is not None and item.claimed and not forgets:
            await self._journal.add(outcome, item.searched).wait()

    def _cut_off(self, item: Item) -> None:
        """Keep that a search may have been charged of which nobody will hear."""
        if self._journal is None or item.search is None:
            return
        error = item.search.tally.complete(BatchStoppedError("cut off on the wire"))
        if error.charge is not Charge.NOT_SENT:
            outcome = item.outcome(error=error, call=self._call(item))
            self._journal.add(outcome, item.searched)

    def _journal_failed(self, error: JournalError) -> None:
        """Send nothing more of which nothing would be kept."""
        if self._last is None:
            self._last = lambda: error
        self._stop(type(error).__name__)

    @staticmethod
    async def _close(journal: JournalWriter, *, quietly: bool) -> None:
        try:
            await journal.close()
        except JournalError:
            if not quietly:  # another error is on its way, and says more
                raise

    # -- what comes out ----------------------------------------------------------

    def _hand_out(self, index: int, outcome: Outcome | None) -> None:
        """Let the consumer have an outcome; None: it was skipped."""
        if self._order.ordered:
            self._early[index] = outcome
            while self._due in self._early:
                self._hand_out_now(self._early.pop(self._due))
                self._due += 1
        else:
            self._hand_out_now(outcome)
        self._news.set()

    def _hand_out_now(self, outcome: Outcome | None) -> None:
        if outcome is None:
            self._counts["skipped"] += 1
            self._room.release()
        else:
            self._ready.append(outcome)

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
    "skipped",
    "attempts",
    "throttled",
)


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
