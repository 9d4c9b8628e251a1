"""Rounds of turns: all rivals one after another, each time in another order."""

import asyncio
import contextlib
import gc
import math
import time
from collections.abc import Sequence

import attrs

from . import _machine
from ._job import Job, UnansweredError
from ._rivals import Rival, Turn

# One turn takes about a second; one that takes this long hangs.
_TURN_LIMIT = 120.0
# Searches before each turn, or as many as run at once: connections that rested for the
# turns of all the others may have been closed.
_WARM = 32


@attrs.frozen(kw_only=True)
class TurnFigures:
    """What one turn of one rival took.

    Attributes:
        wall_s: From the first search to the end of the last.
        cpu_s: User and system time of this process, all threads.
        latencies_s: Of each search.
    """

    wall_s: float
    cpu_s: float
    latencies_s: list[float]

    @property
    def searches(self) -> int:
        """How many searches it was."""
        return len(self.latencies_s)

    @property
    def cpu_per_search_us(self) -> float:
        """CPU time of one search."""
        return self.cpu_s / self.searches * 1e6

    @property
    def wall_per_search_us(self) -> float:
        """Wall time over the number of searches."""
        return self.wall_s / self.searches * 1e6


@attrs.frozen(kw_only=True)
class Setting:
    """What differs from cell to cell.

    Attributes:
        size: Bytes of the picture.
        concurrency: Searches at once.
        latency_ms: What the server waits before it answers.
    """

    size: int
    concurrency: int
    latency_ms: float = 0.0

    def __str__(self) -> str:
        wait = f", answered after {self.latency_ms:g} ms" if self.latency_ms else ""
        return f"{self.size / 1000:g} KB pictures, {self.concurrency} at a time{wait}"


@attrs.define
class CellFigures:
    """All counted rounds of one setting.

    Attributes:
        setting: The setting.
        orders: Names of the rivals in the order of each round.
        turns: One turn per round, by the name of the rival.
        sent: Searches sent, those to warm up included.
    """

    setting: Setting
    orders: list[list[str]] = attrs.field(factory=list)
    turns: dict[str, list[TurnFigures]] = attrs.field(factory=dict)
    sent: int = 0


def order_of_round(number: int, rivals: Sequence[Rival]) -> list[Rival]:
    """Return the rivals reversed every other time, and rotated after every two.

    Rotation alone would always let the same one follow the same other.
    """
    shift = number // 2 % len(rivals)
    rotated = [*rivals[shift:], *rivals[:shift]]
    return rotated[::-1] if number % 2 else rotated


def searches_per_turn(rival: Rival, count: int, concurrency: int) -> int:
    """Return the rival's share of `count` searches: enough to keep all slots busy."""
    return max(math.ceil(count / rival.one_in), min(count, concurrency))


async def measure(
    job: Job,
    setting: Setting,
    rivals: Sequence[Rival],
    *,
    rounds: int,
    count: int,
    seconds: float,
) -> CellFigures:
    """Run rounds of `count` searches a turn.

    Args:
        job: The picture and where to.
        setting: The same, for the report.
        rivals: Who takes part.
        rounds: At most; 1 is run in any case.
        count: Searches per turn.
        seconds: Once they are over, no further round begins.
    """
    end = time.monotonic() + seconds
    figures = CellFigures(setting, turns={rival.name: [] for rival in rivals})
    async with contextlib.AsyncExitStack() as stack:
        turn_of = {
            rival.name: await stack.enter_async_context(rival.open(job))
            for rival in rivals
        }
        for number in range(rounds):
            if number and time.monotonic() >= end:
                break
            order = order_of_round(number, rivals)
            figures.orders.append([rival.name for rival in order])
            for rival in order:
                share = searches_per_turn(rival, count, job.concurrency)
                warm = min(share, max(_WARM, job.concurrency))
                turn = turn_of[rival.name]
                await _take_turn(turn, warm, rival.name)
                taken = await _take_turn(turn, share, rival.name)
                figures.sent += warm + share
                figures.turns[rival.name].append(taken)
    return figures


async def _take_turn(turn: Turn, count: int, name: str) -> TurnFigures:
    # What the one before left behind is not billed to this one; after that the
    # collector runs whenever it wants to.
    gc.collect()
    async with asyncio.timeout(_TURN_LIMIT):
        wall, cpu = time.perf_counter(), _machine.cpu_seconds()
        latencies = await turn(count)
        cpu, wall = _machine.cpu_seconds() - cpu, time.perf_counter() - wall
    if len(latencies) != count:
        raise UnansweredError(f"{name}: {len(latencies)} of {count} answered")
    return TurnFigures(wall_s=wall, cpu_s=cpu, latencies_s=latencies)
