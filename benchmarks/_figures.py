"""Figures of a run that was written down, by name."""

import json
import pathlib
import statistics
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

# What a cell of a part is told from the others by.
_KEY = ("label", "size", "concurrency", "latency_ms", "rival")
_MORE_IS_BETTER = ("1/s", "MB/s")
_LESS_IS_BETTER = ("us", "ms", "s", "MB")


class NoRunError(Exception):
    """A file is not what a run writes."""


@attrs.frozen
class Figure:
    """What was measured, and how far it varied.

    Attributes:
        value: The median, where there was more than one.
        low: The lowest, or where the middle half begins.
        high: The highest, or where that ends.
        more_is_better: As for searches a second.
        rounds: That the spread is of; None: the figure has none, or it is not told.
    """

    value: float
    low: float
    high: float
    more_is_better: bool = False
    rounds: int | None = None


def load(path: pathlib.Path) -> dict[str, Figure]:
    """Read a file of `python -m benchmarks` or pytest-benchmark.

    Figures that neither more nor less of is better are left out.

    Raises:
        NoRunError: it is neither, or cannot be read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if "parts" in content:
            return dict(_of_run(content))
        return dict(_of_pytest(content))
    except OSError as exc:
        raise NoRunError(f"{path}: {exc.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise NoRunError(
            f"{path} was written neither by python -m benchmarks nor by "
            "pytest --benchmark-json"
        ) from None


def rows(run: Mapping[str, Any], part: str) -> list[dict[str, Any]]:
    """Return the rows of all cells of a part, with what tells them apart.

    Rows of processes that measured the same are made one: medians, and the spread
    of all of them.
    """
    alike: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for report in run["parts"].get(part, {}).get("reports", ()):
        for cell in report["cells"]:
            for row in cell["rows"]:
                whole = {"label": report["label"]} | cell | row
                alike.setdefault(tuple(whole[key] for key in _KEY), []).append(whole)
    return [_merge(same) for same in alike.values()]


def _merge(same: list[dict[str, Any]]) -> dict[str, Any]:
    merged = {
        name: statistics.median(row[name] for row in same)
        if isinstance(value, float)
        else value
        for name, value in same[0].items()
    }
    merged["rounds"] = sum(len(row["orders"]) for row in same)
    merged["ratio_min"] = min(row["ratio_min"] for row in same)
    merged["ratio_max"] = max(row["ratio_max"] for row in same)
    return merged


def _of_run(run: Mapping[str, Any]) -> Iterator[tuple[str, Figure]]:
    for name, part in run["parts"].items():
        searches = [report for report in part["reports"] if "cells" in report]
        if searches:
            yield from _of_rows(run, name)
            continue
        for report in part["reports"]:
            for figure in report["figures"]:
                if figure["unit"] in _MORE_IS_BETTER + _LESS_IS_BETTER:
                    yield f"{name}: {figure['name']}, {figure['unit']}", _single(figure)


def _of_rows(run: Mapping[str, Any], part: str) -> Iterator[tuple[str, Figure]]:
    for row in rows(run, part):
        if row["rival"] == row["floor"]:
            continue  # 1 by definition
        words = (
            part,
            row["label"],
            f"{row['size'] / 1000:g} KB",
            f"{row['concurrency']} at once",
            f"{row['latency_ms']:g} ms" if row["latency_ms"] else "",
            row["rival"],
        )
        name = ", ".join(filter(None, words)) + ": CPU over bare"
        spread = (row["ratio_min"], row["ratio_max"])
        yield name, Figure(row["ratio"], *spread, rounds=row["rounds"])


def _single(figure: Mapping[str, Any]) -> Figure:
    value = float(figure["value"])
    return Figure(
        value,
        figure.get("min", value),
        figure.get("max", value),
        figure["unit"] in _MORE_IS_BETTER,
    )


def _of_pytest(content: Mapping[str, Any]) -> Iterator[tuple[str, Figure]]:
    for test in content["benchmarks"]:
        # Of thousands of rounds the highest tells of the machine only.
        stats = test["stats"]
        spread = (stats["q1"], stats["q3"])
        yield (
            test["fullname"],
            Figure(stats["median"], *spread, rounds=stats["rounds"]),
        )
