"""The commands as users run them: a process, its streams and its exit code."""

import asyncio
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

from verifik_async import __version__
from verifik_async.cli import main
from verifik_async.testing import Fault, MockVerifik

ROOT = Path(__file__).parents[2]
# What would change how output looks, or where requests go.
UNWANTED = re.compile("VERIFIK_|NO_COLOR|FORCE_COLOR|TTY_|COLUMNS|LINES|PYTHON")
ESCAPE = "\x1b"


@attrs.frozen
class Ended:
    """A command that has ended."""

    code: int | None
    out: str
    err: str


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return where processes keep their bytecode: the second one starts faster."""
    return str(tmp_path_factory.mktemp("bytecode"))


@pytest.fixture
def environment(mock: MockVerifik, compiled: str) -> dict[str, str]:
    """Return what the commands run with: the stand-in's URL and a token."""
    kept = {name: v for name, v in os.environ.items() if not UNWANTED.match(name)}
    # From the source tree as well as installed.
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    own = {"PYTHONPATH": path, "PYTHONUTF8": "1", "PYTHONPYCACHEPREFIX": compiled}
    return kept | own | {"VERIFIK_BASE_URL": mock.url, "VERIFIK_TOKEN": TOKEN}


@pytest.fixture
def start(environment):
    """Return a function that starts a command."""

    async def start(*arguments: object, python: tuple[str, ...] = ()) -> Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *(python or ("-m", "verifik_async.cli")),
            *map(str, arguments),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env=environment,
        )

    return start


@pytest.fixture
def run(start):
    """Return a function that runs a command to its end."""

    async def run(*arguments: object, stdin: bytes = b"", **more: object) -> Ended:
        process = await start(*arguments, **more)
        async with asyncio.timeout(20):
            out, err = await process.communicate(stdin)
        return Ended(process.returncode, out.decode(), err.decode())

    return run


