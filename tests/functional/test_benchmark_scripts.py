"""The scripts beside `python -m benchmarks` run, and write what they promise."""

import asyncio
import contextlib
import importlib
import io
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse

import aiohttp
import pytest

ROOT = pathlib.Path(__file__).parents[2]
# Debian's folder of servers is on root's search path only.
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
FIGURES = {
    "lag": ["verifik_async: lag, p99", "verifik_async / aiohttp json=, p99"],
    "files": ["search_many: pictures", "aiohttp json=: pictures"],
    "resume": ["orjson: opened after", "json: opened after"],
    "journal": ["0 ms: CPU, with / without", "50 ms: CPU, with / without"],
    "folder": ["run 1: accounted for", "answered in the journal"],
    "telemetry": ["20 KB, API only / off: CPU", "200 KB, SDK / off: CPU"],
    "web": [
        "fastapi: health route, p99",
        "plain aiohttp json=: health route, p99",
        "fastapi, all have come: answered after it",
    ],
    "beside": ["idle: p99", "beside a batch: p99", "beside a batch / idle, p99"],
}

pytestmark = pytest.mark.skipif(
    not (ROOT / "noxfile.py").exists(), reason="once is enough: in the checkout"
)
needs_nginx = pytest.mark.skipif(
    NGINX is None, reason="nginx is not installed: apt-get install nginx"
)
needs_setpriv = pytest.mark.skipif(
    shutil.which("setpriv") is None,
    reason="setpriv is not installed: apt-get install util-linux",
)
needs_wrk = pytest.mark.skipif(
    shutil.which("wrk") is None, reason="wrk is not installed: apt-get install wrk"
)


@pytest.fixture
def module(monkeypatch):
    """Return what imports a module of the checkout's benchmarks."""
    monkeypatch.syspath_prepend(ROOT)
    return lambda name: importlib.import_module(f"benchmarks.{name}")


def has_ended(pid):
    """Tell whether a process ended; one that nobody waited for has ended too."""
    with contextlib.suppress(FileNotFoundError):
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
        return stat.rpartition(")")[2].split()[0] == "Z"
    return True


def run(*arguments, **environment):
    """Run a module and return what it printed; a missed figure is no failure here."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env=os.environ | environment,
    )
    missed = done.returncode == 1 and re.search(
        r"^\d+ missed$", done.stdout, re.MULTILINE
    )
    assert done.returncode == 0 or missed, done.stdout + done.stderr
    return done.stdout


def run_quick(script, path, **environment):
    """Run a script in its short form; return what it printed and its figures."""
    printed = run(f"benchmarks.{script}", "--quick", f"--json={path}", **environment)
    [(key, figures)] = json.loads(path.read_text()).items()
    assert key == "figures"
    for figure in figures:
        assert figure.keys() == {"name", "value", "unit", "bound", "ok"}
        assert (figure["bound"] is None) == (figure["ok"] is None)
        row = f"^  {re.escape(figure['name'])}.* [0-9]"
        assert re.search(row, printed, re.MULTILINE)
    return printed, {figure["name"]: figure for figure in figures}


@pytest.mark.parametrize("script", FIGURES)
def test_script(script, tmp_path):
    """Its table and its JSON have the same figures; those with bounds are judged."""
    printed, figures = run_quick(script, tmp_path / "figures.json")
    assert set(FIGURES[script]) <= figures.keys()
    assert all(figure["value"] >= 0 for figure in figures.values())
    judged = [figure for figure in figures.values() if figure["ok"] is not None]
    words = re.findall(r" (ok|MISSED)$", printed, re.MULTILINE)
    assert words == ["ok" if figure["ok"] else "MISSED" for figure in judged]
    # Not every system tells of resident memory; what a journal costs has no bound.
    assert words or script in {"files", "journal"}


async def test_ticker_sees_a_blocked_loop(module):
    """Whoever blocks the loop is seen in all the ticks that were due meanwhile."""
    ticker = module("_ticker")
    async with ticker.ticking() as late:
        asyncio.get_running_loop().call_soon(time.sleep, 0.1)
        await asyncio.sleep(0)
    assert max(late) >= 0.1 - ticker.PERIOD
    assert sum(tick > 0.05 for tick in late) >= 45


@needs_wrk
def test_ceiling(tmp_path):
    """Each of the three has its figures for each size."""
    _, figures = run_quick("ceiling", tmp_path / "figures.json")
    for size in ("20 KB", "2,000 KB"):
        for way in ("wrk", "bare aiohttp", "verifik_async"):
            assert figures[f"{size}, {way}: requests"]["value"] > 0
            assert figures[f"{size}, {way}: CPU of one"]["value"] > 0


def test_ceiling_without_wrk(tmp_path):
    """Without wrk it says so, and ends well with no figures."""
    printed, figures = run_quick("ceiling", tmp_path / "figures.json", PATH="")
    assert "apt-get install wrk" in printed
    assert not figures


@needs_nginx
async def test_nginx_reads_before_it_answers(module):
    """Its answer comes when all of a body has, and the connection serves on."""
    body = bytes(2_700_000)
    head = b"POST /v2/any HTTP/1.1\r\nHost: any\r\nContent-Length: %d\r\n\r\n"
    async with module("_nginx").Nginx() as nginx:
        url = urllib.parse.urlsplit(nginx.url)
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        for _ in range(2):
            writer.write(head % len(body) + body[:-1])
            await writer.drain()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await reader.read(1)
            writer.write(body[-1:])
            assert b" 200 OK\r\n" in await reader.readuntil(b"\r\n\r\n")
            assert b'"person-1"' in await reader.readuntil(b'PM"}}')
        writer.close()
        await writer.wait_closed()


@needs_nginx
async def test_nginx_writes_no_body_to_the_disk(module, tmp_path, monkeypatch):
    """Whatever nginx would warn of, a body in a file for one, it has not."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    async with module("_nginx").Nginx() as nginx, aiohttp.ClientSession() as session:
        for _ in range(2):
            async with session.post(nginx.url, data=io.BytesIO(bytes(30_000_000))) as a:
                assert a.status == 200
        [folder] = tmp_path.iterdir()
        assert not (folder / "error.log").read_text()
    assert not [*tmp_path.iterdir()]


