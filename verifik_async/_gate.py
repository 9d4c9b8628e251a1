"""Who may send now: slots in order, the pause of everyone, the outage and its probe.

Decisions are made in functions without await; a search waits in one place.
"""

import asyncio
import copy
import enum
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, TypeAlias

import attrs

from verifik_async._config import RateLimit
from verifik_async._pace import Bucket, Grant, Pace
from verifik_async.errors import QueueFullError, VerifikError

# Requests in a row, of whatever searches, that make an outage when all of them fail.
OUTAGE_AFTER: Final = 10

# Seconds after the first answer of all in which those come that were sent with it:
# where the service is limited, some of them are refused, and what would be sent
# meanwhile would be as well.
FIRST_LOOK: Final = 0.02

_UNSENT: Final = Grant(-1, in_burst=False)


class Rank(enum.IntEnum):
    """Whose turn it is first; within a rank the first to come is the first to go."""

    SINGLE = 0
    BATCH = 1


class Refused(NamedTuple):
    """Why a search is not sent at all.

    Attributes:
        asked: Seconds of quiet that the service wants, or None if that is not why.
        error: What the requests of an outage that lasts too long end in, or None.
    """

    asked: float | None = None
    error: VerifikError | None = None


@attrs.define
class Patience:
    """How long one search would wait for the service.

    Attributes:
        until: Time of the loop's clock at which its deadline ends, or None.
        max_pause: Seconds of `Retry-After` that it accepts.
        max_outage: Seconds of an outage that it accepts.
    """

    until: float | None
    max_pause: float
    max_outage: float = math.inf

    def outlasts(self, now: float, end: float) -> bool:
        """Whether a pause until `end` can be waited out."""
        return end - now <= self.max_pause and (self.until is None or end < self.until)


class Ticket:
    """One search at the gate, from its first wait to its end.

    Attributes:
        rank: Its rank.
        patience: How long it would wait.
        came_at: When it came to the gate first.
        granted_at: When it was let through last.
        grant: The circumstances of that.
        probes: The outage that it was let through in, to see if that is over, or None.
        served: Whether it was let through before: it goes before those that were not.
    """

    __slots__ = (
        "came_at",
        "grant",
        "granted_at",
        "patience",
        "probes",
        "rank",
        "served",
    )

    def __init__(self, rank: Rank, patience: Patience, came_at: float) -> None:
        self.rank = rank
        self.patience = patience
        self.came_at = came_at
        self.granted_at = came_at
        self.grant = _UNSENT
        self.probes: Outage | None = None
        self.served = False


# Who waits: a grant is None, or else the reason for none.
_Waiter: TypeAlias = asyncio.Future[Refused | None]
_Lane: TypeAlias = OrderedDict[_Waiter, Ticket]


class Trouble:
    """A time in which the service answers nobody as it should.

    Attributes:
        began_at: When it was noticed.
        error: What the latest request ended in; a copy without its traceback, whose
            frames hold a picture.
    """

    def __init__(self, began_at: float, error: VerifikError) -> None:
        self.began_at = began_at
        self.error = copy.copy(error)

    def ends_for(self, ticket: Ticket) -> float:
        """Return when a search has waited for its end as long as it would."""
        return max(self.began_at, ticket.came_at) + ticket.patience.max_outage


class Outage(Trouble):
    """A time in which one request at a time is sent, to see whether it is over.

    Attributes:
        probing: Whether a request is on its way.
        next_at: When the next may be sent.
    """

    def __init__(
        self, began_at: float, error: VerifikError, delays: Iterator[float]
    ) -> None:
        super().__init__(began_at, error)
        self.probing = False
        self._delays = delays
        self.wait(began_at)

    def wait(self, now: float) -> None:
        """Let the next request wait, longer each time."""
        self.next_at = now + next(self._delays)