@pytest.fixture
def refuse(monkeypatch, capsys):
    """Return a function that runs a command here and returns its one line."""
    # Nobody listens there: a search that is sent would end in another exit code.
    monkeypatch.setenv("VERIFIK_BASE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("VERIFIK_TOKEN", TOKEN)

    def refuse(*arguments: object) -> str:
        with pytest.raises(SystemExit) as ended:
            main([*map(str, arguments)])
        out, err = capsys.readouterr()
        assert (ended.value.code, out) == (2, "")
        assert len(err.splitlines()) == 1
        return err

    return refuse


@pytest.fixture
def anna(mock: MockVerifik, tmp_path: Path, image: bytes) -> Path:
    """Return the picture of an enrolled person."""
    mock.enroll("anna", image, name="Invented Person")
    path = tmp_path / "anna.jpg"
    path.write_bytes(image)
    return path


@pytest.fixture
def nobody(tmp_path: Path) -> Path:
    """Return the picture of somebody who is not enrolled."""
    path = tmp_path / "nobody.jpg"
    path.write_bytes(b"another picture" * 20)
    return path


async def test_search_prints_a_table(run, anna, nobody):
    """Best match and score of each picture; nothing on stderr, no escape codes."""
    ended = await run("search", anna, nobody)
    assert (ended.code, ended.err) == (0, "")
    rows = [line.split() for line in ended.out.splitlines() if line.strip()]
    assert rows[0] == ["image", "best", "match", "score", "matches", "ms"]
    table = ended.out.replace("\n", "")
    assert re.search(r"anna +1\.000 +1 +\d+", table)
    assert re.search(r"no match +- +0 +\d+", table)
    assert ESCAPE not in ended.out


async def test_search_prints_json_lines(run, anna, nobody):
    """One object for each picture, in the order in which they were named."""
    ended = await run("search", nobody, anna, "--json")
    assert (ended.code, ended.err) == (0, "")
    first, second = map(json.loads, ended.out.splitlines())
    assert (first["path"], first["ok"], first["matches"]) == (str(nobody), True, [])
    assert second["matches"] == [{"id": "anna", "score": 1.0}]
    assert second["path"] == str(anna)
    assert len(second["id"]) == 5
    assert second["elapsed_ms"] > 0


async def test_search_sends_its_defaults(run, mock, anna):
    """The command has defaults, though the API has none."""
    await run("search", anna)
    (request,) = mock.requests
    sent = (request.os, request.min_score, request.search_mode, request.collection_id)
    assert sent == ("DESKTOP", 0.7, "FAST", None)
    assert request.extra == {}


async def test_search_sends_its_options(run, mock, anna):
    """Each option has the API's name."""
    mock.enroll("bert", b"other", collection_id="code-1")
    ended = await run(
        *("search", anna, "--os", "IOS", "--min-score", "0.85"),
        *("--search-mode", "ACCURATE", "--collection-id", "code-1"),
    )
    assert ended.code == 0
    (request,) = mock.requests
    sent = (request.os, request.min_score, request.search_mode, request.collection_id)
    assert sent == ("IOS", 0.85, "ACCURATE", "code-1")


async def test_search_reads_standard_input(run, anna):
    """A dash is one picture from a pipe."""
    ended = await run("search", "-", "--json", stdin=anna.read_bytes())
    assert ended.code == 0
    told = json.loads(ended.out)
    assert (told["path"], told["matches"][0]["id"]) == ("-", "anna")


async def test_base_url_option_goes_first(run, environment, mock, anna):
    """The environment is for what is not said."""
    environment["VERIFIK_BASE_URL"] = "http://127.0.0.1:1"
    assert (await run("search", anna, "--base-url", mock.url)).code == 0


async def test_concurrency_bounds_the_searches(run, mock, anna):
    """Never more than that on the wire, and that many at once."""
    mock.latency = 0.1
    ended = await run("search", *[anna] * 9, "--concurrency", 3, "--json")
    assert (ended.code, len(ended.out.splitlines())) == (0, 9)
    assert mock.max_in_flight == 3


async def test_token_file(run, environment, mock, anna, tmp_path):
    """It needs no variable, and a line break at its end does no harm."""
    mock.tokens = {"from-a-file"}
    del environment["VERIFIK_TOKEN"]
    path = tmp_path / "token"
    path.write_text("from-a-file\n")
    assert (await run("search", anna, "--token-file", path)).code == 0


async def test_other_token_variable(run, environment, mock, anna):
    """The vendor's own name for it will do."""
    mock.tokens = {"jwt"}
    del environment["VERIFIK_TOKEN"]
    environment["VERIFIK_CLIENT_JWT"] = "jwt"
    assert (await run("search", anna)).code == 0


async def test_no_token(run, environment, mock, anna):
    """Not even a local stand-in gets an invented one."""
    del environment["VERIFIK_TOKEN"]
    ended = await run("search", anna)
    assert (ended.code, ended.out, mock.hits) == (2, "", 0)
    assert len(ended.err.splitlines()) == 1
    assert "VERIFIK_TOKEN" in ended.err
    assert "--token-file" in ended.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "IMAGES"),
        (("nowhere.jpg",), "nowhere.jpg: there is no such file"),
        ((ROOT,), "is a folder"),
        (("-", "-"), "can be given once"),
        (("-", "--token", "x"), "unknown option --token"),
        (("-", "--min-score", "0.2"), "min_score must be a number from 0.5 to 1"),
        (("-", "--min-score", "much"), "--min-score"),
        (("-", "--os", "BEOS"), "--os"),
        (("-", "--concurrency", "0"), "--concurrency"),
        (("-", "--deadline", "0"), "--deadline"),
        (("-", "--base-url", "http://example.com"), "base_url must be https"),
        (("-", "--token-file", "nowhere"), "the token file cannot be read"),
    ],
    ids=lambda value: "" if isinstance(value, str) else None,
)
def test_wrong_usage(refuse, arguments, told):
    """One line that names the fault, exit code 2, and nothing is sent."""
    assert told in refuse("search", *arguments)


async def test_a_missing_file_keeps_all_from_being_sent(run, mock, anna):
    """A slip of the pen must not cost the searches beside it."""
    ended = await run("search", anna, "nowhere.jpg")
    assert (ended.code, ended.out, mock.hits) == (2, "", 0)
    assert len(ended.err.splitlines()) == 1


async def test_some_fail(run, anna, tmp_path):
    """The others are answered; stderr has a line for each that is not."""
    (tmp_path / "empty.jpg").touch()
    ended = await run("search", tmp_path / "empty.jpg", anna, "--json")
    assert ended.code == 3
    failed, good = map(json.loads, ended.out.splitlines())
    assert (failed["ok"], failed["error"]) == (False, "ImageError")
    assert failed["charge"] == "not_sent"
    assert good["ok"]
    assert "empty.jpg: image is empty" in ended.err
    assert "1 of 2 pictures" in ended.err
    assert "Traceback" not in ended.err


