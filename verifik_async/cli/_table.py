"""The table that a batch leaves behind: a row per probe, as CSV or Parquet."""

import csv
import importlib
import io
import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from verifik_async import APIStatusError, Outcome, read_journal
from verifik_async.cli._exit import UsageError, printable
from verifik_async.cli._files import replaced

COLUMNS: Final = (
    *("index", "key", "state", "matches", "best_id", "best_score"),
    *("error", "reason", "status", "attempts", "throttled", "elapsed_s"),
)
_AT_ONCE: Final = 10_000
_FORMULAS: Final = "=+-@\t\r"


def check(targets: Mapping[str, Path | None], taken: Iterable[Path]) -> None:
    """Refuse tables that can't be written, before anything is sent.

    Args:
        targets: Where they go, by their kind.
        taken: Files that they must not replace.

    Raises:
        UsageError: they can't be there, or pyarrow is not installed.
    """
    others = {path.resolve() for path in taken}
    for target in filter(None, targets.values()):
        if not target.parent.is_dir():
            fault = "there is no such folder"
        elif target.exists() and not target.is_file():
            fault = "it is no regular file"
        elif target.resolve() in others:
            fault = "it is the journal, an input or another table"
        else:
            others.add(target.resolve())
            continue
        raise UsageError(f"{printable(target)}: {fault} (choose another)")
    if targets.get("parquet") is not None:
        _arrow("pyarrow")


def write(journal: Path, targets: Mapping[str, Path | None], *, ordered: bool) -> None:
    """Write the outcomes of a journal as tables.

    Args:
        journal: Where they are.
        targets: Where tables go, by their kind, "csv" or "parquet".
        ordered: Whether in the order of the input, which takes memory.
    """
    for kind, target in targets.items():
        if target is not None:
            _WRITERS[kind](journal, target, ordered=ordered)


def _write_csv(journal: Path, target: Path, *, ordered: bool) -> None:
    """Write the outcomes of a journal as CSV, with a line of headings."""
    with replaced(target) as file:
        text = io.TextIOWrapper(file, "utf-8", newline="")
        rows = csv.writer(text)
        rows.writerow(COLUMNS)
        for row in _rows(journal, ordered=ordered):
            rows.writerow([_harmless(cell) for cell in row])
        text.flush()
        text.detach()


def _write_parquet(journal: Path, target: Path, *, ordered: bool) -> None:
    """Write the outcomes of a journal as Parquet, some thousand rows at a time."""
    arrow, parquet = _arrow("pyarrow"), _arrow("pyarrow.parquet")
    schema = arrow.schema(
        [
            ("index", arrow.int64()),
            ("key", arrow.string()),
            ("state", arrow.string()),
            ("matches", arrow.int32()),
            ("best_id", arrow.string()),
            ("best_score", arrow.float64()),
            ("error", arrow.string()),
            ("reason", arrow.string()),
            ("status", arrow.int32()),
            ("attempts", arrow.int32()),
            ("throttled", arrow.int32()),
            ("elapsed_s", arrow.float64()),
        ]
    )
    rows = _rows(journal, ordered=ordered)
    with replaced(target) as file, parquet.ParquetWriter(file, schema) as writer:
        while some := [*itertools.islice(rows, _AT_ONCE)]:
            columns = [[*column] for column in zip(*some, strict=True)]
            writer.write_table(arrow.table(columns, schema=schema))


_WRITERS: Final = {"csv": _write_csv, "parquet": _write_parquet}


def _rows(journal: Path, *, ordered: bool) -> Iterator[tuple[Any, ...]]:
    rows: Iterable[tuple[Any, ...]] = map(_row, read_journal(journal))
    return iter(sorted(rows, key=lambda row: row[0]) if ordered else rows)


def _row(outcome: Outcome) -> tuple[Any, ...]:
    result, error, call = outcome.result, outcome.error, outcome.call
    best = None if result is None else result.best
    return (
        outcome.index,
        _text(outcome.key),
        str(outcome.state),
        None if result is None else len(result.matches),
        None if best is None else best.id,
        None if best is None else best.score,
        None if error is None else type(error).__name__,
        error.reason if isinstance(error, APIStatusError) else None,
        error.status if isinstance(error, APIStatusError) else call.status,
        call.attempts,
        call.throttled,
        call.elapsed_s,
    )


def _text(key: str | int) -> str:
    """Return a key that any reader takes: names of files may be no text."""
    return str(key).encode("utf-8", "backslashreplace").decode()


def _harmless(cell: Any) -> Any:
    """Return a cell that no spreadsheet takes for a formula."""
    begins = isinstance(cell, str) and cell[:1] in _FORMULAS
    return f"'{cell}" if begins and cell else cell


def _arrow(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UsageError(
            "--parquet needs pyarrow (pip install pyarrow; or use --csv)"
        ) from None
