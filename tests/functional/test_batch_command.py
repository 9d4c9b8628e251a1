"""`verifik-async batch` as users run it: a process, its files and its exit code."""

import asyncio
import csv
import json
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import attrs
import pytest
from support import TOKEN

from verifik_async import Charge, read_journal
from verifik_async.testing import Fault, MockVerifik

ROOT = Path(__file__).parents[2]
UNWANTED = re.compile("VERIFIK_|NO_COLOR|FORCE_COLOR|TTY_|COLUMNS|LINES|PYTHON")


@attrs.frozen
class Ended:
    """A command that has ended."""

    code: int | None
    out: str
    err: str


@pytest.fixture
def photos(tmp_path, monkeypatch) -> Path:
    """Return a folder of ten pictures; commands run beside it."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    for number in range(10):
        place = folder / "below" if number % 2 else folder
        (place / f"{number}.jpg").write_bytes(bytes([number]) * 300)
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.jpg").write_bytes(b"x")
    return folder


@pytest.fixture(scope="session")
def compiled(tmp_path_factory) -> str:
    """Return where processes keep their bytecode: the second one starts faster."""
    return str(tmp_path_factory.mktemp("bytecode"))


@pytest.fixture
def start(mock: MockVerifik, photos, compiled):
    """Return a function that starts `batch`."""
    kept = {name: v for name, v in os.environ.items() if not UNWANTED.match(name)}
    path = os.pathsep.join([str(ROOT), *sys.path])
    own = {"PYTHONPATH": path, "PYTHONUTF8": "1", "PYTHONPYCACHEPREFIX": compiled}
    own |= {"VERIFIK_TOKEN": TOKEN, "VERIFIK_BASE_URL": mock.url}

    async def start(*arguments: object, stderr: int = PIPE) -> Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "verifik_async.cli", "batch"),
            *map(str, arguments),
            stdin=PIPE,
            stdout=PIPE,
            stderr=stderr,
            env=kept | own | {"TERM": "xterm-256color", "COLUMNS": "120"},
            cwd=photos.parent,
        )

    return start


@pytest.fixture
def run(start):
    """Return a function that runs `batch` to its end."""

    async def run(*arguments: object, stdin: bytes = b"") -> Ended:
        process = await start(*arguments)
        out, err = await process.communicate(stdin)
        return Ended(process.returncode, out.decode(), err.decode())

    return run


def keys(journal: str = "out.jsonl") -> list[str | int]:
    """Return the keys of a journal, in their order."""
    return sorted(outcome.key for outcome in read_journal(journal))


ALL = sorted(f"photos/{'below/' if n % 2 else ''}{n}.jpg" for n in range(10))


async def test_a_folder(run, mock):
    """All pictures in it and below, each once; the journal has them by their paths."""
    ended = await run("photos", "-o", "out.jsonl")
    assert (ended.code, ended.err) == (0, "")
    assert "answered   10, 0 with a match" in ended.out
    assert keys() == ALL
    assert mock.hits == 10


async def test_going_on(run, mock, photos):
    """What was answered is not sent again; nothing is written over by accident."""
    mock.script(Fault.status(422), Fault.status(422))
    ended = await run("photos", "-o", "out.jsonl", "--concurrency", 1)
    assert ended.code == 3
    assert "2 x FaceRejectedError (use a picture with one clear face" in ended.err
    again = await run("photos", "-o", "out.jsonl")
    assert (again.code, again.out) == (2, "")
    assert "add --resume" in again.err
    (photos / "new.png").write_bytes(b"n" * 300)
    resumed = await run("photos", "-o", "out.jsonl", "--resume", "--json")
    told = json.loads(resumed.out)
    assert (resumed.code, resumed.err) == (0, "")
    assert (told["answered"], told["skipped"], told["pictures"]) == (3, 8, 11)
    assert mock.hits == 13


async def test_other_parameters(run, mock):
    """Refused before anything is sent, with the remedy."""
    await run("photos", "-o", "out.jsonl")
    ended = await run("photos", "-o", "out.jsonl", "--resume", "--min-score", 0.9)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("verifik-async: out.jsonl: it was written with other")
    assert mock.hits == 10


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (["photos/*.jpg"], [key for key in ALL if "below" not in key]),
        (["photos/**/*.jpg"], ALL),
        (["photos/below", "photos/0.jpg"], ["photos/0.jpg", *ALL[5:]]),
        (["pho*"], ALL),
    ],
    ids=str,
)
async def test_patterns_and_names(run, inputs, expected):
    """Quoted patterns are matched here, for those who have no shell that does."""
    ended = await run(*inputs, "-o", "out.jsonl")
    assert (ended.code, ended.err) == (0, "")
    assert keys() == sorted(expected)


async def test_paths_on_standard_input(run):
    """One a line."""
    names = "photos/0.jpg\nphotos/below/1.jpg\n\n"
    ended = await run("-", "-o", "out.jsonl", stdin=names.encode())
    assert (ended.code, keys()) == (0, ["photos/0.jpg", "photos/below/1.jpg"])


async def test_a_list_as_csv(run, mock, tmp_path):
    """A row's own key, collection and score; its path is relative to the list."""
    rows = "path,key,collection_id,min_score\n0.jpg,anna,staff,0.9\n2.jpg,,,\n"
    (tmp_path / "photos" / "list.csv").write_text(rows, encoding="utf-8-sig")
    mock.enroll("p", b"x" * 300, collection_id="staff")
    ended = await run("photos/list.csv", "-o", "out.jsonl")
    assert (ended.code, ended.err) == (0, "")
    assert keys() == ["2.jpg", "anna"]
    sent = {(r.collection_id, r.min_score) for r in mock.requests}
    assert sent == {("staff", 0.9), (None, 0.7)}


