"""What the command line computes and says, without a socket."""

import io
import itertools
import json
import math

import pytest
from rich.console import Console
from rich.text import Text

from verifik_async import CallInfo, Match, SearchResult, errors
from verifik_async.cli import _demo_report, _show
from verifik_async.cli._answers import Answer, JsonLines, Rows
from verifik_async.cli._exit import one_line, printable
from verifik_async.cli._faces import draw_face, encode
from verifik_async.cli._trial import Checked, Face, Plan, Report, percentile

ERRORS = [getattr(errors, name) for name in errors.__all__]
RESULT = SearchResult(
    id="r1",
    matches=(Match(id="p1", score=0.91, name="Invented Person"), Match(id="p2")),
    call=CallInfo(elapsed_s=0.0123),
)


def report(*searches: Checked) -> Report:
    """Return the report of a run with these searches."""
    return Report(
        plan=Plan(people=1, probes=1, strangers=1, concurrency=2, seed=0),
        url="http://127.0.0.1:1",
        enrolled=[Face("person-001", encode(draw_face(1)), "person-001")] * 8,
        searches=searches,
        drawing_s=0.1,
        searching_s=0.5,
        max_in_flight=2,
        connections=2,
    )


def checked(person, found=None, error=None, seconds=0.01) -> Checked:
    """Return a search for a person that found one, or not."""
    face = Face("probe", b"", person)
    return Checked(face=face, found=found, error=error, seconds=seconds)


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_is_one_line_with_a_remedy(kind):
    """Whatever fails, the user is told what to do, in one line."""
    line = one_line(kind("first\nsecond \x1b[31mred"))
    assert line.isprintable()
    assert line.endswith(")")


def test_a_long_error_is_cut():
    """Servers may write novels."""
    assert len(one_line(errors.ImageError("x" * 5_000))) < 400


def test_printable_text_cannot_steer_the_terminal():
    """Escape codes, line breaks and direction marks are replaced."""
    assert printable("a\x1b[2Jb\r\nc\u202ed") == "a\ufffd[2Jb\ufffd\ufffdc\ufffdd"


@pytest.mark.parametrize(
    ("search", "verdict"),
    [
        (checked("a", "a"), "found"),
        (checked("a", "b"), "wrong"),
        (checked("a"), "missed"),
        (checked(None), "refused"),
        (checked(None, "a"), "wrong"),
        (checked("a", error="ServerError"), "failed"),
        (checked(None, error="ServerError"), "failed"),
    ],
)
def test_verdicts(search, verdict):
    """An answer is judged by the person who is expected."""
    assert search.verdict == verdict


def test_a_run_is_as_expected_only_without_a_fault():
    """One wrong person spoils it."""
    assert report(checked("a", "a"), checked(None)).as_expected
    assert not report(checked("a", "a"), checked(None, "a")).as_expected


@pytest.mark.parametrize(
    ("share", "value"), [(0.5, 50), (0.95, 95), (0.99, 99), (1.0, 100), (0.001, 1)]
)
def test_percentile(share, value):
    """Nearest rank: a value that was measured, never one between."""
    assert percentile(range(1, 101), share) == value


def test_percentile_of_nothing():
    """There is none."""
    assert math.isnan(percentile([], 0.5))


@pytest.mark.parametrize(
    "values",
    [[], [0.2], [0.2, 0.2, 0.2], [0.1, 0.2], [n / 1000 for n in range(1, 400)]],
    ids=["none", "one", "equal", "two", "many"],
)
def test_the_histogram_counts_every_search_once(values):
    """Its steps lie side by side and leave nothing out."""
    bins = _demo_report._bins(values)
    assert sum(count for _, _, count in bins) == len(values)
    assert all(a[1] == b[0] for a, b in itertools.pairwise(bins))


@pytest.mark.parametrize("width", [40, 80, 120, 200])
@pytest.mark.parametrize("colours", [None, "truecolor"])
def test_the_report_fits(width, colours):
    """No line is wider than the terminal, and all counts are there."""
    out = io.StringIO()
    console = Console(
        file=out, width=width, color_system=colours, force_terminal=True, markup=False
    )
    searches = [checked("person-001", "person-001", seconds=n / 999) for n in range(9)]
    _demo_report.show(report(*searches, checked("a", "b"), checked("a")), console)
    text = out.getvalue()
    assert ("\x1b" in text) == bool(colours)
    lines = Text.from_ansi(text).plain.splitlines()
    assert max(map(len, lines)) <= width
    assert any(line.lstrip().startswith("wrong persons") for line in lines)
    # The faces have colours or are not there.
    assert ("\u2580" in text) == bool(colours)


def test_the_report_of_failures_only():
    """With no answer there is no latency, in no form."""
    run = report(checked("a", error="ServerError"))
    assert json.loads(_demo_report.as_json(run))["latency_ms"]["p50"] is None
    out = io.StringIO()
    _demo_report.show(run, Console(file=out, width=80))
    assert "missed or failed" in out.getvalue()


def test_json_has_ids_and_scores_only():
    """What the API tells of persons beside stays out."""
    told = Answer("a.jpg", result=RESULT).as_json()
    assert told["matches"] == [{"id": "p1", "score": 0.91}, {"id": "p2", "score": None}]
    assert "Invented" not in json.dumps(told)


def test_json_lines_come_in_the_order_of_the_images(capsys):
    """Whatever the order of the answers; what was not sent is told in the end."""
    lines = JsonLines(["a", "b", "c", "d"])
    lines.add(1, Answer("b", result=RESULT))
    assert not capsys.readouterr().out
    lines.add(0, Answer("a", error=errors.ServerError("gone", status=500)))
    first = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["path"], line["ok"]) for line in first] == [("a", False), ("b", True)]
    lines.finish()
    rest = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["path"], line["error"]) for line in rest] == [
        ("c", "NotSent"),
        ("d", "NotSent"),
    ]


def test_rows_tell_every_image(capsys):
    """Answered, failed and not sent ones."""
    rows = Rows(["a", "[bold]b", "c"])
    rows.add(0, Answer("a", result=RESULT))
    rows.add(1, Answer("[bold]b", error=errors.ImageError("no")))
    rows.finish()
    out = capsys.readouterr().out
    for text in ("p1", "0.910", "12.3", "[bold]b", "failed: ImageError", "not sent"):
        assert text in out


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0042, "4.2"), (0.0996, "99.6"), (0.1, "100"), (2, "2000")]
)
def test_milliseconds(seconds, text):
    """Three digits that matter."""
    assert _show.milliseconds(seconds) == text


def test_progress_is_a_bar_in_a_terminal(capsys, monkeypatch):
    """It goes to stderr; what is printed meanwhile goes to stdout."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    with _show.progress("searching", 3) as step:
        for number in range(3):
            print(number)  # noqa: T201 - what a command does
            step()
    out, err = capsys.readouterr()
    assert out == "0\n1\n2\n"
    assert "searching" in err


def test_progress_is_a_line_now_and_then_elsewhere(capsys, monkeypatch):
    """Nothing for what is quickly done."""
    with _show.progress("searching", 2) as step:
        step()
    assert not capsys.readouterr().err
    monkeypatch.setattr(_show, "_PLAIN_EVERY", 0.0)
    with _show.progress("searching", 2) as step:
        step()
    assert capsys.readouterr().err == "searching: 1/2\n"


def test_hidden_progress(capsys, monkeypatch):
    """Where a bar would be in the way, there is none."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    with _show.progress("searching", 2, hidden=True) as step:
        step()
    assert not capsys.readouterr().err
