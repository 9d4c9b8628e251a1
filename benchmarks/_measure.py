"""Rounds of turns: all rivals one after another, each time in another order."""

import asyncio
import contextlib
import gc
import math
import time
from collections.abc import Sequence

import attrs

from ._job import Job, UnansweredError
from ._rivals import Rival, Turn

# One turn takes about a second; one that takes this long hangs.
_TURN_LIMIT = 120.0


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


@attrs.define
class SizeFigures:
    """All counted rounds with pictures of one size.

    Attributes:
        size: Bytes of the picture.
        orders: Names of the rivals in the order of each round.
        turns: One turn per round, by the name of the rival.
        sent: Searches sent, those of the round to warm up included.
    """

    size: int
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


def searches_per_turn(rival: Rival, count: int) -> int:
    """Return the rival's share of `count` searches, rounded up."""
    return math.ceil(count / rival.one_in)


async def measure(
    job: Job, rivals: Sequence[Rival], *, rounds: int, count: int, seconds: float
) -> SizeFigures:
    """Run one round that is not counted, then `rounds`, of `count` searches a turn.

    Args:
        job: The picture and where to.
        rivals: Who takes part.
        rounds: At most; 1 is run in any case.
        count: Searches per turn.
        seconds: Once they are over, no further round begins.
    """
    end = time.monotonic() + seconds
    figures = SizeFigures(len(job.picture), turns={rival.name: [] for rival in rivals})
    async with contextlib.AsyncExitStack() as stack:
        opened = [
            (rival, await stack.enter_async_context(rival.open(job)))
            for rival in rivals
        ]
        turn_of = {rival.name: turn for rival, turn in opened}
        for rival in rivals:
            await _take_turn(turn_of[rival.name], rival, count, figures)
        for number in range(rounds):
            if number and time.monotonic() >= end:
                break
            order = order_of_round(number, rivals)
            figures.orders.append([rival.name for rival in order])
            for rival in order:
                taken = await _take_turn(turn_of[rival.name], rival, count, figures)
                figures.turns[rival.name].append(taken)
    return figures


async def _take_turn(
    turn: Turn, rival: Rival, count: int, figures: SizeFigures
) -> TurnFigures:
    share = searches_per_turn(rival, count)
    # What the one before left behind is not billed to this one; after that the
    # collector runs whenever it wants to.
    gc.collect()
    async with asyncio.timeout(_TURN_LIMIT):
        wall, cpu = time.perf_counter(), time.process_time()
        latencies = await turn(share)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    if len(latencies) != share:
        raise UnansweredError(f"{rival.name}: {len(latencies)} of {share} answered")
    figures.sent += share
    return TurnFigures(wall_s=wall, cpu_s=cpu, latencies_s=latencies)
