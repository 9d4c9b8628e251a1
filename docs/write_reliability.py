"""Write what the fault matrix and its companions measured into `docs/reliability.md`.

`python docs/write_reliability.py` takes the runs that are kept in `docs/reliability`:

    python -m benchmarks.faults --json docs/reliability/faults.json
    python -m benchmarks.bounds --json docs/reliability/bounds.json
    python -m benchmarks.soak --json docs/reliability/soak.json

A test compares, and plays the matrix anew.
"""

import itertools
import pathlib
from collections.abc import Iterable, Iterator, Sequence

import _pages
from _pages import Run, table

PAGE = pathlib.Path(__file__).with_name("reliability.md")
KEPT = pathlib.Path(__file__).with_name("reliability")


def load(name: str) -> Run:
    """Return a run that is kept."""
    return _pages.load(KEPT / f"{name}.json")


def sections() -> dict[str, str]:
    """Return what is written between the marks, by their names."""
    faults, bounds, soak = load("faults"), load("bounds"), load("soak")
    return {
        "count": _count(faults),
        "faults": "\n".join(_faults(faults["rows"])),
        "bounds": _bounds(bounds["rows"]),
        "soak": _soak(soak["figures"]),
    }


def written(page: str) -> str:
    """Return the page with what is made for it."""
    return _pages.written(page, "write_reliability.py", sections())


def _count(run: Run) -> str:
    rows, about = run["rows"], run["about"]
    return (
        f"{len(rows)} faults, met by a single search and by a batch of two: "
        f"{2 * len(rows)} rows, 0 unexplained, {sum(r['elsewhere'] for r in rows)} "
        f"requests to another origin. {about['machine']}, {about['python']}, aiohttp "
        f"{about['aiohttp']}.\n"
    )


def _faults(rows: Iterable[Run]) -> Iterator[str]:
    head = ("what goes wrong", "ends in", "charge", "requests", "s", "of two", "s")
    for phase, some in itertools.groupby(rows, key=lambda row: row["phase"]):
        yield f"### {phase[0].upper()}{phase[1:]}\n"
        yield table(head, [_fault(row) for row in some])


def _fault(row: Run) -> Sequence[str]:
    alike = set(row["in_batch"]) == {row["ended_in"]}
    ends = "" if alike else f": {', '.join(map(_code, row['in_batch']))}"
    return (
        row["what"],
        _code(row["ended_in"]),
        row["charge"],
        str(row["requests"]),
        f"{row['seconds']:.2f}",
        f"{row['of_two']}{ends}",
        f"{row['batch_seconds']:.2f}",
    )


def _code(ending: str) -> str:
    return ending if " " in ending else f"`{ending}`"


def _bounds(rows: Iterable[Run]) -> str:
    head = ("answer", "ends in", "memory, MB", "took, ms", "others waited, ms")
    lines = [
        (
            row["what"],
            _code(row["ended_in"]),
            "" if row["grown_mb"] is None else f"{row['grown_mb']:.1f}",
            f"{row['seconds'] * 1000:.0f}",
            f"{row['late_s'] * 1000:.0f}",
        )
        for row in rows
    ]
    return table(head, lines)


def _soak(figures: Iterable[Run]) -> str:
    lines = []
    for figure in figures:
        value = figure["value"]
        shown = f"{value:,.2f}" if isinstance(value, float) else f"{value:,}"
        lines.append((figure["name"], f"{shown} {figure['unit']}".strip()))
    return table(("what", "figure"), lines)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
