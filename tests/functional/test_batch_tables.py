"""Tables of a journal as Parquet; skipped where pyarrow is not installed."""

import pytest

from verifik_async import Outcome, SearchResult, errors
from verifik_async._journal import Searched, header_line, outcome_line
from verifik_async.cli import _table
from verifik_async.models import CallInfo, Match

pq = pytest.importorskip("pyarrow.parquet")


def test_parquet(tmp_path, monkeypatch):
    """Types are kept, in row groups; names that are no text are spelled out."""
    monkeypatch.setattr(_table, "_AT_ONCE", 2)
    call = CallInfo(attempts=1, status=200, elapsed_s=0.5)
    found = SearchResult(matches=(Match(id="p", score=0.9), Match(id="q")), call=call)
    refused = errors.FaceRejectedError("x", status=422, reason="no_face_detected")
    outcomes = [
        Outcome(index=2, key="c\udcff.jpg", error=refused),
        Outcome(index=0, key="a.jpg", result=found, call=call),
        Outcome(index=1, key=7, result=SearchResult(call=call), call=call),
    ]
    journal, target = tmp_path / "out.jsonl", tmp_path / "out.parquet"
    lines = [outcome_line(outcome, Searched()) for outcome in outcomes]
    journal.write_bytes(b"".join([header_line(""), *lines]))
    _table.write(journal, {"parquet": target, "csv": None}, ordered=True)
    assert pq.ParquetFile(target).num_row_groups == 2
    table = pq.read_table(target)
    assert tuple(table.column_names) == _table.COLUMNS
    assert table["index"].to_pylist() == [0, 1, 2]
    assert table["key"].to_pylist() == ["a.jpg", "7", "c\\udcff.jpg"]
    assert table["best_score"].to_pylist() == [0.9, None, None]
    assert table["matches"].to_pylist() == [2, 0, None]
    assert table["reason"].to_pylist() == [None, None, "no_face_detected"]
    assert target.stat().st_mode & 0o777 == 0o600
