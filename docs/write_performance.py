"""Write the figures of a run of `python -m benchmarks` into the documents.

`python docs/write_performance.py FOLDER` copies run.json and the pictures from the
folder of a run and writes tables and the README's figures anew; without a folder it
takes what was copied before. A test compares.
"""

import json
import pathlib
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]
KEPT = ROOT / "docs" / "performance"
PAGE = ROOT / "docs" / "performance.md"
README = ROOT / "README.md"
MADE = "<!-- made by docs/write_performance.py: {} -->\n"
END = "<!-- end -->\n"

sys.path.insert(0, str(ROOT))  # run as a script, it sees its own folder only
from benchmarks._figures import rows  # noqa: E402

Run = dict[str, Any]
Row = dict[str, Any]

# CPU over bare aiohttp at most, by size in bytes.
_SINGLE = {20_000: 1.15, 200_000: 1.10, 2_000_000: 1.00}
_MANY = {20_000: 1.25, 200_000: 1.15, 2_000_000: 1.05}
_PLAIN = {20_000: 1.45, 200_000: 2.6, 2_000_000: 3.0}
_TIMES = 12
_IMPORT_MS = 60.0
# Of the scripts' figures, by their names: what is promised.
_PROMISED = {
    "verifik_async / aiohttp json=, p99": "event-loop lag over aiohttp `json=`, p99, "
    "32 pictures of 2 MB in flight",
    "search_many: peak above that": "RSS growth, 1,000 files of 10 MB at 32",
    "beside a batch / idle, p99": "p99 of a single search beside a batch, over idle",
}
_MB = 1_000_000
_ROUND_FROM = 100
_OURS, _BATCH = "verifik_async", "search_many"


def load() -> Run:
    """Return the run that was copied."""
    run: Run = json.loads((KEPT / "run.json").read_text(encoding="utf-8"))
    return run


def sections(run: Run) -> dict[str, str]:
    """Return what is written between the marks, by their names."""
    return {
        "machine": _machine(run),
        "bounds": _table(("what", "at most", "measured", ""), _bounds(run)),
        "sizes": _sizes(run, "sizes"),
        "nginx": _sizes(run, "nginx"),
        "concurrency": _columns(run, "concurrency", "concurrency"),
        "latency": _latency(run),
        "settings": _settings(run),
        "others": _table(("part", "figure", "measured"), _others(run)),
        "facts": _facts(run),
    }


def written(page: str, texts: dict[str, str]) -> str:
    """Return a page with what is made for it."""
    for name, text in texts.items():
        mark = MADE.format(name)
        before, found, rest = page.partition(mark)
        if found:
            _, _, after = rest.partition(END)
            page = f"{before}{mark}\n{text}\n{END}{after}"
    return page


# -- what is made ----------------------------------------------------------------


def _machine(run: Run) -> str:
    about = next(
        report["about"]
        for report in run["parts"]["sizes"]["reports"]
        if "about" in report
    )
    facts = {"date": run["date"][:10]} | about
    return _table(("", ""), ((name, text) for name, text in facts.items()))


def _bounds(run: Run) -> Iterator[Sequence[str]]:
    for part, label, rival, bounds in (
        ("sizes", "`search_active_user`", _OURS, _SINGLE),
        ("sizes", "`search_many`", _BATCH, _MANY),
        ("plain", "`search_active_user` without `speed`", _OURS, _PLAIN),
    ):
        for size, bound in bounds.items():
            row = _row(run, part, rival, size)
            what = f"CPU over bare aiohttp, {label}, {_size(size)}"
            value = row["ratio"]
            yield _bound(what, f"{bound:.2f}x", f"{value:.2f}x", ok=value <= bound)
    ours = _row(run, "sizes", _OURS, 200_000)["cpu_us"]
    for rival in ("httpx", "requests"):
        times = _row(run, "sizes", rival, 200_000)["cpu_us"] / ours
        what = f"CPU over {rival}, {_size(200_000)}"
        yield _bound(what, "1/12", f"1/{times:.1f}", ok=times >= _TIMES)
    for part in ("lag", "files", "beside"):
        for figure in _figures(run, part):
            # Others with a bound from below show that the measurement is sound.
            if figure["bound"] is not None and figure["name"] in _PROMISED:
                yield _bound(
                    _PROMISED[figure["name"]],
                    f"{figure['bound']:g} {figure['unit']}",
                    f"{figure['value']:.3g} {figure['unit']}",
                    ok=figure["ok"],
                )
    took = _import_ms(run)
    what = "`import verifik_async` over `import aiohttp`"
    yield _bound(what, f"{_IMPORT_MS:g} ms", f"{took:.0f} ms", ok=took <= _IMPORT_MS)


def _import_ms(run: Run) -> float:
    return next(
        float(figure["value"])
        for figure in _figures(run, "import_time")
        if figure["name"] == "difference"
    )


