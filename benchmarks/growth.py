"""Whether the millionth search costs what the first did: `python -m benchmarks.growth`.

One long batch and many short ones on the same machine, by turns: the long one pauses
after each of its parts for a short one, by a client of its own, so that both meet the
same disturbances. CPU time is that of this process, all threads. It takes minutes;
progress goes to standard error.
"""

import asyncio
import functools
import gc
import statistics
import sys
import time
from collections.abc import Sequence

import attrs

from verifik_async import VerifikClient
from verifik_async.testing import MockProcess

from . import _machine
from ._job import OPTIONS, TOKEN
from ._show import Board, parser, positive, run
from ._source import Source

_MOST_PERCENT = 10.0
# What is in flight when the long batch pauses ends in that time.
_TO_SETTLE = 0.3
_SECONDS_PER_SEARCH = 0.002
_LEAST_LIMIT = 120.0


@attrs.define
class _Parts:
    """The parts of the long batch and the short batches around them.

    Attributes:
        long: CPU seconds per search, of each part.
        short: The same of each short batch: before the first part, after each.
        blocks: Memory blocks that Python has in use, after each part.
    """

    long: list[float] = attrs.field(factory=list)
    short: list[float] = attrs.field(factory=list)
    blocks: list[int] = attrs.field(factory=list)

    def ratios(self) -> list[float]:
        """Return the cost of each part over that of the short ones around it."""
        around = zip(self.short, self.short[1:], strict=False)
        return [
            cost / statistics.mean(pair)
            for cost, pair in zip(self.long, around, strict=True)
        ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures; fail if one was missed."""
    options = parser("growth", __doc__)
    add = options.add_argument
    add("--count", type=positive, default=1_000_000, help="of the long batch")
    add("--short", type=positive, default=10_000, help="of each short batch")
    add("--parts", type=positive, default=20, help="of the long batch, 3 or more")
    given = options.parse_args(arguments)
    if given.parts < 3 or given.count < given.parts:  # noqa: PLR2004
        options.error("--parts must be 3 or more, and no more than --count")
    total = given.count + (given.parts + 2) * given.short
    run(
        functools.partial(
            _measure, count=given.count, short=given.short, parts=given.parts
        ),
        max(_LEAST_LIMIT, total * _SECONDS_PER_SEARCH),
    )


async def _measure(board: Board, *, count: int, short: int, parts: int) -> None:
    async with MockProcess() as mock:
        with _machine.pinned(mock.pid) as pinning:
            board.head(f"{count:,} searches beside {short:,}; {pinning}")
            await _short(mock.url, short)  # to warm up
            figures = _Parts(short=[await _short(mock.url, short)])
            memory = _peak_memory()
            await _long(mock.url, count, short, parts, figures)
    _show_cost(board, figures)
    _show_memory(board, memory, figures)


async def _short(url: str, count: int) -> float:
    """Return the CPU seconds per search of a short batch."""
    async with VerifikClient(TOKEN, base_url=url, defaults=OPTIONS) as client:
        began = time.process_time()
        async with client.search_many(Source(count)) as outcomes:
            async for outcome in outcomes:
                outcome.unwrap()
        return (time.process_time() - began) / count


async def _long(url: str, count: int, short: int, parts: int, figures: _Parts) -> None:
    part, source = count // parts, Source(count // parts * parts)
    async with (
        VerifikClient(TOKEN, base_url=url, defaults=OPTIONS) as client,
        client.search_many(source) as outcomes,
    ):
        began = time.process_time()
        async for outcome in outcomes:
            outcome.unwrap()
            source.taken += 1
            if source.taken % part == 0:
                await asyncio.sleep(_TO_SETTLE)
                figures.long.append((time.process_time() - began) / part)
                gc.collect()
                figures.blocks.append(sys.getallocatedblocks())
                figures.short.append(await _short(url, short))
                _tell(source, figures)
                began = time.process_time()


def _tell(source: Source, figures: _Parts) -> None:
    print(
        f"{source.taken:,} of {source.count:,}: {figures.long[-1] * 1e6:.0f} us, "
        f"beside {figures.short[-1] * 1e6:.0f} us",
        file=sys.stderr,
        flush=True,
    )


def _show_cost(board: Board, figures: _Parts) -> None:
    ratios = figures.ratios()
    third = len(ratios) // 3
    board.fact(
        "CPU us per search, short batches, median",
        statistics.median(figures.short) * 1e6,
    )
    board.fact(
        "CPU us per search, long batch, mean", statistics.mean(figures.long) * 1e6
    )
    board.fact("long / short, median over the parts", statistics.median(ratios))
    board.at_most(
        "their difference, %", _percent(statistics.median(ratios)), _MOST_PERCENT
    )
    # So few of them that no bound would be more than a guess at the machine's noise.
    board.fact("the same, first third", statistics.median(ratios[:third]))
    board.fact("the same, last third", statistics.median(ratios[-third:]))


def _show_memory(board: Board, before: float | None, figures: _Parts) -> None:
    first, last = figures.blocks[0], figures.blocks[-1]
    board.fact("memory blocks in use after the first part", first)
    board.fact("after the last", last)
    board.at_most("their difference, %", _percent(last / first), _MOST_PERCENT)
    after = _peak_memory()
    if before is None or after is None:
        print("  resident memory: this system cannot tell")
        return
    board.at_most(
        "peak resident memory over that after a short batch, %",
        _percent(after / before),
        _MOST_PERCENT,
    )


def _percent(ratio: float) -> float:
    return abs(ratio - 1.0) * 100


def _peak_memory() -> float | None:
    """Return the most that was resident, in a unit of the system's, or None."""
    try:
        import resource  # noqa: PLC0415 - not everywhere
    except ImportError:
        return None
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


if __name__ == "__main__":
    main()
