"""A stand-in that fails, and counts how: `python -m benchmarks._soak_service`.

`SoakService` runs it in a process of its own, that ends with its parent whatever
happens to that.
"""

import asyncio
import pathlib
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from types import TracebackType
from typing import Any, Self

import aiohttp
import attrs
from aiohttp import web

from verifik_async.testing import Fault
from verifik_async.testing.__main__ import _serve
from verifik_async.testing._child import end, first_line
from verifik_async.testing._control import COUNTS_PATH, ControlledMock

from ._job import make_picture

PICTURES = 64
_SMALLEST, _LARGEST = 200, 20_000
_MOST_MB = 2
_ROOT = pathlib.Path(__file__).parents[1]

# A request in twenty; in thousandths. What takes long is rare, so that the rate holds.
_PER_MILLE = {
    Fault.status(500): 7,
    Fault.status(503): 4,
    Fault.status(502): 3,
    Fault.html(504): 3,
    Fault.status(404): 2,
    Fault.status(409): 2,
    Fault.status(422): 2,
    Fault.status(400, before_body=True): 1,
    Fault.status(401): 0.2,
    Fault.status(402): 0.2,
    Fault.status(403): 0.2,
    Fault.redirect(): 1,
    Fault.empty(): 1,
    Fault.body({"data": 5}): 1,
    Fault.body(b"no JSON"): 1,
    Fault.gzip_bomb(_MOST_MB): 0.2,
    Fault.garbage(): 2,
    Fault.drop_before_body_read(): 2,
    Fault.drop_before_headers(): 2,
    Fault.drop_after_headers(): 2,
    Fault.drop_reused(): 4,
    Fault.reset(): 2,
    Fault.truncate(20): 2,
    Fault.slow_drip(5000): 1,
    Fault.stall(0.05): 2,
    Fault.stall_after_headers(0.05): 1,
    Fault.stall_before_body_read(0.05): 1,
    Fault.stall(): 0.1,
    Fault.stall_after_headers(): 0.1,
    Fault.stall_before_body_read(): 0.1,
}
FAULTS = {fault: share / 1000 for fault, share in _PER_MILLE.items()}
# Throttles come together, as those of a service that is full do, and no more than are
# sent together: a client takes them for a sign and slows down, for long if they go on.
_THROTTLES = (
    Fault.status(429, retry_after=0.05),
    Fault.status(429),
    Fault.status(503, retry_after=0.05),
) * 6
_THROTTLED_AT, _THROTTLED_EVERY = 500, 100_000


def make_pictures() -> list[bytes]:
    """Return the pictures that are searched for, from tiny to 20 KB."""
    step = (_LARGEST - _SMALLEST) // (PICTURES - 1)
    return [make_picture(_SMALLEST + number * step) for number in range(PICTURES)]


def person_of(number: int) -> str:
    """Return who is in the picture of the search with that number."""
    return f"person-{number % PICTURES}"


@attrs.define
class Seen:
    """What the service did.

    Attributes:
        hits: Requests that came in.
        drawn: The same by what was to happen to them.
        begun: Answers that were begun, by the same and the status.
    """

    hits: int = 0
    drawn: Counter[str] = attrs.field(factory=Counter)
    begun: Counter[tuple[str, int]] = attrs.field(factory=Counter)

    @property
    def statuses(self) -> Counter[int]:
        """Answers that were begun, by their status."""
        found: Counter[int] = Counter()
        for (_, status), number in self.begun.items():
            found[status] += number
        return found

    def without_answer(self) -> Counter[str]:
        """Return the requests for which no answer was begun."""
        found = self.drawn.copy()
        for (fate, _), number in self.begun.items():
            found[fate] -= number
        return +found


class SoakService:
    """The service in a process of its own, while its `async with` block runs."""

    def __init__(self) -> None:
        self.url = ""
        self.pid = 0
        self._process: Process | None = None

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks._soak_service"),
            stdin=PIPE,
            stdout=PIPE,
            cwd=_ROOT,
        )
        self.pid = self._process.pid
        try:
            self.url = await first_line(self._process)
        except BaseException:
            await end(self._process)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process is not None:
            await end(self._process)

    async def seen(self) -> Seen:
        """Return what it did so far."""
        async with (
            aiohttp.ClientSession(raise_for_status=True) as session,
            session.get(self.url + COUNTS_PATH) as response,
        ):
            counts: dict[str, int] = await response.json()
        seen = Seen(counts["hits"])
        for name, number in counts.items():
            fate, space, status = name.partition(" ")
            if space:
                seen.begun[fate, int(status)] = number
            elif fate.isupper():
                seen.drawn[fate] = number
        return seen


# -- in the process of its own ---------------------------------------------------------


class _Counting(ControlledMock):
    """A stand-in that counts what becomes of requests, without records of them."""

    def __init__(self) -> None:
        super().__init__(faults=FAULTS, max_recorded=0)
        self._fates: Counter[str] = Counter()
        for number, picture in enumerate(make_pictures()):
            self.enroll(person_of(number), picture)

    def _arrive(self, request: web.BaseRequest, transport: asyncio.Transport) -> Any:
        if self.hits % _THROTTLED_EVERY == _THROTTLED_AT:
            self.script(*_THROTTLES)
        visit = super()._arrive(request, transport)
        self._fates[_fate(visit.fault)] += 1
        return visit

    def _amend(self, visit: Any, **facts: Any) -> None:
        if "status" in facts:
            self._fates[f"{_fate(visit.fault)} {facts['status']}"] += 1
        super()._amend(visit, **facts)

    def _counts(self) -> dict[str, int]:
        return super()._counts() | self._fates


def _fate(fault: Fault | None) -> str:
    return "NORMAL" if fault is None else fault.kind.name


if __name__ == "__main__":
    asyncio.run(_serve(_Counting(), die_with_parent=True))
