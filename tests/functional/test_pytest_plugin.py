"""The fixtures for users' tests, in runs of pytest as users have them.

Each run is a strict interpreter's: whatever is left open, at whatever time it is
found, is an error of the run.
"""

import importlib.metadata
import os
import subprocess
import sys

import pytest
from support import complaints

CONFTEST = """
pytest_plugins = ["verifik_async.testing.plugin"]
"""

SYNCHRONOUS = """
import asyncio
import threading
import unittest

import pytest
from verifik_async.testing import Fault

IMAGE = bytes(range(256))


def test_two_loops(mock_verifik, verifik_client):
    mock_verifik.enroll("person-1", IMAGE)
    mock_verifik.script(Fault.status(503))
    for _ in range(2):
        result = asyncio.run(verifik_client.search_active_user(IMAGE))
        assert result.best.id == "person-1"
    assert [record.status for record in mock_verifik.requests] == [503, 200, 200]
    assert {record.token_ok for record in mock_verifik.requests} == {True}


def test_client_unused(verifik_client):
    assert verifik_client.stats().attempts == 0


loops = []


def test_loop_left_open(verifik_client):
    loops.append(asyncio.new_event_loop())
    loops[0].run_until_complete(verifik_client.search_active_user(IMAGE))


def test_loop_left_running(verifik_client):
    loop = asyncio.new_event_loop()
    loops.append(loop)
    threading.Thread(target=loop.run_forever).start()
    search = verifik_client.search_active_user(IMAGE)
    asyncio.run_coroutine_threadsafe(search, loop).result()


def test_loops_closed():
    loops[1].call_soon_threadsafe(loops[1].stop)
    while loops[1].is_running():
        pass
    for loop in loops:
        loop.close()


def test_loop_of_this_thread(verifik_client):
    async def main():
        await verifik_client.search_active_user(IMAGE)

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(main())


def test_loop_of_this_thread_is_the_same():
    loop = asyncio.get_event_loop()
    assert not loop.is_closed()
    loop.close()
    asyncio.set_event_loop(None)


class TestCase(unittest.IsolatedAsyncioTestCase):
    @pytest.fixture(autouse=True)
    def _client(self, verifik_client):
        self.client = verifik_client

    async def test_search(self):
        async with self.client as client:
            await client.search_active_user(IMAGE)
"""

# MARK becomes the marker of the plugin.
ASYNCHRONOUS = """
import asyncio

import pytest

IMAGE = bytes(range(256))
left = []


@pytest.fixture
def anyio_backend():
    return "asyncio"


MARK
async def test_client_first(verifik_client, mock_verifik):
    mock_verifik.enroll("person-1", IMAGE)
    assert (await verifik_client.search_active_user(IMAGE)).best.id == "person-1"


MARK
async def test_entered(mock_verifik, verifik_client):
    async with verifik_client, verifik_client.search_many([IMAGE] * 9) as outcomes:
        assert [outcome.error async for outcome in outcomes] == [None] * 9
    assert mock_verifik.hits == 9


MARK
async def test_search_left_behind(mock_verifik, verifik_client):
    mock_verifik.latency = 60
    async with asyncio.timeout(5):
        task = asyncio.get_running_loop().create_task(
            verifik_client.search_active_user(IMAGE)
        )
        left.append(task)
        while not mock_verifik.in_flight:
            await asyncio.sleep(0.001)


MARK
async def test_afterwards():
    [task] = left
    if not task.done():  # the loop is the same
        await asyncio.wait([task], timeout=5)
    assert task.cancelled() or "closed" in str(task.exception())
"""

OVERRIDE = """
import asyncio

import pytest
from verifik_async import VerifikError
from verifik_async.testing import MockVerifik


@pytest.fixture
def mock_verifik():
    with MockVerifik(tokens=["good"], data_shape="object", retry_after="0.01") as mock:
        yield mock


def test_override(mock_verifik, verifik_client):
    asyncio.run(verifik_client.search_active_user(bytes(300)))
    assert mock_verifik.data_shape == "object"
    mock_verifik.tokens = {"another"}
    with pytest.raises(VerifikError, match="401"):
        asyncio.run(verifik_client.search_active_user(bytes(300)))
"""