async def test_a_list_as_json_lines(run, mock, tmp_path):
    """The same, with numbers as keys."""
    rows = [{"path": "photos/0.jpg", "key": 7}, {"image": "photos/2.jpg", "score": 0.8}]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "list.jsonl").write_text(text)
    ended = await run("list.jsonl", "-o", "out.jsonl")
    assert (ended.code, ended.err) == (0, "")
    assert {outcome.key for outcome in read_journal("out.jsonl")} == {
        7,
        "photos/2.jpg",
    }
    assert {r.min_score for r in mock.requests} == {0.7, 0.8}


async def test_a_wrong_list(run, mock, tmp_path):
    """Its row is named, and nothing at all is sent."""
    (tmp_path / "list.csv").write_text("path,min_score\n0.jpg,0.8\n2.jpg,high\n")
    ended = await run("list.csv", "-o", "out.jsonl")
    assert (ended.code, ended.out, mock.hits) == (2, "", 0)
    assert "list.csv: row 2: min_score is no number" in ended.err
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["nowhere", "-o", "o.jsonl"], "there is no such file or folder"),
        (["photos", "-o", "nowhere/o.jsonl"], "there is no such folder"),
        (["photos", "-o", "o.jsonl", "--csv", "nowhere/t.csv"], "no such folder"),
        (["photos", "--frob", "-o", "o.jsonl"], "unknown option"),
        (["photos"], "--output"),
        (["photos", "-o", "o.jsonl", "--min-score", "2"], "min_score"),
        (["photos/notes.txt", "-o", "photos"], "is there already"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_wrong_usage(run, mock, arguments, fault):
    """One line that says what to do; nothing is sent."""
    ended = await run(*arguments)
    assert (ended.code, ended.out, mock.hits) == (2, "", 0)
    assert fault.lower() in ended.err.lower()
    assert ended.err.count("\n") == 1


async def test_an_empty_folder(run, tmp_path):
    """Somebody has mistyped, more often than not."""
    (tmp_path / "empty").mkdir()
    ended = await run("empty", "-o", "out.jsonl")
    assert (ended.code, ended.out) == (2, "")
    assert "there are no pictures" in ended.err


async def test_a_dry_run(run, mock, tmp_path):
    """How many, how large, how long, how dear; nothing is sent and nothing written."""
    arguments = ("photos", "-o", "out.jsonl", "--dry-run", "--price", "0.5")
    ended = await run(*arguments, "--rate", 2)
    assert (ended.code, ended.err, mock.hits) == (0, "", 0)
    for told in ("pictures", "10", "3.0 KB", "5.0 s (at 2 a second)", "5.00"):
        assert told in ended.out
    assert not (tmp_path / "out.jsonl").exists()
    await run("photos/below", "-o", "out.jsonl")
    again = await run(*arguments, "--resume", "--json")
    told = json.loads(again.out)
    assert (told["pictures"], told["answered_before"], told["cost"]) == (10, 5, 2.5)
    assert mock.hits == 5


async def test_a_budget(run, mock):
    """The exit code says that the end was not reached, and the rest how to go on."""
    ended = await run("photos", "-o", "out.jsonl", "--max-searches", 4)
    assert (ended.code, mock.hits) == (4, 4)
    assert "stopped by max_searches; --resume goes on" in ended.err
    assert "left       6" in ended.out


async def test_no_credits(run, mock):
    """It stops, and says what to do."""
    mock.script(*[Fault.status(402)] * 10)
    ended = await run("photos", "-o", "out.jsonl", "--concurrency", 1)
    assert (ended.code, mock.hits) == (4, 1)
    assert "top up the account's credits" in ended.err


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGINT for processes")
async def test_ctrl_c_once_and_going_on(start, run, mock):
    """What is on the way is finished; nothing is paid twice."""
    mock.latency = 0.4
    process = await start("photos", "-o", "out.jsonl", "--concurrency", 2)
    while mock.in_flight < 2:
        await asyncio.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    assert process.returncode == 4
    assert b"what is on the way is finished" in err
    assert b"stopped by stop; --resume goes on" in err
    answered = [o for o in read_journal("out.jsonl") if o.ok]
    assert len(answered) == mock.hits == 2
    mock.latency = 0
    resumed = await run("photos", "-o", "out.jsonl", "--resume")
    assert (resumed.code, mock.hits, keys()) == (0, 10, ALL)
    assert b"Traceback" not in err


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGINT for processes")
async def test_ctrl_c_twice(start, run, mock):
    """It ends at once; what was on the wire may have been charged, and that is kept."""
    mock.latency = 30
    process = await start("photos", "-o", "out.jsonl", "--concurrency", 2)
    while mock.in_flight < 2:
        await asyncio.sleep(0.01)
    process.send_signal(signal.SIGINT)
    await process.stderr.readline()
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(10):
        _, err = await process.communicate()
    assert process.returncode == 4
    assert b"Traceback" not in err
    cut_off = [o.state for o in read_journal("out.jsonl")]
    assert cut_off.count(Charge.MAYBE_CHARGED) == 2
    mock.latency = 0
    resumed = await run("photos", "-o", "out.jsonl", "--resume")
    assert (resumed.code, keys()) == (0, ALL)


async def test_a_table(run, tmp_path):
    """A row per picture, in the order of the input where that is asked for."""
    ended = await run("photos", "-o", "out.jsonl", "--csv", "out.csv", "--ordered")
    assert (ended.code, ended.err) == (0, "")
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    assert [int(row["index"]) for row in rows] == list(range(10))
    assert sorted(row["key"] for row in rows) == ALL
    assert {row["state"] for row in rows} == {"answered"}


async def test_equal_pictures_are_sent_once(run, mock, photos):
    """Where that is asked for."""
    (photos / "copy.jpg").write_bytes((photos / "0.jpg").read_bytes())
    ended = await run("photos", "-o", "out.jsonl", "--coalesce", "--json")
    assert json.loads(ended.out)["coalesced"] == 1
    assert (ended.code, mock.hits) == (0, 10)


async def test_pictures_are_prepared(run, mock, tmp_path):
    """Shrunk, and made JPEG where they were something else; the bytes are told."""
    from PIL import Image  # noqa: PLC0415 - the others need none

    folder = tmp_path / "large"
    folder.mkdir()
    noise = Image.effect_noise((900, 600), 80).convert("RGB")
    noise.save(folder / "a.webp", lossless=True)
    noise.save(folder / "b.png")
    ended = await run("large", "-o", "out.jsonl", "--max-side", 300, "--json")
    told = json.loads(ended.out)
    assert (ended.code, ended.err, told["answered"]) == (0, "", 2)
    before = sum(path.stat().st_size for path in folder.iterdir())
    sent = sum(request.image_bytes for request in mock.requests)
    assert told["saved_bytes"] == before - sent > 0
    again = await run("large", "-o", "out.jsonl", "--resume", "--max-side", 300)
    assert (again.code, mock.hits) == (0, 2)
    assert "saved" in again.out


async def test_progress_on_a_pipe(run, mock):
    """Plain lines now and then, on stderr only."""
    mock.latency = 1.2
    ended = await run("photos", "-o", "out.jsonl", "--concurrency", 2, "--json")
    lines = ended.err.splitlines()
    assert lines
    assert all(
        re.fullmatch(r"verifik-async: \d+/10 .*/s, .*window 2", line) for line in lines
    )
    assert json.loads(ended.out)["answered"] == 10
    assert "\x1b" not in ended.out + ended.err


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="has no pseudo-terminals")
async def test_progress_in_a_terminal(start, mock):
    """A bar with what was answered and failed, the rate and the window, redrawn."""
    mock.latency = 0.4
    mock.script(Fault.status(422))
    screen, stderr = os.openpty()
    process = await start(
        *("photos", "-o", "out.jsonl", "--concurrency", 2, "--json"), stderr=stderr
    )
    os.close(stderr)
    out, _ = await process.communicate()
    shown = await asyncio.to_thread(os.read, screen, 65_536)
    os.close(screen)
    assert json.loads(out)["failed"] == 1
    assert b"1 failed, 0 throttled, window 2" in shown
    assert re.search(rb"\d/10\S* \d+\.\d/s, ", shown)
    assert b"\r" in shown