def test_nginx_missing(module, monkeypatch):
    """Where there is no nginx, the error tells how to install it."""
    nginx = module("_nginx")
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(nginx.NotInstalledError, match="apt-get install nginx"):
        nginx.Nginx()


@needs_nginx
async def test_nginx_that_cannot_start(module, monkeypatch):
    """The error has nginx's own reason, and the end is not waited for."""
    nginx = module("_nginx")
    monkeypatch.setattr(nginx, "_CONFIG", "nonsense;")
    with pytest.raises(RuntimeError, match='unknown directive "nonsense"'):
        async with nginx.Nginx():
            pass


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize(
    "server",
    ["_sink.Sink", pytest.param("_nginx.Nginx", marks=[needs_nginx, needs_setpriv])],
)
def test_server_ends_with_its_parent(server, tmp_path):
    """However that ends."""
    module, _, name = server.partition(".")
    script = f"""
import asyncio, os, signal
from benchmarks.{module} import {name}
async def main():
    async with {name}() as server:
        print(server.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    end = time.monotonic() + 10
    while not has_ended(int(done.stdout)):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_micro():
    """One of the measurements without sockets runs."""
    pytest.importorskip(
        "pytest_benchmark",
        reason="pytest-benchmark is not installed: pip install pytest-benchmark",
    )
    path = "benchmarks/micro/test_decode.py"
    printed = run("pytest", "-q", "--benchmark-disable", path)
    assert re.search(r"^\d+ passed", printed, re.MULTILINE), printed


def test_the_fault_matrix_is_printed(tmp_path):
    """A line per fault, and how many came out otherwise than promised."""
    file = tmp_path / "faults.json"
    printed = run("benchmarks.faults", "--only", "redirects", "--json", str(file))
    assert re.search(r"308 to another origin +RedirectError +answered +1 ", printed)
    assert re.search(r"unexplained rows +0 ", printed)
    rows = json.loads(file.read_text())["rows"]
    assert len(rows) == 7
    assert {row["elsewhere"] for row in rows} == {0}


def test_bounds_are_measured(tmp_path):
    """What a bomb ends in, and what it cost."""
    file = tmp_path / "bounds.json"
    printed = run("benchmarks.bounds", "--quick", "--json", str(file))
    assert "gzip of 300 MB in 300 KB: ends in" in printed
    bomb, nobody = json.loads(file.read_text())["rows"]
    assert bomb["ended_in"] == "ResponseTooLargeError"
    assert bomb["grown_mb"] is None or bomb["grown_mb"] < 3 * 8.39
    assert nobody["ended_in"] == "SearchResult"


def test_the_soak_prints_its_balance(tmp_path):
    """What was begun is what ended, and what was sent is what was seen."""
    file = tmp_path / "soak.json"
    printed = run("benchmarks.soak", "--quick", "--json", str(file))
    figures = {one["name"]: one for one in json.loads(file.read_text())["figures"]}
    assert figures["with one end"]["value"] == 1000
    assert figures["seen, by the service"]["ok"]
    assert "MISSED" not in printed


def test_the_fuzzer_counts_its_inputs(tmp_path):
    """By kind and by what they ended in, with none that was wrong."""
    file = tmp_path / "fuzz.json"
    run("benchmarks.fuzz", "--quick", "--json", str(file))
    figures = {one["name"]: one for one in json.loads(file.read_text())["figures"]}
    for parser in ("orjson", "json"):
        assert figures[f"{parser}: wrong"]["value"] == 0
    assert figures["found something else, all others"]["ok"]
