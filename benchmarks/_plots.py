"""Pictures of a run, as SVG that is the same for the same figures."""

import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from ._figures import rows
from ._rivals import FLOOR, JSON, MANY, OURS

Row: TypeAlias = dict[str, Any]

# Okabe and Ito's colours, which everybody can tell apart.
_COLOURS = {
    OURS.name: "#0072B2",
    MANY.name: "#56B4E9",
    FLOOR.name: "#333333",
    JSON.name: "#E69F00",
    "httpx": "#CC79A7",
}
_GREY, _PALE = "#999999", "#DDDDDD"
_OURS = (OURS.name, MANY.name)
_STYLE: Any = {
    "svg.hashsalt": "verifik_async",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
}
_WIDTH = 8.4
_US_PER_MS = 1000
_TEN = 10


def draw(run: Mapping[str, Any], folder: pathlib.Path) -> list[pathlib.Path]:
    """Draw what was measured; return the paths of the pictures."""
    pictures: dict[str, Callable[[Mapping[str, Any]], Figure | None]] = {
        "cpu-by-size": _cpu_by_size,
        "ratio-by-size": _ratio_by_size,
        "concurrency": _by_concurrency,
        "settings": _settings,
    }
    paths = []
    for name, picture in pictures.items():
        with mpl.rc_context(_STYLE):
            if (figure := picture(run)) is None:
                continue
            path = folder / f"{name}.svg"
            figure.savefig(path, format="svg", metadata={"Date": None})
            paths.append(path)
    return paths