# -- what must not be lost -------------------------------------------------------------


@pytest.mark.parametrize("table", ["out.jsonl", "list.csv", "link.csv", "photos"])
async def test_a_table_replaces_nothing_of_value(run, mock, tmp_path, table):
    """Neither the journal nor a list, by whatever name, nor a folder."""
    (tmp_path / "list.csv").write_text("path\nphotos/0.jpg\n")
    (tmp_path / "link.csv").symlink_to("list.csv")
    ended = await run("list.csv", "-o", "out.jsonl", "--csv", table)
    assert (ended.code, ended.out, mock.hits) == (2, "", 0)
    assert (tmp_path / "list.csv").read_text().startswith("path")


async def test_a_table_that_cannot_be_written(run, mock, tmp_path):
    """The answers are told all the same, and how to get the table."""
    (tmp_path / "tables").mkdir()
    mock.latency = 0.5

    async def remove() -> None:
        while not mock.in_flight:
            await asyncio.sleep(0.01)
        (tmp_path / "tables").rmdir()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(remove())
        ended = await run("photos", "-o", "out.jsonl", "--csv", "tables/t", "--json")
    told = json.loads(ended.out)
    assert (ended.code, told["answered"]) == (3, 10)
    assert "no table: FileNotFoundError" in told["fault"]
    assert "Traceback" not in ended.err


