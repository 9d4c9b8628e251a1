"""Every random decision of the stand-in, reproducible by its seed."""

import math
import random
import string
from collections import deque
from collections.abc import Mapping

from ._faults import Fault

Latency = float | tuple[float, float]

_LETTERS = string.ascii_letters + string.digits


class Chance:
    """What each request gets, decided in the order in which requests come in.

    Attributes:
        latency: Seconds, or the lowest and the highest.
    """

    def __init__(
        self, seed: int, faults: Mapping[Fault, float], latency: Latency
    ) -> None:
        self.faults = faults
        self.latency = latency
        self._seed = seed
        self._script: deque[Fault | None] = deque()
        self.restart()

    @property
    def faults(self) -> Mapping[Fault, float]:
        """Probability by fault."""
        return self._faults

    @faults.setter
    def faults(self, faults: Mapping[Fault, float]) -> None:
        total = math.fsum(faults.values())
        # Compared this way round, NaN is refused too.
        if not (all(p >= 0 for p in faults.values()) and total <= 1):
            raise ValueError("probabilities must be 0 or more and add up to 1 at most")
        self._faults = dict(faults)

    def restart(self) -> None:
        """Forget the script and start every sequence anew."""
        self._script.clear()
        # One sequence each: a change of the latency leaves the faults where they were.
        self._ids = random.Random(f"{self._seed} ids")  # noqa: S311 - no secrets
        self._delays = random.Random(f"{self._seed} delays")  # noqa: S311
        self._points = random.Random(f"{self._seed} points")  # noqa: S311

    def script(self, *faults: Fault | None) -> None:
        """Queue what the next requests get; None is a normal answer."""
        self._script.extend(faults)

    def next_fault(self) -> Fault | None:
        """Return what goes wrong with the next request."""
        if self._script:
            return self._script.popleft()
        faults = self._faults
        if not faults:
            return None
        point = self._points.random()
        for fault, probability in faults.items():
            point -= probability
            if point < 0:
                return fault
        return None

    def next_delay(self) -> float:
        """Return the seconds that the next search takes."""
        latency = self.latency  # once: another thread may set it in between
        if isinstance(latency, tuple):
            return self._delays.uniform(*latency)
        return latency

    def next_id(self) -> str:
        """Return the id of the next request, 5 characters."""
        return "".join(self._ids.choices(_LETTERS, k=5))