def _bound(what: str, bound: str, shown: str, *, ok: bool) -> Sequence[str]:
    return what, bound.strip(), shown.strip(), "held" if ok else "**missed**"


def _sizes(run: Run, part: str) -> str:
    found = rows(run, part)
    sizes = sorted({row["size"] for row in found})
    cells = {(row["rival"], row["size"]): row for row in found}
    names = dict.fromkeys(row["rival"] for row in found)
    head = ("", *(f"{_size(size)}: µs" for size in sizes))
    body = (
        (name, *(_cpu(cells.get((name, size))) for size in sizes)) for name in names
    )
    return _table(head, body)


def _columns(run: Run, part: str, key: str) -> str:
    found = rows(run, part)
    values = sorted({row[key] for row in found})
    cells = {(row["rival"], row[key]): row for row in found}
    names = dict.fromkeys(row["rival"] for row in found)
    head = ("CPU, µs; p99, ms", *(f"{value:,}" for value in values))
    body = (
        (name, *(_cpu_and_p99(cells.get((name, value))) for value in values))
        for name in names
    )
    return _table(head, body)


def _latency(run: Run) -> str:
    return _table(
        ("service", "at once", "", "searches/s", "p50, ms", "p99, ms", "CPU, µs"),
        (
            (
                f"{row['latency_ms']:g} ms",
                f"{row['concurrency']}",
                row["rival"],
                f"{row['per_second']:,.0f}",
                f"{row['p50_ms']:.1f}",
                f"{row['p99_ms']:.1f}",
                _cpu(row),
            )
            for row in rows(run, "latency")
        ),
    )


def _settings(run: Run) -> str:
    return _table(
        ("setting", "picture", "", "CPU, µs", "over bare", "min", "max"),
        (
            (
                row["label"],
                _size(row["size"]),
                row["rival"],
                f"{row['cpu_us']:,.0f}",
                f"{row['ratio']:.2f}x",
                f"{row['ratio_min']:.2f}",
                f"{row['ratio_max']:.2f}",
            )
            for part in ("plain", "loops", "pythons")
            for row in rows(run, part)
        ),
    )


def _others(run: Run) -> Iterator[Sequence[str]]:
    for part in ("lag", "files", "beside", "import_time", "ceiling"):
        for figure in _figures(run, part):
            digits = ".0f" if figure["value"] >= _ROUND_FROM else ".3g"
            shown = format(figure["value"], "," + digits)
            yield part, figure["name"], f"{shown} {figure['unit']}".strip()


def _facts(run: Run) -> str:
    ours = _row(run, "sizes", _OURS, 200_000)
    sample = _row(run, "sizes", "requests", 200_000)
    httpx = _row(run, "sizes", "httpx", 200_000)
    lag = {figure["name"]: figure["value"] for figure in _figures(run, "lag")}
    return (
        f"- A search of 200 KB costs {ours['cpu_us']:,.0f} µs of CPU: "
        f"{ours['ratio']:.2f}x bare aiohttp with a body made beforehand; httpx "
        f"{httpx['cpu_us']:,.0f}, `requests` {sample['cpu_us']:,.0f} µs.\n"
        "- With 32 pictures of 2 MB in flight, others on the event loop wait "
        f"{lag['verifik_async: lag, p99']:.0f} ms (p99); with aiohttp's `json=` "
        f"{lag['aiohttp json=: lag, p99']:.0f} ms.\n"
        f"- `import verifik_async` takes {_import_ms(run):.0f} ms more than "
        "`import aiohttp`, and imports no optional package but `speed`'s two.\n"
    )


# -- small parts -----------------------------------------------------------------


def _row(run: Run, part: str, rival: str, size: int) -> Row:
    return next(
        row for row in rows(run, part) if row["rival"] == rival and row["size"] == size
    )


def _figures(run: Run, part: str) -> Iterator[Row]:
    for report in run["parts"].get(part, {}).get("reports", ()):
        yield from report["figures"]


def _cpu(row: Row | None) -> str:
    return "" if row is None else f"{row['cpu_us']:,.0f} ({row['ratio']:.2f}x)"


def _cpu_and_p99(row: Row | None) -> str:
    return "" if row is None else f"{row['cpu_us']:,.0f}; {row['p99_ms']:,.0f}"


def _size(size: int) -> str:
    return f"{size / _MB:g} MB" if size >= _MB else f"{size / 1000:g} KB"


def _table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    lines = (head, ("---",) * len(head), *body)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _keep(folder: pathlib.Path) -> None:
    KEPT.mkdir(exist_ok=True)
    for path in (folder / "run.json", *folder.glob("*.svg")):
        shutil.copy(path, KEPT)


if __name__ == "__main__":
    for name in sys.argv[1:2]:
        _keep(pathlib.Path(name))
    made = sections(load())
    for document in (PAGE, README):
        text = written(document.read_text(encoding="utf-8"), made)
        document.write_text(text, encoding="utf-8")