async def test_a_refused_token_stops_the_rest(run, mock, anna):
    """It would be refused for every picture; and it is shown nowhere."""
    mock.tokens = {"another"}
    ended = await run("search", *[anna] * 4, "--concurrency", 1, "--json")
    assert (ended.code, mock.hits) == (3, 1)
    errors = [json.loads(line)["error"] for line in ended.out.splitlines()]
    assert errors == ["AuthenticationError", *["NotSent"] * 3]
    assert "check the token" in ended.err
    assert TOKEN not in ended.out + ended.err


async def test_debug_shows_requests_and_tracebacks(run, mock, anna):
    """For those who ask; the token and the picture stay out."""
    mock.script(Fault.status(409))
    ended = await run("search", anna, "--debug")
    assert ended.code == 3
    assert "Traceback" in ended.err
    assert "status=409" in ended.err
    assert TOKEN not in ended.err


async def test_demo_counts_add_up(run):
    """Every search is found, refused or told; all figures are of this run."""
    size = ("--people", 5, "--probes", 23, "--strangers", 7, "--concurrency", 4)
    ended = await run("demo", *size, "--seed", 3, "--json")
    assert (ended.code, ended.err) == (0, "")
    told = json.loads(ended.out)
    assert (told["found"], told["refused"]) == (23, 7)
    assert (told["wrong"], told["missed"], told["failed"]) == (0, 0, 0)
    assert told["searches"] == 30
    assert told["max_in_flight"] == 4
    assert 20 <= told["latency_ms"]["p50"] <= told["latency_ms"]["p99"]
    rate = told["searches"] / told["searching_s"]
    assert told["searches_per_s"] == pytest.approx(rate, rel=0.01)


async def test_demo_without_a_terminal_is_plain_text(run):
    """No escape codes, nothing on stderr, and 80 columns are enough."""
    ended = await run("demo", "--people", 3, "--probes", 9, "--strangers", 2)
    assert (ended.code, ended.err) == (0, "")
    assert not set(ended.out) - {"\n"} & {chr(code) for code in range(32)}
    assert max(map(len, ended.out.splitlines())) <= 80
    assert re.search(r"probes found +9 of 9", ended.out)
    assert re.search(r"strangers refused +2 of 2", ended.out)
    assert re.search(r"probe \d+ +person-(\d+) +person-\1 +0\.[789]\d\d", ended.out)
    assert "client.search_many(pictures)" in ended.out


@pytest.mark.parametrize("size", [("--people", 0), ("--probes", 0, "--strangers", 0)])
def test_demo_of_nothing(refuse, size):
    """There is nobody to search, and one line says so."""
    assert "--p" in refuse("demo", *size)


async def test_no_color_in_a_terminal(run, environment, anna):
    """NO_COLOR means no escape codes at all, even if a terminal is claimed."""
    environment |= {"NO_COLOR": "1", "FORCE_COLOR": "1", "TERM": "xterm-256color"}
    assert ESCAPE not in (await run("search", anna)).out
    del environment["NO_COLOR"]
    assert ESCAPE in (await run("search", anna)).out


