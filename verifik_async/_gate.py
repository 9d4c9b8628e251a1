"""Who may send now: slots in the order of asking, one pause for all.

Decisions are made in functions without await; a search waits in one place.
"""

import asyncio
from collections import OrderedDict
from typing import NamedTuple

from verifik_async._config import Limiter, RateLimit
from verifik_async.errors import QueueFullError


class Patience(NamedTuple):
    """How long one search would wait out a pause that the service asked for.

    Attributes:
        until: Time of the loop's clock at which its deadline ends, or None.
        max_pause: Seconds of `Retry-After` that it accepts.
    """

    until: float | None
    max_pause: float

    def outlasts(self, now: float, end: float) -> bool:
        """Whether a pause until `end` can be waited out."""
        return end - now <= self.max_pause and (self.until is None or end < self.until)


class Gate:
    """Slots for the searches of one client on one event loop."""

    def __init__(
        self, slots: int, max_waiting: int | None, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.slots = slots
        self.in_flight = 0
        self._max_waiting = max_waiting
        self._loop = loop
        self._waiters: OrderedDict[asyncio.Future[bool], Patience] = OrderedDict()
        self._paused_until = 0.0
        self._asked_until = 0.0  # the part of the pause that the service asked for
        self._timer: asyncio.TimerHandle | None = None
        self.throttles_in_a_row = 0
        self._throttled_at = 0.0

    @property
    def waiting(self) -> int:
        """Searches in the queue."""
        return len(self._waiters)

    @property
    def paused(self) -> bool:
        """Whether nobody may send now."""
        return self._loop.time() < self._paused_until

    def asked_pause(self) -> float:
        """Return the seconds of quiet that the service still wants."""
        return max(0.0, self._asked_until - self._loop.time())

    def pause_left(self) -> float:
        """Return the seconds until somebody may send again."""
        return max(0.0, self._paused_until - self._loop.time())

    def try_enter(self, patience: Patience) -> bool:
        """Take a slot if one is free and nobody waits for it."""
        free = self.in_flight < self.slots and not self._waiters and not self.paused
        if free and patience.outlasts(self._loop.time(), self._asked_until):
            self.in_flight += 1
            return True
        return False

    async def enter(self, patience: Patience, *, again: bool = False) -> bool:
        """Wait for a slot; False if the service wants more quiet than `patience`.

        Args:
            patience: How long the search may wait for the service.
            again: Whether it was on the wire before: then no queue is too full.

        Raises:
            QueueFullError: the queue is full.
        """
        if self.try_enter(patience):
            return True
        if not patience.outlasts(self._loop.time(), self._asked_until):
            return False
        full = self._max_waiting is not None and self.waiting >= self._max_waiting
        if full and not again:
            raise QueueFullError(
                f"{self.waiting} searches wait already, as many as max_waiting "
                "allows: try again later or raise it"
            )
        return await self._wait(patience)

    async def _wait(self, patience: Patience) -> bool:
        waiter: asyncio.Future[bool] = self._loop.create_future()
        self._waiters[waiter] = patience
        try:
            return await waiter
        except asyncio.CancelledError:
            # Cancelled after the grant: only the future's result tells.
            if waiter.done() and not waiter.cancelled() and waiter.result():
                self.leave()
            raise
        finally:
            self._waiters.pop(waiter, None)

    def leave(self) -> None:
        """Give a slot back."""
        self.in_flight -= 1
        self._serve()

    def throttled(self, sent_at: float) -> bool:
        """Take note of a throttle; False if the pause for it has been made already.

        Requests that were on their way together are refused together: they are
        one sign, not many.
        """
        if sent_at < self._throttled_at:
            return False
        self._throttled_at = self._loop.time()
        self.throttles_in_a_row += 1
        return True

    def answered(self) -> None:
        """Take note of an answer that was no throttle."""
        self.throttles_in_a_row = 0

    def pause(self, seconds: float, *, asked: bool = False) -> None:
        """Let nobody send for some seconds; `asked`: the service wants it so."""
        now = self._loop.time()
        if asked:
            self._asked_until = max(self._asked_until, now + seconds)
            self._turn_away(now)
        if now + seconds > self._paused_until:
            self._paused_until = now + seconds
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(self._paused_until, self._end_pause)

    def close(self) -> None:
        """Forget the timer; nobody waits any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _end_pause(self) -> None:
        # By decree: a timer may fire early by its clock's resolution, and a look at
        # the clock would then find the pause going on, with no timer to follow.
        self._paused_until = 0.0
        self._serve()

    def _serve(self) -> None:
        """Grant free slots to the first in the queue."""
        while self._waiters and self.in_flight < self.slots and not self.paused:
            waiter, _ = self._waiters.popitem(last=False)
            if not waiter.done():  # a cancelled one has not left the queue yet
                self.in_flight += 1
                waiter.set_result(True)

    def _turn_away(self, now: float) -> None:
        """Refuse those who can't outwait what the service asks for."""
        end = self._asked_until
        hopeless = [w for w, p in self._waiters.items() if not p.outlasts(now, end)]
        for waiter in hopeless:
            del self._waiters[waiter]
            if not waiter.done():
                waiter.set_result(False)


class TokenBucket:
    """A `Limiter` of one event loop: `RateLimit` in seconds between searches."""

    def __init__(self, limit: RateLimit) -> None:
        self._interval = 1.0 / limit.per_second
        self._slack = (limit.burst - 1) * self._interval
        self._next = 0.0  # when the bucket has a permit again, burst apart

    async def acquire(self) -> None:
        """Return when one search may be sent; a cancelled wait loses its permit."""
        now = asyncio.get_running_loop().time()
        start = max(self._next, now)
        self._next = start + self._interval
        if (wait := start - self._slack - now) > 0:
            await asyncio.sleep(wait)

    def pause(self, seconds: float) -> None:
        """Give no permit for some seconds, and then no burst."""
        now = asyncio.get_running_loop().time()
        self._next = max(self._next, now + seconds + self._slack)


def build_limiter(rate_limit: RateLimit | Limiter | None) -> Limiter | None:
    """Return the limiter of one event loop."""
    return TokenBucket(rate_limit) if isinstance(rate_limit, RateLimit) else rate_limit
