"""The stand-in as a process of its own."""

import asyncio
import base64
import os
import pathlib
import signal
import subprocess
import sys
import time

import aiohttp
import pytest

from verifik_async.testing import MockProcess, _process

PATH = "/v2/face-recognition/search-active-user"
IMAGE = bytes(300)
GOOD = {
    "image": base64.b64encode(IMAGE).decode(),
    "os": "IOS",
    "min_score": 0.5,
    "search_mode": "ACCURATE",
}
COMMAND = (sys.executable, "-m", "verifik_async.testing")


@pytest.fixture
async def session():
    headers = {"Authorization": "Bearer t"}
    async with aiohttp.ClientSession(headers=headers) as made:
        yield made


async def search(session, url, **fields):
    """Search and return status, headers and decoded body."""
    async with session.post(url + PATH, json=GOOD | fields) as response:
        return response.status, response.headers, await response.json()


def has_ended(pid):
    """Tell whether a process ended; one that nobody waited for has ended too."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:  # noqa: PTH123
            return stat.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


async def test_enroll_and_counts(session):
    """It is told whom to enroll, and what it saw does not include the telling."""
    async with MockProcess(data_shape="object", latency=0.05) as mock:
        await mock.enroll("person-1", IMAGE, name="Ada Example", collection_id="code-a")
        async with asyncio.TaskGroup() as tasks:
            searches = [
                tasks.create_task(search(session, mock.url, collection_id="code-a"))
                for _ in range(3)
            ]
        assert [task.result()[0] for task in searches] == [200, 200, 200]
        person = searches[0].result()[2]["data"]["persons"][0]
        assert (person["id"], person["name"]) == ("person-1", "Ada Example")
        assert await mock.counts() == {"hits": 3, "max_in_flight": 3, "connections": 3}
        with pytest.raises(aiohttp.ClientResponseError):
            await session.get(mock.url + "/_mock/else", raise_for_status=True)
        for wrong in ({"person_id": "p", "whatever": 1}, {}):
            async with session.post(mock.url + "/_mock/enroll", json=wrong) as answer:
                assert answer.status == 400
        for wrong, error in ((b"", ValueError), ("text", TypeError)):
            with pytest.raises(error, match="image"):
                await mock.enroll("person-2", wrong)
        async with session.post(
            mock.url + "/_mock/enroll", json={"person_id": "p", "image": ""}
        ) as answer:
            assert answer.status == 400
        pid = mock.pid
    assert has_ended(pid)


@pytest.mark.parametrize("inherited", [None, "/nowhere"])
async def test_working_directory_of_the_parent(
    session, tmp_path, monkeypatch, inherited
):
    """The process runs this package, wherever the parent is and whatever is there."""
    if inherited is None:
        monkeypatch.delenv("PYTHONPATH", raising=False)
    else:
        monkeypatch.setenv("PYTHONPATH", inherited)
    (tmp_path / "verifik_async.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    async with MockProcess() as mock:
        assert (await search(session, mock.url))[0] == 200


def test_environment_of_an_installed_package(monkeypatch):
    """Where the package is installed, nothing is put before the standard library."""
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    added = _process._environment()["PYTHONPATH"].split(os.pathsep)
    assert added[-1] == "/somewhere"
    monkeypatch.setattr(_process, "_PACKAGES", pathlib.Path("/usr/site-packages"))
    assert _process._environment() == dict(os.environ)


async def test_settings_reach_the_process(session):
    """Capacity, its header and the seed are those asked for."""
    ids = []
    for _ in range(2):
        async with MockProcess(
            rate=1, burst=1, retry_after="-5", seed=7, latency=(0.0, 0.01)
        ) as mock:
            ids.append((await search(session, mock.url))[2]["id"])
            status, headers, _ = await search(session, mock.url)
            assert (status, headers["Retry-After"]) == (429, "-5")
    assert ids[0] == ids[1]


async def test_start_that_fails():
    """A process that cannot serve is an error, not a wait."""
    mock = MockProcess(rate=-1)
    with pytest.raises(RuntimeError, match="ended before"):
        await mock.__aenter__()
    assert has_ended(mock.pid)


async def test_use_outside_its_block():
    """There is nothing to ask before the start, and no second start."""
    mock = MockProcess()
    for name in ("url", "pid"):
        with pytest.raises(RuntimeError, match="not started"):
            getattr(mock, name)
    await mock.__aexit__(None, None, None)
    async with mock:
        with pytest.raises(RuntimeError, match="once"):
            await mock.__aenter__()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signals_end_it(session, number):
    """It prints one line, serves, and ends well on a signal, idle clients or not."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "--retry-after=none", stdout=-1, stderr=-1
    )
    url = (await process.stdout.readline()).decode().strip()
    assert (await search(session, url))[0] == 200
    process.send_signal(number)
    start = time.perf_counter()
    rest, errors = await process.communicate()
    assert (process.returncode, rest, errors) == (0, b"", b"")
    assert time.perf_counter() - start < 1


async def test_it_dies_with_its_parent():
    """A parent that is killed takes the stand-in along."""
    code = (
        "import asyncio\n"
        "from verifik_async.testing import MockProcess\n"
        "async def main():\n"
        "    async with MockProcess() as mock:\n"
        "        print(mock.pid, flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=subprocess.PIPE
    )
    pid = int(await parent.stdout.readline())
    assert not has_ended(pid)
    parent.kill()
    await parent.wait()
    async with asyncio.timeout(5):
        while not has_ended(pid):
            await asyncio.sleep(0.02)


async def test_it_is_killed_when_it_does_not_end():
    """A process that was stopped does not outlive the end of patience."""
    mock = MockProcess()
    await mock.__aenter__()
    os.kill(mock.pid, signal.SIGSTOP)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await mock.__aexit__(None, None, None)
    assert has_ended(mock.pid)


def test_wrong_option():
    """Unknown and abbreviated options are usage errors."""
    done = subprocess.run([*COMMAND, "--rat", "5"], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (2, b"")
