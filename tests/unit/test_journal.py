"""The journal's lines, written and read back."""

import json
import random

import pytest

from verifik_async import (
    CallInfo,
    Charge,
    FaceRejectedError,
    JournalError,
    Match,
    Outcome,
    SearchResult,
    ServerError,
    Thumbnail,
    read_journal,
)
from verifik_async._journal import Searched, header_line, outcome_line, whole_lines
from verifik_async._journal_file import JournalFile

CALL = CallInfo(attempts=2, queued_s=0.5, status=200)
FOUND = Outcome(
    index=0,
    key="a.jpg",
    result=SearchResult(
        id="SAU01",
        matches=(
            Match(
                id="p",
                score=0.9,
                name="Invented Person",
                thumbnails=(Thumbnail(thumbnail="AAAA"),),
            ),
            Match(id="q"),
        ),
        call=CALL,
    ),
    call=CALL,
)
LOST = Outcome(
    index=1,
    key=7,
    error=ServerError("busy", status=502, charge=Charge.MAYBE_CHARGED, attempts=4),
)


def written(tmp_path, *lines: bytes):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b"".join(lines))
    return path


def test_outcomes_come_back(tmp_path):
    """Ids, scores, states and calls are as they were."""
    path = written(
        tmp_path,
        header_line("0" * 64),
        outcome_line(FOUND, Searched("1" * 64)),
        outcome_line(LOST, Searched()),
    )
    found, lost = read_journal(path)
    assert [(m.id, m.score) for m in found.result.matches] == [("p", 0.9), ("q", None)]
    assert (found.key, found.ok, found.state) == ("a.jpg", True, Charge.ANSWERED)
    assert found.call == CALL
    assert isinstance(lost.error, ServerError)
    assert (lost.key, lost.index, lost.state) == (7, 1, Charge.MAYBE_CHARGED)
    assert (lost.error.status, lost.error.attempts) == (502, 4)


def test_a_refused_face_keeps_its_reason(tmp_path):
    """The reason is what a person looks for in the morning."""
    error = FaceRejectedError("x", status=422, reason="no_face_detected")
    line = outcome_line(Outcome(index=0, key="k", error=error), Searched())
    (outcome,) = read_journal(written(tmp_path, header_line(""), line))
    assert isinstance(outcome.error, FaceRejectedError)
    assert outcome.error.reason == "no_face_detected"


def test_no_name_and_no_picture_is_kept():
    """Of a match its id and its score, nothing else."""
    line = outcome_line(FOUND, Searched("1" * 64))
    assert b"Invented" not in line
    assert b"AAAA" not in line
    assert json.loads(line)["matches"] == [
        {"id": "p", "score": 0.9},
        {"id": "q", "score": None},
    ]


def test_the_last_line_of_a_key_wins(tmp_path):
    """A probe that was searched again is there once."""
    again = Outcome(index=1, key=7, result=SearchResult())
    path = written(
        tmp_path,
        header_line(""),
        outcome_line(LOST, Searched()),
        outcome_line(FOUND, Searched()),
        outcome_line(again, Searched()),
    )
    assert [(o.key, o.ok) for o in read_journal(path)] == [("a.jpg", True), (7, True)]


def test_a_torn_tail_is_passed_over(tmp_path):
    """Whatever a killed process left of its last line, the rest is read."""
    line = outcome_line(LOST, Searched())
    for cut in random.Random(1).sample(range(1, len(line) - 1), 20):
        path = written(
            tmp_path, header_line(""), outcome_line(FOUND, Searched()), line[:cut]
        )
        assert [outcome.key for outcome in read_journal(path)] == ["a.jpg"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "not a journal's header"),
        ([b"\xff\n"], "not a journal's header"),
        ([b'{"a":1}\n'], "not a journal's header"),
        ([b'{"verifik_journal":99}\n'], "another version"),
        (
            [header_line(""), b"{}\n", outcome_line(LOST, Searched())],
            "line 2 is damaged",
        ),
        (
            [header_line(""), b"{\n", outcome_line(LOST, Searched())],
            "line 2 is damaged",
        ),
    ],
)
def test_what_is_no_journal(lines, message, tmp_path):
    """A wrong file and a damaged one are told apart from a torn one."""
    with pytest.raises(JournalError, match=message):
        list(read_journal(written(tmp_path, *lines)))


def test_a_missing_file(tmp_path):
    """The error is ours, and shows no path."""
    with pytest.raises(JournalError, match="FileNotFoundError") as caught:
        list(read_journal(tmp_path / "none.jsonl"))
    assert caught.value.__context__ is None
    assert str(tmp_path) not in str(caught.value)


GOOD = json.loads(outcome_line(FOUND, Searched("1" * 64)))


@pytest.mark.parametrize(
    "change",
    [
        {"key": ["a"]},
        {"key": True},
        {"key": None},
        {"index": "0"},
        {"index": []},
        {"state": "text"},
        {"state": []},
        {"call": None},
        {"matches": 5},
        {"matches": [5]},
        {"matches": [{"id": "p"}]},
        {"matches": [{"id": "p", "score": 1.0, "name": "x"}]},
        {"error": "ServerError"},
    ],
    ids=str,
)
def test_a_line_of_another_kind_is_damage(tmp_path, change):
    """Only our own error comes out, for a reader and for who goes on alike."""
    bad = (json.dumps(GOOD | change) + "\n").encode()
    good = outcome_line(LOST, Searched())
    path = written(tmp_path, header_line("p"), bad, good)
    with pytest.raises(JournalError, match="line 2 is damaged"):
        list(read_journal(path))
    with pytest.raises(JournalError, match="line 2 is damaged"):
        JournalFile(path, "p")
    JournalFile(written(tmp_path, header_line("p"), good), "p").close()


def test_a_line_that_grows_while_it_is_read():
    """What is being written is no damage."""
    line = outcome_line(LOST, Searched())
    pieces = [outcome_line(FOUND, Searched()), line[:50], line[50:], line]
    assert [fields["key"] for _, fields in whole_lines(iter(pieces), 0)] == ["a.jpg"]


def test_what_the_service_says_instead_of_a_code_is_not_kept():
    """A code is a word; anything else may be a name."""
    for code, kept in (("MissingParameter", "MissingParameter"), ("Ann Lee", None)):
        error = FaceRejectedError("x", status=422, code=code)
        line = outcome_line(Outcome(index=0, key="k", error=error), Searched())
        assert json.loads(line)["code"] == kept