def _cpu_by_size(run: Mapping[str, Any]) -> Figure | None:
    """Draw bars for all rivals, a panel for each size."""
    measured = rows(run, "sizes")
    sizes = _distinct(measured, "size")
    if not sizes:
        return None
    columns = min(2, len(sizes))
    lines = -(-len(sizes) // columns)
    figure = Figure(figsize=(_WIDTH, 0.6 + 2.5 * lines))
    axes = figure.subplots(lines, columns, squeeze=False).flat
    for panel, size in zip(axes, sizes, strict=False):
        here = [row for row in measured if row["size"] == size]
        here.sort(key=lambda row: -row["cpu_us"])
        bars = panel.barh(
            [row["rival"] for row in here],
            [row["cpu_us"] for row in here],
            color=[_COLOURS.get(row["rival"], _GREY) for row in here],
            height=0.75,
        )
        texts = [f"{_time(row['cpu_us'])}  ({row['ratio']:.1f})" for row in here]
        panel.bar_label(bars, texts, padding=3, fontsize=8)
        panel.set_title(f"{_size(size)} pictures")
        panel.margins(x=0.28)
        panel.tick_params(left=False, bottom=False, labelbottom=False)
        panel.spines[["bottom", "left"]].set_visible(False)
    for panel in axes:  # those left over
        panel.set_axis_off()
    figure.suptitle("Client CPU per search (in brackets: over that of bare aiohttp)")
    return figure


def _ratio_by_size(run: Mapping[str, Any]) -> Figure | None:
    """Draw lines for the client, on the stand-in and on nginx."""
    figure = Figure(figsize=(_WIDTH, 3.2))
    axes = figure.subplots()
    sizes: set[int] = set()
    for part, server, line in (
        ("sizes", "stand-in", "-"),
        ("nginx", "nginx", "--"),
    ):
        for name in _OURS:
            here = [row for row in rows(run, part) if row["rival"] == name]
            if not here:
                continue
            here.sort(key=lambda row: row["size"])
            sizes.update(row["size"] for row in here)
            _line_of_ratios(axes, here, f"{name}, on {server}", line)
    if not sizes:
        return None
    axes.axhline(1, color=_COLOURS[FLOOR.name], linewidth=1)
    axes.set_xscale("log")
    axes.set_xticks(sorted(sizes), [_size(size) for size in sorted(sizes)])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", color=_PALE)
    axes.set_ylabel("times bare aiohttp")
    axes.set_title("Client CPU per search over that of bare aiohttp (line at 1)")
    axes.legend(loc="lower left", ncols=2)
    return figure


def _line_of_ratios(axes: Axes, here: Sequence[Row], label: str, line: str) -> None:
    axes.errorbar(
        [row["size"] for row in here],
        [row["ratio"] for row in here],
        yerr=_spread(here),
        fmt=f"o{line}",
        color=_COLOURS[here[0]["rival"]],
        capsize=3,
        markersize=4,
        label=label,
    )


def _by_concurrency(run: Mapping[str, Any]) -> Figure | None:
    """Draw latency and CPU by how many searches run at once."""
    measured = rows(run, "concurrency")
    levels = _distinct(measured, "concurrency")
    if not levels:
        return None
    figure = Figure(figsize=(_WIDTH, 3.6))
    latency, cpu = figure.subplots(1, 2)
    for name in dict.fromkeys(row["rival"] for row in measured):
        here = [row for row in measured if row["rival"] == name]
        colour = _COLOURS.get(name, _GREY)
        at = [row["concurrency"] for row in here]
        for column, line in (("p50_ms", "o-"), ("p99_ms", "o:")):
            latency.plot(
                at, [row[column] for row in here], line, color=colour, markersize=3
            )
        cpu.plot(
            at,
            [row["cpu_us"] for row in here],
            "o-",
            color=colour,
            markersize=3,
            label=name,
        )
    for axes in (latency, cpu):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(levels, [str(level) for level in levels])
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
        axes.grid(axis="y", color=_PALE)
        axes.set_xlabel("searches at once")
    latency.set_title("Latency, ms: p50 solid, p99 dotted")
    cpu.set_title("Client CPU per search, µs")
    figure.legend(loc="outside lower center", ncols=5)
    figure.suptitle(f"{_size(measured[0]['size'])} pictures")
    return figure


def _settings(run: Mapping[str, Any]) -> Figure | None:
    """Draw bars for the event loops, the missing extra and the Pythons."""
    measured = [
        row
        for part in ("loops", "plain", "pythons")
        for row in rows(run, part)
        if row["rival"] in _OURS
    ]
    sizes = _distinct(measured, "size")
    if not sizes:
        return None
    labels = list(dict.fromkeys(row["label"] for row in measured))[::-1]
    figure = Figure(figsize=(_WIDTH, 1.4 + 0.45 * len(labels)))
    for panel, size in zip(
        figure.subplots(1, len(sizes), sharey=True, squeeze=False).flat,
        sizes,
        strict=True,
    ):
        for name, shift in zip(_OURS, (0.19, -0.19), strict=True):
            here = [r for r in measured if r["size"] == size and r["rival"] == name]
            panel.barh(
                [labels.index(row["label"]) + shift for row in here],
                [row["ratio"] for row in here],
                xerr=_spread(here),
                height=0.36,
                color=_COLOURS[name],
                error_kw={"ecolor": _GREY, "capsize": 2},
                label=name if size == sizes[0] else None,
            )
        panel.axvline(1, color=_COLOURS[FLOOR.name], linewidth=1)
        panel.set_yticks(range(len(labels)), labels)
        panel.tick_params(left=False)
        panel.grid(axis="x", color=_PALE)
        panel.set_title(f"{_size(size)} pictures")
    figure.suptitle("Client CPU per search over bare aiohttp in the same setting")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _spread(here: Iterable[Row]) -> list[list[float]]:
    below, above = [], []
    for row in here:
        below.append(row["ratio"] - row["ratio_min"])
        above.append(row["ratio_max"] - row["ratio"])
    return [below, above]


def _distinct(measured: Iterable[Row], key: str) -> list[int]:
    return sorted({row[key] for row in measured})


def _size(size: int) -> str:
    return f"{size / 1e6:g} MB" if size >= 1e6 else f"{size / 1e3:g} KB"  # noqa: PLR2004


def _time(us: float) -> str:
    if us < _US_PER_MS:
        return f"{us:.0f} µs"
    ms = us / _US_PER_MS
    return f"{ms:.1f} ms" if ms < _TEN else f"{ms:.0f} ms"
