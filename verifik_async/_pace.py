"""What throttles tell of the service's capacity: a window, and a pace in it.

Pure: every function is told the time. The window alone would find a limit of rate
only by running into it, again and again; the pace is learned from how many searches
were let through between two throttles. Both grow back slowly.
"""

import math
from collections import deque
from typing import Final, NamedTuple

import attrs


class _Phase(NamedTuple):
    """How the pace is looked for: its growth in a second, what a throttle leaves."""

    growth: float
    kept: float


# All numbers here were tuned on simulated services, `tests/unit/test_pace.py`.
# Doubling and more from a first guess, then closing in, then holding what was found.
_SEARCHING: Final = (_Phase(growth=1.0, kept=0.5), _Phase(growth=0.2, kept=0.7))
_HOLDING: Final = _Phase(growth=0.03, kept=0.85)
# What is let through proves a rate; a pace so much above it was no pace at all.
_FAR_OFF: Final = 0.4
_HALF: Final = 0.5
# Searches a second that a row of throttles does not go below without a proof: what
# the service lets through once it has recovered is found from there within minutes.
_FLOOR: Final = 1.0
# What is left of rate and burst when too many had been saved up.
_LESS: Final = 0.9
# Searches that tell something: let through before the first throttle, or after it.
_TELLING: Final = 3
# Seconds of a beginning that still tell something, as a multiple of those asked for.
_RECENT: Final = 3.0
# The window halves and soon grows back to this share of what it was.
_KEPT: Final = 0.8
# Answers that it needs, beyond that, to grow by one: as many as it is wide, times this.
_ANSWERS_PER_SLOT: Final = 4.0
# Seconds without growth after a throttle: as many as there were since the one
# before, within these bounds.
_HOLD_LEAST: Final = 10.0
_HOLD_MOST: Final = 60.0
# Throttles that are looked back on to measure the rate: a limit that was lowered
# must be forgotten some day.
_LOOK_BACK: Final = 4
# Seconds between two throttles below which times of arrival are too blurred.
_BLUR: Final = 0.1


class Bucket:
    """Permits at a rate, of which a burst may be saved up."""

    def __init__(self, rate: float, burst: float, level: float, now: float) -> None:
        self.rate = rate
        self.burst = burst
        self._level = level
        self._at = now

    def ready_at(self, now: float) -> float:
        """Return when the next permit is there: `now`, or later."""
        self._fill(now)
        # A hair less than a whole one: rounding seldom makes a wait too short, then.
        missing = 1.0 - 1e-9 - self._level
        return now if missing <= 0 else now + missing / self.rate

    def take(self, now: float) -> float:
        """Take a permit and return how many are left; one may be owed."""
        self._fill(now)
        self._level -= 1.0
        return self._level

    def give_back(self) -> None:
        """Undo a `take`."""
        self._level = min(self.burst, self._level + 1.0)

    def fill(self, now: float, level: float) -> None:
        """Have so many permits at least."""
        self._fill(now)
        self._level = max(self._level, level)

    def empty(self, until: float) -> None:
        """Lose what was saved up, and save nothing up until a time."""
        self._level = min(self._level, 0.0)
        self._at = max(self._at, until)

    def _fill(self, now: float) -> None:
        if now > self._at:
            self._level = min(self.burst, self._level + (now - self._at) * self.rate)
            self._at = now


@attrs.define  # made for every search, and a named tuple costs twice as much
class Grant:
    """The circumstances in which a search was let through.

    Attributes:
        epoch: Number of throttles that had been taken note of.
        in_burst: Whether it was let through faster than the pace, on saved permits.
        number: Searches let through by then, itself included.
    """

    epoch: int
    in_burst: bool
    number: int = 0


class _Sign(NamedTuple):
    """A throttle that is not yet learned from.

    Attributes:
        at: When the search was sent.
        asked: Seconds of the service's `Retry-After`, or None.
        grant: Of the search.
        refused: Searches refused by then, itself included.
    """

    at: float
    asked: float | None
    grant: Grant
    refused: int


