"""From figures to a table and to JSON."""

import statistics
from collections.abc import Sequence
from typing import Any

import attrs

from ._measure import CellFigures, TurnFigures
from ._rivals import FLOOR, Rival

_HEAD = (
    f"{'rival':<17}{'searches/s':>11}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}"
    f"{'CPU us':>9}{'x bare':>8}{'min':>7}{'max':>7}{'x wall':>8}{'n':>7}"
)
_COLUMNS = f"""\
CPU us: user and system time of the client process per search, all its threads, without
the server.
x bare: that over {FLOOR.name} in the same round, median over the rounds; min and max:
the spread. x wall: the same of wall time per search, median.
searches/s, CPU us: medians over the rounds; latencies: over all n searches, those of
search_many as it tells them. Slow rivals get fewer searches. Those that warm up the
connections before each turn are not counted.
Every search was answered with the person enrolled, or there would be no table."""


@attrs.frozen(kw_only=True)
class Row:
    """One rival in one cell.

    Attributes:
        per_second: Median over the rounds.
        p50_ms: Latency, over all searches, as are the other two.
        p95_ms: Latency.
        p99_ms: Latency.
        cpu_us: CPU time of a search, median over the rounds.
        ratio: CPU time over that of bare aiohttp in the same round, median.
        ratio_min: The lowest of these ratios.
        ratio_max: The highest.
        wall_ratio: Wall time over that of bare aiohttp in the same round, median.
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
    wall_ratio: float
    searches: int

    def __str__(self) -> str:
        return (
            f"{self.rival:<17}{self.per_second:>11.0f}"
            f"{self.p50_ms:>9.2f}{self.p95_ms:>9.2f}{self.p99_ms:>9.2f}"
            f"{self.cpu_us:>9.0f}{self.ratio:>8.3f}{self.ratio_min:>7.3f}"
            f"{self.ratio_max:>7.3f}{self.wall_ratio:>8.3f}{self.searches:>7}"
        )


def summarise(figures: CellFigures) -> list[Row]:
    """Return a row per rival."""
    floor = figures.turns[FLOOR.name]
    return [_row(name, turns, floor) for name, turns in figures.turns.items()]


def _row(name: str, turns: Sequence[TurnFigures], floor: Sequence[TurnFigures]) -> Row:
    rounds = [*zip(turns, floor, strict=True)]
    ratios = [mine.cpu_per_search_us / bare.cpu_per_search_us for mine, bare in rounds]
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
        wall_ratio=statistics.median(
            mine.wall_per_search_us / bare.wall_per_search_us for mine, bare in rounds
        ),
        searches=len(ordered),
    )


def _percentile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def table(figures: CellFigures) -> str:
    """Return the table of one cell."""
    rounds = len(figures.orders)
    title = f"{figures.setting}, {rounds} round{'s'[: rounds > 1]}"
    return "\n".join([title, _HEAD, *map(str, summarise(figures))])


def legend(rivals: Sequence[Rival]) -> str:
    """Return what the table's names mean."""
    return "\n".join([*(f"{rival.name}: {rival.about}." for rival in rivals), _COLUMNS])


def raw(figures: CellFigures) -> dict[str, Any]:
    """Return what was measured, turn by turn, for JSON.

    Latencies are in the rows only: all of them would be millions.
    """
    return {
        **attrs.asdict(figures.setting),
        "floor": FLOOR.name,
        "orders": figures.orders,
        "turns": {
            name: [
                {
                    "searches": turn.searches,
                    "wall_s": turn.wall_s,
                    "cpu_s": turn.cpu_s,
                }
                for turn in turns
            ]
            for name, turns in figures.turns.items()
        },
        "rows": [attrs.asdict(row) for row in summarise(figures)],
    }