class Gate:
    """Slots for the searches of one client on one event loop.

    Attributes:
        in_flight: Searches that were let through and have not left.
        outage: The outage that lasts, or None.
        throttles_in_a_row: Throttles since the last other answer.
    """

    def __init__(
        self,
        slots: int,
        max_waiting: int | None,
        loop: asyncio.AbstractEventLoop,
        limit: RateLimit | None = None,
    ) -> None:
        self.in_flight = 0
        self.outage: Outage | None = None
        self._siege: Trouble | None = None  # throttles, and no other answer since
        self.throttles_in_a_row = 0
        self._max_waiting = max_waiting
        self._loop = loop
        # In the order of service: singles that were throttled, singles, and so on.
        self._lanes: tuple[_Lane, ...] = tuple(
            OrderedDict() for _ in range(2 * len(Rank))
        )
        self._pace = Pace(slots)
        self._limit = None if limit is None else _bucket(limit, loop.time())
        self._paused_until = 0.0
        self._asked_until = 0.0  # the part of the pause that the service asked for
        self._failed_in_a_row = 0
        self._is_new = True  # nothing has been answered yet
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_at = 0.0

    @property
    def window(self) -> int:
        """Searches that may be on the wire at once now."""
        return int(self._pace.window)

    @property
    def waiting(self) -> int:
        """Searches in the queue."""
        return sum(map(len, self._lanes))

    def pause_left(self) -> float:
        """Return the seconds until somebody may send again."""
        return max(0.0, self._paused_until - self._loop.time())

    # -- in and out --------------------------------------------------------------

    def try_enter(self, ticket: Ticket) -> bool:
        """Take a slot if one is free and nobody waits for it."""
        now = self._loop.time()
        if any(self._lanes) or not self._free(now):
            return False
        if now < self._asked_until and not ticket.patience.outlasts(
            now, self._asked_until
        ):
            return False
        self._grant(ticket, now)
        return True

    async def enter(self, ticket: Ticket) -> Refused | None:
        """Wait for a slot; return None, or why there will be none.

        Raises:
            QueueFullError: the queue is full, for those that have not been served.
        """
        while True:
            if not self.try_enter(ticket):
                now = self._loop.time()
                if (refused := self._refusal(ticket, now)) is not None:
                    return refused
                self._check_room(ticket)
                if (refused := await self._wait(ticket)) is not None:
                    return refused
            if not self.recalled(ticket):
                return None

    def recalled(self, ticket: Ticket) -> bool:
        """Take back a slot that a pause or an outage has overtaken.

        Between the grant and the sending others may have learned that the service
        wants quiet: what has not been sent is not sent into that.
        """
        held = self._loop.time() < self._paused_until or (
            self.outage is not None and ticket.probes is not self.outage
        )
        if held:
            self.take_back(ticket)
        return held

    def take_back(self, ticket: Ticket) -> None:
        """Undo a grant: nothing was sent."""
        self._pace.recall(ticket.grant)
        # What a throttle has taken away since is not given back.
        if self._limit is not None and ticket.grant.epoch == self._pace.epoch:
            self._limit.give_back()
        self.leave(ticket)

    def leave(self, ticket: Ticket) -> None:
        """Give a slot back."""
        self.in_flight -= 1
        if ticket.probes is not None:
            ticket.probes.probing = False
            ticket.probes = None
        if any(self._lanes):
            self._serve(self._loop.time())

    # -- what became of a request: told before its slot is given back --------------

    def answered(self, ticket: Ticket) -> None:
        """Take note of an answer that was neither a throttle nor a failure."""
        self.throttles_in_a_row = 0
        self._siege = None
        self._works()
        if self._is_new:
            self._is_new = False
            # If anybody would follow at once.
            if self.in_flight > 1 and (ticket.rank is Rank.BATCH or any(self._lanes)):
                self._pause(FIRST_LOOK)
        self._pace.answered(ticket.grant, self._loop.time())

    def throttled(
        self,
        ticket: Ticket,
        error: VerifikError,
        asked: float | None,
        backoff: Callable[[int], float],
    ) -> None:
        """Take note of a throttle and pause everybody, once for all of one kind.

        Args:
            ticket: Of the search that was refused.
            error: What it ended in.
            asked: Seconds of the service's `Retry-After`, or None.
            backoff: Gives seconds of pause after so many throttles in a row.
        """
        self._works()
        now = self._loop.time()
        began_at = now if self._siege is None else self._siege.began_at
        self._siege = Trouble(began_at, error)
        new = self._pace.throttled(ticket.grant, ticket.granted_at, asked)
        if new:
            self.throttles_in_a_row += 1
        if asked:
            self._pause(asked)
            self._asked_until = max(self._asked_until, now + asked)
        elif new:
            self._pause(backoff(self.throttles_in_a_row))
        if asked or new:
            self._turn_away(now)
        if new and self._limit is not None:  # a full service is not met with a burst
            self._limit.empty(self._paused_until)

    def failed(
        self, ticket: Ticket, error: VerifikError, delays: Callable[[], Iterator[float]]
    ) -> bool:
        """Take note of a request that the service failed; True: an outage begins.

        Args:
            ticket: Of the search.
            error: What it ended in.
            delays: Gives seconds to wait before each request during an outage.
        """
        self._failed_in_a_row += 1
        now = self._loop.time()
        if self.outage is None:
            if self._failed_in_a_row < OUTAGE_AFTER:
                return False
            self.outage = Outage(now, error, delays())
            self._watch(self.outage, now)
            return True
        self.outage.error = copy.copy(error)
        self.lost(ticket)
        return False

    def lost(self, ticket: Ticket) -> None:
        """Take note of a request without an answer: it does not end an outage."""
        if self.outage is not None and ticket.probes is self.outage:
            now = self._loop.time()
            self.outage.wait(now)
            self._watch(self.outage, now)

    def sent_again(self, ticket: Ticket) -> None:
        """Take note of one request more in the same slot, with no wait before it."""
        now = self._loop.time()
        ticket.grant = self._pace.send(now)
        if self._limit is not None:
            self._limit.take(now)  # others wait for it

    def endless(self, ticket: Ticket) -> bool:
        """Whether nothing but throttles has come for longer than a search accepts."""
        return self._siege is not None and (
            self._siege.ends_for(ticket) <= self._loop.time()
        )

    def close(self) -> None:
        """Forget the timer; nobody waits any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- decisions -----------------------------------------------------------------

    def _works(self) -> None:
        """Take note that the service has answered: no outage, or no more."""
        self._failed_in_a_row = 0
        self.outage = None

    def _pause(self, seconds: float) -> None:
        """Let nobody send for some seconds."""
        self._paused_until = max(self._paused_until, self._loop.time() + seconds)
        self._wake_at(self._paused_until)

    def _free(self, now: float) -> bool:
        return self.in_flight + 1 <= self._width() and self._ready_at(now) <= now

    def _width(self) -> float:
        if self.outage is None:
            return self._pace.window
        # Whatever is still on its way from before; then one, and one only.
        return 0 if self.outage.probing else self.in_flight + 1

    def _ready_at(self, now: float) -> float:
        """Return when somebody may be sent, as far as time decides it."""
        if now < self._paused_until:
            return self._paused_until
        ready = self._pace.ready_at(now)
        if self._limit is not None:
            ready = max(ready, self._limit.ready_at(now))
        if self.outage is not None:
            ready = max(ready, self.outage.next_at)
        return ready

    def _grant(self, ticket: Ticket, now: float) -> None:
        self.in_flight += 1
        ticket.granted_at = now
        ticket.grant = self._pace.send(now)
        ticket.served = True
        if self._limit is not None:
            self._limit.take(now)
        if self.outage is not None:
            ticket.probes = self.outage
            self.outage.probing = True

    def _serve(self, now: float) -> None:
        """Grant free slots to the first in the queue; see to it for the others."""
        for lane in self._lanes:
            while lane and self.in_flight + 1 <= self._width():
                if (ready := self._ready_at(now)) > now:
                    self._wake_at(ready)
                    return
                waiter, ticket = lane.popitem(last=False)
                if not waiter.done():  # a cancelled one has not left the queue yet
                    self._grant(ticket, now)
                    waiter.set_result(None)

    def _wake_at(self, when: float) -> None:
        """Serve the queue at a time, if not before."""
        if self._timer is not None:
            if self._wakes_at <= when:
                return
            self._timer.cancel()
        # Not asked of the handle: uvloop's has no time where it is due at once.
        self._wakes_at = when
        self._timer = self._loop.call_at(when, self._woken, when)

    def _woken(self, when: float) -> None:
        self._timer = None
        # By decree: a timer may fire early by its clock's resolution, and the time
        # that it was set for would then not have come.
        now = max(when, self._loop.time())
        if self._paused_until <= now:
            self._paused_until = 0.0
        if self.outage is not None:
            self._watch(self.outage, now)
        self._serve(now)

    def _watch(self, outage: Outage, now: float) -> None:
        """Turn away who has waited long enough for its end; see to the next."""
        self._turn_away(now)
        ends = [outage.ends_for(t) for lane in self._lanes for t in lane.values()]
        if ends:
            self._wake_at(min(ends))

    # -- the queue -------------------------------------------------------------------

    def _lane(self, ticket: Ticket) -> _Lane:
        return self._lanes[2 * ticket.rank + (not ticket.served)]

    async def _wait(self, ticket: Ticket) -> Refused | None:
        waiter: _Waiter = self._loop.create_future()
        lane = self._lane(ticket)
        lane[waiter] = ticket
        now = self._loop.time()
        if self.outage is not None:
            self._wake_at(self.outage.ends_for(ticket))
        self._serve(now)  # sets the timer that this one waits for
        try:
            return await waiter
        except asyncio.CancelledError:
            # Cancelled after the grant: only the future's result tells.
            granted = waiter.done() and not waiter.cancelled()
            if granted and waiter.result() is None:
                self.take_back(ticket)
            raise
        finally:
            lane.pop(waiter, None)

    def _check_room(self, ticket: Ticket) -> None:
        if self._max_waiting is None or ticket.rank is Rank.BATCH or ticket.served:
            return
        waiting = sum(map(len, self._lanes[:2]))
        if waiting >= self._max_waiting:
            raise QueueFullError(
                f"{waiting} searches wait already, as many as max_waiting "
                "allows: try again later or raise it"
            )

    def _refusal(self, ticket: Ticket, now: float) -> Refused | None:
        """Return why a search should not wait at all, or None."""
        if not ticket.patience.outlasts(now, self._asked_until):
            return Refused(asked=self._asked_until - now)
        if self.outage is not None and self.outage.ends_for(ticket) <= now:
            return Refused(error=self.outage.error)
        siege = self._siege if ticket.patience.until is None else None
        if siege is not None and siege.ends_for(ticket) <= now:
            return Refused(error=siege.error)  # no deadline bounds its waiting
        return None

    def _turn_away(self, now: float) -> None:
        """Refuse those who can't outwait what the service does to them."""
        for lane in self._lanes:
            refused = [
                (waiter, refusal)
                for waiter, ticket in lane.items()
                if (refusal := self._refusal(ticket, now)) is not None
            ]
            for waiter, refusal in refused:
                del lane[waiter]
                if not waiter.done():
                    waiter.set_result(refusal)


def _bucket(limit: RateLimit, now: float) -> Bucket:
    return Bucket(limit.per_second, float(limit.burst), float(limit.burst), now)