class Pace:
    """The window and the pace of one gate.

    Attributes:
        window: Searches that may be on the wire at once, from 1.
        epoch: Number of throttles taken note of; requests that were on their way
            together are refused together, and are one.
    """

    def __init__(self, slots: int) -> None:
        self.window = float(slots)
        self.epoch = 0
        self._slots = slots
        self._threshold = float(slots)  # the window grows fast below it
        self._answered = False  # anything, in this epoch
        self._began = 0.0  # when the first was sent
        self._sent = 0
        self._refused = 0
        self._sign: _Sign | None = None
        self._hold_until = 0.0
        # Of each of the latest throttles: when it was sent, what had passed by then.
        self._marks: deque[tuple[float, int]] = deque(maxlen=_LOOK_BACK)
        self._bucket: Bucket | None = None
        self._phase = _SEARCHING[0]
        self._held = 0.0  # the pace before it grew

    @property
    def per_second(self) -> float | None:
        """The learned pace, or None while there is none."""
        return None if self._bucket is None else self._bucket.rate

    def ready_at(self, now: float) -> float:
        """Return when the next search may be sent: `now`, or later."""
        if (sign := self._sign) is not None:
            self._learn(sign)
            if sign.asked and self._bucket is not None:
                self._bucket.fill(now, 1.0)  # by its own word one may come now
        return now if self._bucket is None else self._bucket.ready_at(now)

    def send(self, now: float) -> Grant:
        """Take note that a search is sent."""
        bucket = self._bucket
        if not self._sent:
            self._began = now
        self._sent += 1
        if bucket is None:
            return Grant(self.epoch, False, self._sent)  # noqa: FBT003 - in_burst
        in_burst = bucket.take(now) >= 1.0
        if not in_burst:  # the pace is what holds it back, so the pace may grow
            bucket.rate *= 1.0 + self._growth(now) / max(bucket.rate, 1.0)
        return Grant(self.epoch, in_burst, self._sent)

    def _growth(self, now: float) -> float:
        """Return the share by which the pace may grow in a second."""
        if self._phase is not _HOLDING:
            return self._phase.growth
        if now < self._hold_until:
            return 0.0
        # Faster and faster: a limit that was lifted is found in the end.
        return _HOLDING.growth * (1.0 + (now - self._hold_until) / _HOLD_LEAST)

    def recall(self, grant: Grant) -> None:
        """Take note that a search was not sent after all."""
        self._sent -= 1
        if self._bucket is not None and grant.epoch == self.epoch:
            self._bucket.give_back()

    def answered(self, grant: Grant, now: float) -> None:
        """Take note of an answer that was no throttle."""
        if grant.epoch != self.epoch:
            return
        self._answered = True
        if self.window < self._threshold:
            self.window = min(self._threshold, self.window + 1.0)
        elif self.window < self._slots and now >= self._hold_until:
            step = 1.0 / (self.window * _ANSWERS_PER_SLOT)
            self.window = min(float(self._slots), self.window + step)

    def throttled(self, grant: Grant, sent_at: float, asked: float | None) -> bool:
        """Take note of a throttle; False if it is part of one known already.

        Args:
            grant: Of the search that was refused.
            sent_at: When that was sent.
            asked: Seconds of the service's `Retry-After`, or None.
        """
        self._refused += 1
        if grant.epoch != self.epoch:
            return False
        self.epoch += 1
        if self._answered:  # else the service has not recovered: the window only halves
            self._threshold = max(1.0, self.window * _KEPT)
            self._answered = False
        self.window = max(1.0, self.window / 2.0)
        since = sent_at - self._marks[-1][0] if self._marks else 0.0
        self._hold_until = sent_at + min(max(since, _HOLD_LEAST), _HOLD_MOST)
        self._sign = _Sign(sent_at, asked, grant, self._refused)
        return True

    def _learn(self, sign: _Sign) -> None:
        """Set the pace, once it is known what else was refused with the throttle."""
        self._sign = None
        passed = self._sent - self._refused
        rate, burst = self._measured(sign.at, passed), math.inf
        if self._bucket is not None:
            rate, burst = self._mended(self._bucket, sign, rate, passed)
        elif self._is_lone(sign):
            rate = 0.0
        elif not self._marks and sign.asked:
            rate = self._guessed(sign.at, sign.asked, passed)
        self._marks.append((sign.at, passed))
        if rate > 0.0:
            # Empty when the throttled one was sent; it fills during the pause.
            self._held = rate
            self._bucket = Bucket(rate, burst, 0.0, sign.at)

    def _is_lone(self, sign: _Sign) -> bool:
        """Whether most of what was sent after a throttled search got through.

        Then it met no limit of rate, and to pace the others would be in vain.
        """
        later = self._sent - sign.grant.number
        refused = self._refused - sign.refused
        return later >= _TELLING and refused * 2 < later

    def _guessed(self, at: float, asked: float, passed: int) -> float:
        """Return the rate that a first throttle lets us guess; 0.0: none.

        As many may pass again in that time, and in what it took until now.
        """
        took = at - self._began
        if took > asked * _RECENT or passed < _TELLING:
            return 0.0  # nobody wanted more, or it is too few to tell
        self._phase = _SEARCHING[1]
        return _rate(passed, took + asked)

    def _mended(
        self, bucket: Bucket, sign: _Sign, proved: float, passed: int
    ) -> tuple[float, float]:
        """Return rate and burst after a throttle in spite of the pace."""
        if sign.grant.in_burst:  # too many were saved up, and the rate may be right
            burst = max(1.0, (passed - self._marks[-1][1]) * _LESS)
            return max(proved, bucket.rate * _LESS), burst
        rate, kept = bucket.rate, self._phase.kept
        if proved < rate * _FAR_OFF:
            kept = _HALF
        elif self._phase is _HOLDING and rate > self._held:
            # The truth lies between what was held for long and what was too much.
            kept = (rate + self._held) / 2.0 / rate
        self._phase = _SEARCHING[1] if self._phase is _SEARCHING[0] else _HOLDING
        return max(proved, rate * kept, min(rate, _FLOOR)), bucket.burst

    def _measured(self, at: float, passed: int) -> float:
        """Return the rate that is proved by what passed since earlier throttles.

        A throttle means that no permit was left. What passes from then on has come
        in since, but for less than one permit that may have been there.
        """
        return max(
            (
                _rate(passed - passed_then, max(at - then, _BLUR))
                for then, passed_then in self._marks
            ),
            default=0.0,
        )


def _rate(passed: int, seconds: float) -> float:
    """Return the least rate at which `passed` come through in so many seconds."""
    return max(passed - 1.0, 1.0) / seconds if passed > 0 else 0.0
