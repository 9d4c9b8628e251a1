"""`report` as users run it: a process, its file, its streams and its exit code."""

import json
import os
import re
import stat
import subprocess
import sys

import pytest
from PIL import Image

from verifik_async.cli import main

HEADER = {"verifik_journal": 1, "parameters": "0" * 64}
CALL = {"attempts": 1, "elapsed_s": 0.2}
FOUND = {
    "key": "anna.png",
    "index": 0,
    "state": "answered",
    "call": CALL,
    "id": "SAU01",
    "matches": [{"id": "person-1", "score": 0.93}],
}
NOBODY = {**FOUND, "key": "nobody.png", "index": 1, "matches": []}
LOST = {
    "key": "lost.png",
    "index": 2,
    "state": "not_sent",
    "call": CALL,
    "error": "ConnectError",
    "attempts": 3,
}


@pytest.fixture
def journal(tmp_path):
    """Return a journal of three probes."""
    return write(tmp_path / "batch.jsonl", HEADER, FOUND, NOBODY, LOST)


def write(path, *lines):
    """Write a file of JSON lines and return its path."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def run(capsys):
    """Return a function that runs the command here: exit code, stdout, stderr."""

    def run(*arguments: object):
        with pytest.raises(SystemExit) as ended:
            main(["report", *map(str, arguments)])
        return (ended.value.code, *capsys.readouterr())

    return run


def test_the_command_as_a_process(journal, tmp_path):
    """It writes one file, tells so in one line, and reads no token."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "verifik_async.cli"),
            *("report", journal.name, "-o", "report.html"),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        timeout=30,
        check=True,
        text=True,
    )
    size = (tmp_path / "report.html").stat().st_size
    assert done.stdout == (
        f"report.html: {size:,} bytes; probes 3, answered 2, with match 1, failed 1\n"
    )
    assert done.stderr == ""


def test_the_page_holds_the_batch(run, journal, tmp_path):
    """Keys, ids, the cause of a failure, and the journal's name."""
    assert run(journal, "-o", tmp_path / "r.html")[0] == 0
    text = (tmp_path / "r.html").read_text("utf-8")
    for told in ("anna.png", "person-1", "ConnectError", "<title>batch.jsonl"):
        assert told in text


def test_json_for_machines(run, journal, tmp_path):
    """One object, with what the line tells."""
    output = tmp_path / "r.html"
    code, out, _ = run(journal, "--output", output, "--json")
    assert code == 0
    assert json.loads(out) == {
        "output": str(output),
        "bytes": output.stat().st_size,
        "probes": 3,
        "answered": 2,
        "with_match": 1,
        "failed": 1,
    }


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps no such modes")
def test_an_older_page_is_replaced_and_only_its_owner_may_read(run, journal, tmp_path):
    """It tells of persons, whatever the older file's mode was."""
    output = tmp_path / "r.html"
    output.write_text("older")
    output.chmod(0o666)
    assert run(journal, "-o", output)[0] == 0
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    assert "older" not in output.read_text("utf-8")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["batch.jsonl", "r.html"]


def test_a_link_is_followed(run, journal, tmp_path):
    """What it points to is written."""
    (tmp_path / "real").mkdir()
    (tmp_path / "r.html").symlink_to(tmp_path / "real" / "r.html")
    assert run(journal, "-o", tmp_path / "r.html")[0] == 0
    assert (tmp_path / "r.html").is_symlink()
    assert (tmp_path / "real" / "r.html").stat().st_size > 1_000


def test_pictures_beside_the_journal(run, journal, tmp_path):
    """Those that are there; the line tells how many, and how many were left out."""
    Image.new("RGB", (200, 200)).save(tmp_path / "anna.png")
    Image.new("RGB", (200, 200)).save(tmp_path / "lost.png")
    output = tmp_path / "r.html"
    code, out, err = run(journal, "-o", output, "--images", "--max-images", 2)
    assert (code, err) == (0, "")
    assert out.endswith(", pictures 1, left out 1\n")
    text = output.read_text("utf-8")
    assert len(re.findall("data:image/webp;base64,", text)) == 1
    assert "biometric data" in text
    code, out, _ = run(journal, "-o", output, "--images", "--json")
    assert (json.loads(out)["pictures"], json.loads(out)["left_out"]) == (2, 0)


def test_names_that_are_no_text(run, tmp_path):
    """Half of a surrogate pair, as odd bytes of a path become, is written as well."""
    journal = write(tmp_path / "b.jsonl", HEADER, {**FOUND, "key": "odd-\udcff.png"})
    code, out, _ = run(journal, "-o", tmp_path / "odd-\udcff.html", "--images")
    assert code == 0
    assert out.startswith(f"{tmp_path}/odd-\ufffd.html: ")


def refused(run, journal, output, folder):
    """Return the one line of a report that was not made; nothing is left of it."""
    before = sorted(folder.iterdir())
    code, out, err = run(journal, "-o", output)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert sorted(folder.iterdir()) == before
    return err


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([], "not a journal's header"),
        ([FOUND], "not a journal's header"),
        ([HEADER, FOUND, {"torn": 1}, NOBODY], "line 3 is damaged"),
    ],
)
def test_what_is_no_journal(run, tmp_path, lines, told):
    """One line that names the file and the fault; an older page stays."""
    journal, output = write(tmp_path / "b.jsonl", *lines), tmp_path / "r.html"
    output.write_text("older")
    line = refused(run, journal, output, tmp_path)
    assert "b.jsonl: " in line
    assert told in line
    assert output.read_text() == "older"


def test_a_missing_journal(run, tmp_path):
    """The kind of fault is told."""
    line = refused(run, tmp_path / "none.jsonl", tmp_path / "r.html", tmp_path)
    assert "none.jsonl: it cannot be read (FileNotFoundError)" in line


def test_a_journal_is_never_overwritten(run, journal, tmp_path):
    """It has cost money."""
    before = journal.read_bytes()
    link = tmp_path / "link.html"
    link.symlink_to(journal)
    for output in (journal, link):
        assert "--output is the journal" in refused(run, journal, output, tmp_path)
    assert journal.read_bytes() == before


def test_a_page_that_cannot_be_written(run, journal, tmp_path):
    """A folder that is not there, or one in the file's place."""
    line = refused(run, journal, tmp_path / "none" / "r.html", tmp_path)
    assert "cannot be written: FileNotFoundError" in line
    (tmp_path / "folder").mkdir()
    line = refused(run, journal, tmp_path / "folder", tmp_path)
    assert "is no regular file" in line


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("b.jsonl",), "--output"),
        (("-o", "r.html"), "JOURNAL"),
        (("b.jsonl", "-o", "r.html", "--max-images", "-1"), "--max-images"),
    ],
)
def test_wrong_usage(run, arguments, told):
    """One line, exit code 2."""
    code, out, err = run(*arguments)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert told in err


def test_help_teaches(run):
    """With examples to copy."""
    code, out, _ = run("--help")
    assert code == 0
    for told in ("--output", "-o", "--images", "--max-images", "sees faces"):
        assert told in out
    assert "verifik-async report out.jsonl -o report.html" in out