NO_ASYNCIO = ("-p", "no:asyncio")
NO_ANYIO = ("-p", "no:anyio")
NONE = (*NO_ASYNCIO, *NO_ANYIO)
AUTO = (*NO_ANYIO, "-o", "asyncio_mode=auto")
STRICT = (*NO_ANYIO, "-o", "asyncio_mode=strict")
SESSION = "@pytest.mark.asyncio(loop_scope='session')"


def run(folder, *options, **files):
    """Run pytest on these files; return its exit code, what it said, its complaints."""
    (folder / "conftest.py").write_text(CONFTEST)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    if "no:asyncio" not in options:
        options += ("-o", "asyncio_default_fixture_loop_scope=function")
    strict = ("-X", "dev", "-W", "error")
    told = subprocess.run(
        [sys.executable, *strict, "-m", "pytest", "-q", "-W", "error", *options],
        cwd=folder,
        # What a developer may have set; a search that went there would fail.
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "VERIFIK_TOKEN": "",
            "VERIFIK_BASE_URL": "http://127.0.0.1:9",
        },
        capture_output=True,
        check=False,
    )
    return told.returncode, told.stdout.decode(), complaints(told.stderr)


@pytest.mark.parametrize(
    ("options", "mark", "needs"),
    [
        pytest.param(AUTO, "", "pytest_asyncio", id="asyncio-auto"),
        pytest.param(AUTO, SESSION, "pytest_asyncio", id="asyncio-auto-session"),
        pytest.param(
            STRICT, "@pytest.mark.asyncio", "pytest_asyncio", id="asyncio-strict"
        ),
        pytest.param(STRICT, SESSION, "pytest_asyncio", id="asyncio-strict-session"),
        pytest.param(NO_ASYNCIO, "@pytest.mark.anyio", "anyio", id="anyio"),
    ],
)
def test_asynchronous_tests(options, mark, needs, tmp_path):
    """They work with each plugin, and each scope of its loop; nothing is left open."""
    pytest.importorskip(needs)
    text = ASYNCHRONOUS.replace("MARK", mark)
    code, said, complained = run(tmp_path, *options, test_asynchronous=text)
    assert (code, complained) == (0, ""), said
    assert "4 passed" in said


@pytest.mark.parametrize("options", [NONE, AUTO], ids=["none", "asyncio"])
def test_synchronous_tests(options, tmp_path):
    """They work without a plugin and beside one, whoever owns the event loop."""
    files = {
        "test_synchronous": SYNCHRONOUS,
        "test_override": OVERRIDE,
    }
    code, said, complained = run(tmp_path, *options, **files)
    assert (code, complained) == (0, ""), said


LOOP_AROUND = """
import asyncio

from verifik_async.testing import MockVerifik, plugin
from verifik_async import ClientClosedError


def test_loop_waits_for_the_fixture():
    async def main():
        making = plugin.verifik_client.__wrapped__(mock)
        client = next(making)
        search = asyncio.get_running_loop().create_task(
            client.search_active_user(bytes(300))
        )
        while not mock.in_flight:
            await asyncio.sleep(0.001)
        assert next(making, None) is None  # what pytest does at the fixture's end
        await asyncio.wait([search], timeout=5)
        assert type(search.exception()) is ClientClosedError

    with MockVerifik(latency=60) as mock:
        asyncio.run(main())
"""


def test_a_loop_that_waits_for_the_fixture(tmp_path):
    """The client of a loop that can't go on meanwhile is closed when it does."""
    code, said, complained = run(tmp_path, *NONE, test_around=LOOP_AROUND)
    assert (code, complained) == (0, ""), said


def test_other_runs_of_pytest_load_nothing():
    """There is no entry point: only who names the plugin gets it."""
    points = importlib.metadata.distribution("verifik-async").entry_points
    assert {point.group for point in points} == {"console_scripts"}
