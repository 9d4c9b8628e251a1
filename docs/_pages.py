"""Parts of pages that are made of a run that is kept."""

import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_END = "<!-- end -->\n"

Run = dict[str, Any]


def load(file: pathlib.Path) -> Run:
    """Return a run that is kept."""
    run: Run = json.loads(file.read_text(encoding="utf-8"))
    return run


def written(page: str, script: str, sections: Mapping[str, str]) -> str:
    """Return a page with what a script makes for it, between its marks."""
    for name, text in sections.items():
        mark = f"<!-- made by docs/{script}: {name} -->\n"
        before, _, rest = page.partition(mark)
        _, _, after = rest.partition(_END)
        page = f"{before}{mark}\n{text}\n{_END}{after}"
    return page


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
