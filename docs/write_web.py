"""Write what `python -m benchmarks.web` measured into `docs/web.md`.

    python -m benchmarks.web --json docs/web/run.json
    python docs/write_web.py

A test compares.
"""

import pathlib
from collections.abc import Iterator, Sequence

import _pages

PAGE = pathlib.Path(__file__).with_name("web.md")
KEPT = pathlib.Path(__file__).with_name("web") / "run.json"
FRAMEWORKS = {"fastapi": "FastAPI", "aiohttp": "aiohttp.web", "django": "Django"}
APPS = {"fastapi": "the example", "plain aiohttp json=": "the same with `json=`"}
ENDS = (
    "answered before the signal",
    "answered after it",
    "no connection, nothing sent",
    "connection closed, nothing searched",
    "searches at the service",
)


def sections() -> dict[str, str]:
    """Return what is written between the marks, by their names."""
    figures = {it["name"]: it["value"] for it in _pages.load(KEPT)["figures"]}
    stopping = _pages.table(
        ("200 uploads", *ENDS),
        [
            (f"{shown}, {when}", *(f"{figures[f'{name}, {when}: {e}']}" for e in ENDS))
            for when in ("all have come", "they still come")
            for name, shown in FRAMEWORKS.items()
        ],
    )
    return {
        "stopping": "SIGTERM in the middle (`python -m benchmarks.web`): what had come "
        f"was answered, and nothing was searched in vain.\n\n{stopping}",
        "lag": "What the health route takes while 50 visitors upload pictures of 4 MB, "
        "in milliseconds, both in one run\n(`python -m benchmarks.web`):\n\n"
        + _pages.table(("", "p50", "p99", "most"), [*_lags(figures)]),
    }


def _lags(figures: _pages.Run) -> Iterator[Sequence[str]]:
    for name, shown in APPS.items():
        waits = (
            figures[f"{name}: health route, {it}"] for it in ("p50", "p99", "most")
        )
        yield (f"FastAPI, {shown}", *(f"{wait:,.1f}" for wait in waits))


def written(page: str) -> str:
    """Return the page with what is made for it."""
    return _pages.written(page, "write_web.py", sections())


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
