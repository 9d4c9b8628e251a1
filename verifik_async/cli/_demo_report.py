"""What `demo` shows in the end."""

import io
import json
from collections.abc import Iterator, Sequence

import attrs
from PIL import Image
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from verifik_async.cli import _show
from verifik_async.cli._trial import (
    SERVICE_SECONDS,
    VERDICTS,
    Checked,
    Face,
    Report,
    percentile,
)

# From this width on, tables stand side by side; what they take without the bars.
_WIDE = 120
_BESIDE_BARS = 100
_BINS = 8
_FACE_COLUMNS = 16
_GAP = 2
_CODE = """\
async with VerifikClient(token, base_url=url, defaults=options) as client:
    async with client.search_many(pictures) as outcomes:
        async for outcome in outcomes:
            print(outcome.key, outcome.result.best)"""


def as_json(report: Report) -> str:
    """Return the figures as one JSON object."""
    ordered = report.latencies
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    figures = attrs.asdict(report.plan)
    figures |= {verdict: report.count(verdict) for verdict in VERDICTS}
    figures |= {
        "searches": len(report.searches),
        "searching_s": round(report.searching_s, 4),
        "searches_per_s": round(report.throughput, 1),
        # NaN is no JSON.
        "latency_ms": {
            name: round(percentile(ordered, share) * 1000, 2) if ordered else None
            for name, share in shares.items()
        },
        "max_in_flight": report.max_in_flight,
        "connections": report.connections,
        "drawing_s": round(report.drawing_s, 4),
    }
    return json.dumps(figures)


def show(report: Report, console: Console) -> None:
    """Print the story of a run."""
    console.print(_story(report))
    if console.color_system in ("256", "truecolor"):
        console.print(_gallery(report.enrolled, console.width))
    figures, rows = _figures(report), _examples(report.searches)
    if console.width >= _WIDE:
        spare = min(64, console.width - _BESIDE_BARS)
        side = Table.grid(padding=(0, 4))
        side.add_row(Group(figures, rows), _histogram(report.latencies, console, spare))
        console.print(side)
    else:
        console.print(figures)
        console.print(rows)
        console.print(_histogram(report.latencies, console, 24))
    console.print(_recipe())


def _story(report: Report) -> Text:
    plan, (low, high) = report.plan, SERVICE_SECONDS
    return Text.assemble(
        (f"{plan.people} persons", "bold"),
        f" drawn in {report.drawing_s:.1f} s and enrolled with a stand-in of the API,\n"
        f"a process of its own on {report.url}.\n",
        (f"{len(report.searches)} searches", "bold"),
        f" over sockets, {report.max_in_flight} at once; the stand-in takes "
        f"{low * 1000:.0f} to {high * 1000:.0f} ms for each.",
    )


def _gallery(faces: Sequence[Face], width: int) -> Padding:
    """Return some of the faces, two pixels to a character."""
    fitting = max(1, min(6, (width + _GAP) // (_FACE_COLUMNS + _GAP)))
    grid = Table.grid(padding=(0, _GAP, 0, 0))
    shown = faces[:fitting]
    grid.add_row(*(_thumbnail(face.picture) for face in shown))
    grid.add_row(*(Text(face.label, "dim", justify="center") for face in shown))
    return Padding(grid, (1, 0, 0, 0))


def _thumbnail(picture: bytes) -> Text:
    side = _FACE_COLUMNS
    with Image.open(io.BytesIO(picture)) as image:
        margin, end = image.width * 0.1, image.width * 0.9
        face = (margin, margin * 0.5, end, end - margin * 0.5)
        small = image.resize((side, side), Image.Resampling.LANCZOS, face)
    pixels = list(small.tobytes())
    colours = [
        "#{:02x}{:02x}{:02x}".format(*pixels[at : at + 3])
        for at in range(0, len(pixels), 3)
    ]
    text = Text(no_wrap=True)
    for row in range(0, side, 2):
        for column in range(side):
            upper = colours[row * side + column]
            lower = colours[(row + 1) * side + column]
            text.append("\u2580", f"{upper} on {lower}")
        text.append("\n" if row + 2 < side else "")
    return text


def _figures(report: Report) -> Table:
    plan, ordered = report.plan, report.latencies
    table = _show.table("figure", "measured")
    wrong, lost = report.count("wrong"), report.count("missed") + report.count("failed")
    table.add_row("probes found", _share(report.count("found"), plan.probes))
    table.add_row("strangers refused", _share(report.count("refused"), plan.strangers))
    table.add_row("wrong persons", Text(str(wrong), "bold red" if wrong else "green"))
    if lost:
        table.add_row("missed or failed", Text(str(lost), "bold red"))
    table.add_row("throughput", f"{report.throughput:,.0f} searches/s")
    for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        value = percentile(ordered, share)
        table.add_row(f"latency {name}", f"{_show.milliseconds(value)} ms")
    table.add_row("connections", str(report.connections))
    return table


def _share(part: int, whole: int) -> Text:
    return Text(f"{part} of {whole}", "green" if part == whole else "bold red")


def _examples(searches: Sequence[Checked]) -> Table:
    table = _show.table("searched", "is", "best match", "score", "ms", left=3)
    for search in _picked(searches):
        table.add_row(
            search.face.label,
            search.face.person or "nobody enrolled",
            search.found or search.error or "no match",
            _show.score(search.score),
            _show.milliseconds(search.seconds),
            style="red" if search.verdict in ("wrong", "missed", "failed") else None,
        )
    return table


def _picked(searches: Sequence[Checked]) -> Iterator[Checked]:
    """Yield what went wrong, if anything did, else some of each kind."""
    for verdict, most in zip(VERDICTS, (4, 3, 2, 3, 3), strict=True):
        yield from [s for s in searches if s.verdict == verdict][:most]


def _histogram(
    ordered: Sequence[float], console: Console, width: int
) -> RenderableType:
    table = _show.table("latency in ms", "searches", "", left=1)
    table.columns[2].justify = "left"
    bar = "#" if console.options.ascii_only else "\u2588"
    bins = _bins(ordered)
    most = max((count for _, _, count in bins), default=1)
    for low, high, count in bins:
        # Whatever there is at all shall be seen.
        length = max(round(count / most * width), 1 if count else 0)
        span = f"{low * 1000:6.1f} - {high * 1000:6.1f}"
        table.add_row(span, str(count), Text(bar * length, "cyan"))
    return table


def _bins(ordered: Sequence[float]) -> list[tuple[float, float, int]]:
    """Return (from, to, count) of equal steps up to p99, and one for the rest."""
    if not ordered:
        return []
    low, high, last = ordered[0], percentile(ordered, 0.99), ordered[-1]
    step = (high - low) / _BINS
    if step <= 0:
        return [(low, last, len(ordered))]
    edges = [low + step * number for number in range(_BINS)] + [high]
    counts = [0] * _BINS
    for value in ordered:
        if value <= high:
            counts[min(int((value - low) / step), _BINS - 1)] += 1
    found = list(zip(edges, edges[1:], counts, strict=False))
    rest = len(ordered) - sum(counts)
    return [*found, (high, last, rest)] if rest else found


def _recipe() -> Group:
    code = Syntax("", "python", theme="ansi_dark").highlight(_CODE)
    code.rstrip()
    return Group(
        Text("\nThe lines that did it:\n"),
        Padding(code, (0, 0, 0, 2), expand=False),
        Text("\nNext: verifik-async mock, verifik-async search --help", "dim"),
    )
