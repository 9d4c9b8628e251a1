"""What one event loop knows of a limit that many share; it decides and never waits.

Times are of the loop's clock, in seconds, and every function is told them.
"""

import heapq
import math
from typing import Final

from verifik_async import RateLimit

# Seconds between two looks whether what keeps the limit is back.
_AGAIN: Final = 0.5
# Seconds after which news are too old to send by: somebody may have asked for a pause.
_FRESH: Final = 0.05


class Share:
    """Permits, pauses and news of one event loop.

    Attributes:
        quiet_until: When the latest pause is over, whoever asked for it.
        asked_until: When the latest pause that was asked for here is over.
        down: Whether what keeps the limit does not answer.
        ask_at: When it is asked again, if it is down.
    """

    def __init__(self, alone: RateLimit | None, timeout: float) -> None:
        self.quiet_until = -math.inf
        self.asked_until = -math.inf
        self.down = False
        self.ask_at = -math.inf
        self._told_until = -math.inf
        self._heard_at = -math.inf
        self._timeout = timeout
        self._unused: list[float] = []
        alone = alone or RateLimit(1)
        self._interval = 1.0 / alone.per_second
        self._saved = (alone.burst - 1) * self._interval
        self._next = -math.inf

    # -- permits -----------------------------------------------------------------

    def reserved(self, due: float) -> None:
        """Take note of a permit: who goes on alone does so after it."""
        self._next = max(self._next, due) + self._interval

    def reserve_alone(self, now: float) -> float:
        """Return when the next may be sent by the limit of this loop alone."""
        due = max(self._next, now - self._saved, self.quiet_until)
        self._next = due + self._interval
        return max(due, now)

    def hand_back(self, due: float) -> None:
        """Leave a permit to the next: who had it waits no longer."""
        heapq.heappush(self._unused, due)

    def handed_back(self, now: float) -> float | None:
        """Return the first permit that was left and is still good."""
        while self._unused:
            due = heapq.heappop(self._unused)
            if due >= now and not self.is_overtaken(due):
                return due
        return None

    def is_overtaken(self, due: float) -> bool:
        """Whether a pause has come over a permit."""
        return due < self.quiet_until

    # -- pauses ------------------------------------------------------------------

    def pause(self, until: float) -> None:
        """Take note of a pause that was asked for here."""
        self.asked_until = max(self.asked_until, until)
        self.quiet_until = max(self.quiet_until, until)

    def untold(self, now: float) -> float:
        """Return the seconds of pause that others do not know of yet."""
        known = self.asked_until <= self._told_until
        return 0.0 if known else max(0.0, self.asked_until - now)

    # -- news --------------------------------------------------------------------

    def is_stale(self, now: float) -> bool:
        """Whether to ask for news before something is sent."""
        return now - self._heard_at > _FRESH and self.may_ask(now)

    def heard(self, sent: float, asked_until: float, quiet: float) -> bool:
        """Take note of an answer; True: it had been down.

        Args:
            sent: When it was asked. A pause is counted from then, so that no permit
                of after the pause seems to be of before its end.
            asked_until: End of the pause that it was told of.
            quiet: Seconds of pause that were left.
        """
        self._heard_at = max(self._heard_at, sent)
        self._told_until = max(self._told_until, asked_until)
        if quiet > 0.0:
            self.quiet_until = max(self.quiet_until, sent + quiet)
        was_down, self.down = self.down, False
        return was_down

    def lost(self, now: float) -> bool:
        """Take note that there was no answer; True: it had not been down."""
        was_down, self.down = self.down, True
        self.ask_at = now + _AGAIN
        return not was_down

    def may_ask(self, now: float) -> bool:
        """Whether to ask at all; of all that wait for it to be back, one does."""
        if not self.down:
            return True
        if now < self.ask_at:
            return False
        self.ask_at = now + self._timeout + _AGAIN
        return True