async def test_formulas_in_a_table(run, tmp_path):
    """A name is no formula, whatever a spreadsheet thinks."""
    (tmp_path / "list.csv").write_text('path,key\nphotos/0.jpg,"=1+1"\n')
    ended = await run("list.csv", "-o", "out.jsonl", "--csv", "out.csv")
    assert (ended.code, ended.err) == (0, "")
    [row] = csv.DictReader((tmp_path / "out.csv").read_text().splitlines())
    assert row["key"] == "'=1+1"


async def test_patterns_do_not_go_round_in_circles(run, photos):
    """A link to a folder above is no more pictures."""
    (photos / "loop").symlink_to(photos)
    ended = await run("photos/**/*.jpg", "-o", "out.jsonl", "--dry-run", "--json")
    assert json.loads(ended.out)["pictures"] == 10


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="has no /dev/stdout")
async def test_the_journal_is_not_where_the_command_writes(mock, photos, compiled):
    """`-o /dev/stdout > file` would write over its own lines."""
    own = {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    own |= {"PYTHONPYCACHEPREFIX": compiled}
    own |= {"VERIFIK_TOKEN": TOKEN, "VERIFIK_BASE_URL": mock.url}
    process = await asyncio.create_subprocess_shell(
        f"{sys.executable} -m verifik_async.cli batch photos -o /dev/stdout > o.jsonl",
        cwd=photos.parent,
        stderr=PIPE,
        env={**os.environ, **own},
    )
    _, err = await process.communicate()
    assert (process.returncode, mock.hits) == (2, 0)
    assert b"where the command itself writes" in err


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGINT for processes")
async def test_ctrl_c_while_paths_are_read(start):
    """Nothing is under way yet: it ends at once, without a traceback."""
    process = await start("-", "-o", "out.jsonl")
    await asyncio.sleep(1.5)
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(10):
        err = await process.stderr.read()
        assert await process.wait() == 130
    assert err == b""


async def test_a_list_that_changes_meanwhile(start, mock, tmp_path):
    """What was searched is told, and that the rest can't be."""
    names = [f"photos/{number}.jpg\n" for number in (0, 2, 4, 6, 8)] * 400
    keyed = [f"{name.strip()},{number}\n" for number, name in enumerate(names)]
    (tmp_path / "list.csv").write_text("".join(["path,key\n", *keyed]))
    mock.latency = 0.3
    process = await start("list.csv", "-o", "o.jsonl", "--concurrency", 1, "--json")
    while not mock.in_flight:
        await asyncio.sleep(0.01)
    mock.latency = 0
    with (tmp_path / "list.csv").open("r+") as file:
        file.seek(30_000)  # beyond what was read ahead
        file.write(",,\n" * 1000)
    out, err = await process.communicate()
    told = json.loads(out)
    assert process.returncode == 4
    assert told["answered"] == mock.hits > 0
    assert "path is missing" in told["cause"]
    assert b"Traceback" not in err
