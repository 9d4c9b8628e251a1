"""How long one search may go on, and who may end its waits before that."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self, TypeVar

from verifik_async._tally import Tally
from verifik_async.errors import DeadlineExceededError, VerifikError

T = TypeVar("T")


class CutOff:
    """Ends all waits that watch it, without cancelling the tasks that wait.

    Attributes:
        error: Makes the error that they end in; None while they may go on.
        gentle: Whether a search that has failed already ends in its own error.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, gentle: bool = False
    ) -> None:
        self.error: Callable[[], VerifikError] | None = None
        self.gentle = gentle
        self._loop = loop
        self._scopes: set[asyncio.Timeout] = set()

    def watch(self, scope: asyncio.Timeout) -> None:
        """Let a scope that was entered end with the others."""
        self._scopes.add(scope)
        if self.error is not None:
            scope.reschedule(self._loop.time())

    def forget(self, scope: asyncio.Timeout) -> None:
        """Take note that a scope was left."""
        self._scopes.discard(scope)

    def cut(self, error: Callable[[], VerifikError]) -> None:
        """End what waits, and what will."""
        if self.error is not None:
            return
        self.error = error
        now = self._loop.time()
        for scope in self._scopes:
            if not scope.expired():
                scope.reschedule(now)


class Watch:
    """Ends requests that take too long: one timer for all, set to the first to end.

    A timer of its own, as `asyncio.timeout` has, would cost each request three times
    as much, and is hardly ever needed.

    Attributes:
        loop: Whose clock counts.
        limits: The blocks that were entered and not left.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.limits: set[Limit] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = math.inf
        self._ended = False

    def see_to(self, limit: "Limit") -> None:
        """Take care of a block that was entered."""
        self.limits.add(limit)
        if self._ended:
            self.loop.call_soon(limit.end)
        elif limit.at < self._rings_at:
            self._ring_at(limit.at)

    def end_all(self) -> None:
        """End all blocks, and those that are entered later at once."""
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
        for limit in self.limits:
            limit.end()

    def _ring_at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings_at = when
        self._timer = self.loop.call_at(when, self._ring, when)

    def _ring(self, when: float) -> None:
        self._timer, self._rings_at = None, math.inf
        # By decree: a timer may fire early by its clock's resolution.
        now = max(when, self.loop.time())
        for limit in self.limits:
            if limit.at <= now:
                limit.end()
        left = (limit.at for limit in self.limits if limit.at > now)
        if (first := min(left, default=math.inf)) < math.inf:
            self._ring_at(first)


class Limit:
    """A `with` block whose waits end at a time; what ended it is not raised.

    Attributes:
        at: When, on the loop's clock.
        passed: Whether it was ended. Where nothing else was raised, the block is left
            then as if it had come to its end.
    """

    __slots__ = ("_cancelling", "_task", "_watch", "at", "passed")

    def __init__(self, watch: Watch, at: float | None) -> None:
        self.at = math.inf if at is None else at
        self.passed = False
        self._watch = watch
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0

    def __enter__(self) -> Self:
        # Told the loop, it need not look for it.
        self._task = task = asyncio.current_task(self._watch.loop)
        assert task is not None  # noqa: S101 - coroutines run in tasks
        self._cancelling = task.cancelling()
        self._watch.see_to(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._watch.limits.discard(self)
        task, self._task = self._task, None
        if not self.passed or task is None:
            return False
        # A cancellation from outside, at the same time, goes on.
        mine = task.uncancel() <= self._cancelling
        return mine and kind is asyncio.CancelledError

    def end(self) -> None:
        """End it now, once."""
        if self._task is not None and not self.passed:
            self.passed = True
            self._task.cancel()


class Deadline:
    """The end of one search's time.

    Attributes:
        at: When it comes, on the loop's clock, or None.
        begun: Whether the call's own time counts already.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        limit: float | None,
        cuts: tuple[CutOff, ...],
        bound: float | None = None,
    ) -> None:
        """Set up a deadline that has not begun.

        Args:
            loop: Whose clock counts.
            limit: Seconds that a call may take, from its beginning.
            cuts: What may end its waits.
            bound: When it ends in any case, begun or not.
        """
        self.at = bound
        self.begun = False
        self._loop = loop
        self._limit = limit
        self._cuts = cuts
        self._bound = bound

    def begin(self, now: float) -> None:
        """Let the call's own time begin."""
        self.begun = True
        if self._limit is not None:
            self.at = self.before(now + self._limit)

    def before(self, end: float) -> float:
        """Return the earlier of a time and this."""
        return end if self.at is None or end < self.at else self.at

    async def within(self, work: Awaitable[T], tally: Tally) -> T:
        """Await something, no longer than there is time.

        Args:
            work: What to await.
            tally: Of the search, for the error.

        Raises:
            DeadlineExceededError: it took longer.
            VerifikError: the client was closed, or the batch stopped, meanwhile.
        """
        scope = asyncio.timeout_at(self.at)
        try:
            async with scope:
                for cut in self._cuts:
                    cut.watch(scope)
                return await work
        except TimeoutError:
            if not scope.expired():
                raise
        finally:
            for cut in self._cuts:
                cut.forget(scope)
        raise self.cut_short(tally) or self.passed(tally)

    def over(self, now: float, tally: Tally) -> VerifikError | None:
        """Return the error for a search that must not go on, or None."""
        late = self.at is not None and now >= self.at
        return self.cut_short(tally) or (self.passed(tally) if late else None)

    def cut_short(self, tally: Tally) -> VerifikError | None:
        """Return the error of what has ended its waits, or None."""
        for cut in self._cuts:
            if cut.error is not None:
                own = tally.error if cut.gentle else None
                return tally.complete(cut.error() if own is None else own)
        return None

    def passed(self, tally: Tally) -> VerifikError:
        """Return the error for a search whose time is up."""
        whose = f"the deadline of {self._limit or 0.0:g} s"
        if self._bound is not None and self.at == self._bound:
            whose = "the deadline of the batch"
        last = f", last status {tally.status}" if tally.status else ""
        return tally.complete(
            DeadlineExceededError(
                f"no answer within {whose} "
                f"({tally.attempts} attempts, {tally.throttled} throttled{last})",
                last_status=tally.status,
            )
        )