async def test_a_narrow_encoding_ends_no_run(run, environment, anna):
    """Lines of tables and names of files are written as well as it can."""
    environment |= {"PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    picture = anna.with_name("\u00e4nna.jpg")
    picture.write_bytes(anna.read_bytes())
    assert (await run("search", picture)).code == 0


async def test_mock_enrolls_serves_and_ends(start, run, environment, anna):
    """Its first lines say how to use it; Ctrl-C is a good end."""
    process = await start("mock", "--enroll", anna.parent, "--data-shape", "object")
    async with asyncio.timeout(20):
        head = await process.stdout.readuntil(b"Requests:\n")
        url = re.search(rb"export VERIFIK_BASE_URL=(\S+)", head)[1].decode()
        assert "1 person is enrolled" in head.decode()
        assert url.startswith("http://127.0.0.1:")
        environment["VERIFIK_BASE_URL"] = url
        ended = await run("search", anna, "--json")
        assert json.loads(ended.out)["matches"] == [{"id": "anna", "score": 1.0}]
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    log = out.decode()
    route = "/v2/face-recognition/search-active-user"
    assert re.search(rf"\d\d:\d\d:\d\d  200  POST {route}  20,000 bytes", log)
    assert "after 1 request" in log
    assert TOKEN not in log
    assert "anna" not in log


# The documents' own way to ask, for whoever has no client library.
PLAIN_SAMPLE = """
import base64, os, requests

body = {"os": "DESKTOP", "min_score": 0.75, "search_mode": "FAST"}
body["image"] = base64.b64encode(bytes(range(256))).decode()
url = os.environ["VERIFIK_BASE_URL"] + "/v2/face-recognition/search-active-user"
headers = {"Authorization": "Bearer " + os.environ["VERIFIK_TOKEN"]}
for left_out in ("nothing", "os"):
    fields = {name: value for name, value in body.items() if name != left_out}
    answer = requests.post(url, json=fields, headers=headers)
    print(answer.status_code, answer.text)
"""


async def test_mock_answers_a_plain_sample(start, run, environment):
    """`requests.post` gets what the documents show: 200, and 409 for a field less."""
    mock = await start("mock")
    first = (await mock.stdout.readline()).decode()
    environment["VERIFIK_BASE_URL"] = re.search(r"http://\S+", first)[0]
    ended = await run(python=("-c", PLAIN_SAMPLE))
    mock.send_signal(signal.SIGINT)
    await mock.communicate()
    good, bad = ended.out.splitlines()
    assert good.startswith("200 ")
    assert json.loads(good[4:])["data"] == []
    assert bad == '409 {"message":"\\"os\\" is required","code":"MissingParameter"}'


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--rate", "0"), "rate must be above 0"),
        (("--latency", "soon"), "--latency must be seconds"),
        (("--latency", "0.2,0.1"), "--latency must be seconds"),
        (("--latency", "nan"), "--latency must be seconds"),
        (("--port", "70000"), "--port"),
        (("--data-shape", "round"), "--data-shape"),
        (("--enroll", "nowhere"), "the folder cannot be read"),
    ],
)
def test_mock_with_wrong_settings(refuse, arguments, told):
    """One line, exit code 2."""
    assert told in refuse("mock", *arguments)


async def test_mock_on_a_taken_port(run, mock):
    """The remedy is another port."""
    ended = await run("mock", "--port", mock.url.rpartition(":")[2])
    assert ended.code == 2
    assert "choose another --port" in ended.err


def test_mock_with_a_folder_of_no_pictures(refuse, tmp_path):
    """An empty gallery is hardly what was meant."""
    assert "no pictures" in refuse("mock", "--enroll", tmp_path)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--help",), ["search", "demo", "mock", "Exit codes", "--install-completion"]),
        (("search", "--help"), ["--min-score", "VERIFIK_TOKEN", "| verifik-async"]),
        (("demo", "--help"), ["--people", "verifik-async demo --json"]),
        (("mock", "--help"), ["--enroll", "verifik-async mock --enroll"]),
    ],
)
def test_help_teaches(capsys, arguments, told):
    """Every command explains itself with examples."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    out = capsys.readouterr().out
    for text in told:
        assert text in out


async def test_version(run):
    """It is the package's."""
    ended = await run("--version")
    assert (ended.code, ended.out.strip()) == (0, __version__)


@pytest.mark.parametrize(
    ("package", "command"), [("cyclopts", "search"), ("PIL", "demo"), ("rich", "demo")]
)
async def test_without_the_extra(run, package, command):
    """One line names what to install."""
    code = (
        f"import sys; sys.modules[{package!r}] = None;"
        f"from verifik_async.cli import main; main([{command!r}])"
    )
    ended = await run(python=("-c", code))
    assert (ended.code, ended.out) == (2, "")
    assert len(ended.err.splitlines()) == 1
    assert 'pip install "verifik-async[cli]"' in ended.err


async def test_the_help_needs_no_pillow_and_no_stand_in(run):
    """Completion and help come at once: heavy parts load with their command."""
    code = (
        "import sys, verifik_async.cli._app;"
        "print({'PIL', 'verifik_async.testing'} & set(sys.modules))"
    )
    assert (await run(python=("-c", code))).out == "set()\n"
