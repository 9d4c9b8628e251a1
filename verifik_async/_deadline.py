"""How long one search may go on, and who may end its waits before that."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

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

    def begin(self) -> None:
        """Let the call's own time begin."""
        self.begun = True
        if self._limit is not None:
            self.at = self.before(self._loop.time() + self._limit)

    def before(self, end: float) -> float:
        """Return the earlier of a time and this."""
        return end if self.at is None else min(end, self.at)

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

    def over(self, tally: Tally) -> VerifikError | None:
        """Return the error for a search that must not go on, or None."""
        late = self.at is not None and self._loop.time() >= self.at
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
