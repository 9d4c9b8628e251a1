"""How many requests a second the stand-in takes."""

import math


class TokenBucket:
    """A bucket of `burst` tokens that gains `rate` a second."""

    def __init__(self, rate: float, burst: float | None = None) -> None:
        if not 0 < rate < math.inf:
            raise ValueError("rate must be above 0 and finite")
        self._rate = rate
        self._size = float(max(1, math.ceil(rate)) if burst is None else burst)
        if self._size < 1:
            raise ValueError("burst must be 1 or more")
        self.refill()

    def refill(self) -> None:
        """Start again with a full bucket."""
        self._level = self._size
        self._seen: float | None = None

    def take(self, now: float) -> bool:
        """Take one token at this time, in seconds; False when there is none."""
        elapsed = 0.0 if self._seen is None else now - self._seen
        self._seen = now
        self._level = min(self._size, self._level + elapsed * self._rate)
        if self._level < 1:
            return False
        self._level -= 1
        return True
