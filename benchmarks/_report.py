"""From figures to a table and to JSON."""

import statistics
from collections.abc import Sequence
from typing import Any

import attrs

from ._measure import SizeFigures, TurnFigures
from ._rivals import FLOOR, Rival

_HEAD = (
    f"{'rival':<14}{'searches/s':>11}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}"
    f"{'CPU us':>9}{'x bare':>8}{'min':>7}{'max':>7}{'n':>7}"
)
_COLUMNS = f"""\
CPU us: user and system time of the client process per search, all its threads, without
the server.
x bare: that over {FLOOR.name} in the same round, median over the rounds; min and max:
the spread.
searches/s, CPU us: medians over the rounds; latencies: over all n searches. One round
more, to warm up, is not counted.
Every search was answered with the person enrolled, or there would be no table."""


@attrs.frozen(kw_only=True)
class Row:
    """One rival with pictures of one size.

    Attributes:
        per_second: Median over the rounds.
        p50_ms: Latency, over all searches, as are the other two.
        p95_ms: Latency.
        p99_ms: Latency.
        cpu_us: CPU time of a search, median over the rounds.
        ratio: CPU time over that of bare aiohttp in the same round, median.
        ratio_min: The lowest of these ratios.
        ratio_max: The highest.
        searches: How many were counted.
    """

    rival: str
    per_second: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    cpu_us: float
    ratio: float
    ratio_min: float
    ratio_max: float
    searches: int

    def __str__(self) -> str:
        return (
            f"{self.rival:<14}{self.per_second:>11.0f}"
            f"{self.p50_ms:>9.2f}{self.p95_ms:>9.2f}{self.p99_ms:>9.2f}"
            f"{self.cpu_us:>9.0f}{self.ratio:>8.3f}"
            f"{self.ratio_min:>7.3f}{self.ratio_max:>7.3f}{self.searches:>7}"
        )


def summarise(figures: SizeFigures) -> list[Row]:
    """Return a row per rival."""
    floor = figures.turns[FLOOR.name]
    return [_row(name, turns, floor) for name, turns in figures.turns.items()]


def _row(name: str, turns: Sequence[TurnFigures], floor: Sequence[TurnFigures]) -> Row:
    ratios = [
        mine.cpu_per_search_us / bare.cpu_per_search_us
        for mine, bare in zip(turns, floor, strict=True)
    ]
    ordered = sorted(taken for turn in turns for taken in turn.latencies_s)
    return Row(
        rival=name,
        per_second=statistics.median(turn.searches / turn.wall_s for turn in turns),
        p50_ms=_percentile(ordered, 0.50) * 1000,
        p95_ms=_percentile(ordered, 0.95) * 1000,
        p99_ms=_percentile(ordered, 0.99) * 1000,
        cpu_us=statistics.median(turn.cpu_per_search_us for turn in turns),
        ratio=statistics.median(ratios),
        ratio_min=min(ratios),
        ratio_max=max(ratios),
        searches=len(ordered),
    )


def _percentile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def table(figures: SizeFigures, concurrency: int) -> str:
    """Return the table of one size."""
    title = (
        f"{figures.size / 1000:g} KB pictures, {concurrency} at a time, "
        f"{len(figures.orders)} rounds"
    )
    return "\n".join([title, _HEAD, *map(str, summarise(figures))])


def legend(rivals: Sequence[Rival]) -> str:
    """Return what the table's names mean."""
    return "\n".join([*(f"{rival.name}: {rival.about}." for rival in rivals), _COLUMNS])


def raw(figures: SizeFigures) -> dict[str, Any]:
    """Return everything that was measured, for JSON."""
    return attrs.asdict(figures) | {
        "rows": [attrs.asdict(row) for row in summarise(figures)]
    }
