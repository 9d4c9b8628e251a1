"""The examples of web backends, as servers of their own, used over sockets."""

import asyncio
import contextlib
import importlib.util
import json
import os
import pathlib
import re
import runpy
import shutil
import signal
import socket
import subprocess
import sys

import aiohttp
import attrs
import pytest

from verifik_async.testing import Fault, MockVerifik

ROOT = pathlib.Path(__file__).parents[2]
COMMANDS = runpy.run_path(str(ROOT / "examples" / "run.py"))["COMMANDS"]
NEEDS = {"fastapi": "fastapi", "django": "django", "aiohttp": "aiohttp"}
# What the examples set.
SLOTS, QUEUE = 32, 200
VISITOR = ROOT / "examples" / "visitor.jpg"


@attrs.define
class Backend:
    """A server process, and a visitor's browser."""

    process: asyncio.subprocess.Process
    browser: aiohttp.ClientSession
    complaints: str = ""
    asked_to_end: bool = False

    async def upload(self, picture: bytes):
        """Return status, headers and JSON of a search."""
        form = aiohttp.FormData()
        form.add_field("picture", picture, filename="face.jpg")
        async with self.browser.post("/search", data=form) as answer:
            return answer.status, answer.headers, await answer.json()

    async def health(self):
        """Return what the health route tells."""
        async with self.browser.get("/health") as answer:
            return await answer.json()

    async def comes_to(self, **wanted: int) -> None:
        """Wait until the health route tells this."""
        async with asyncio.timeout(10):
            while True:
                health = await self.health()
                if {name: health[name] for name in wanted} == wanted:
                    return
                await asyncio.sleep(0.02)

    def ask_to_end(self) -> None:
        """Ask the server to stop, once."""
        if not self.asked_to_end and self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        self.asked_to_end = True

    async def end(self) -> int:
        """Wait until the server has stopped; return its exit code."""
        self.ask_to_end()
        _, errors = await self.process.communicate()
        self.complaints += errors.decode()
        return self.process.returncode


def free_port() -> int:
    """Return a port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@contextlib.asynccontextmanager
async def serving(name: str, mock: MockVerifik, when_left: str = "cancel"):
    """Run an example; it must end without a complaint."""
    if importlib.util.find_spec(NEEDS[name]) is None:
        pytest.skip(f'{name} is missing: pip install "verifik-async[{name}]"')
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-X", "dev", *COMMANDS[name], str(port)),
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "VERIFIK_BASE_URL": mock.url,
            "VERIFIK_TOKEN": "any",
            "WHEN_LEFT": when_left,
        },
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, connector=connector) as browser:
        backend = Backend(process, browser)
        try:
            async with asyncio.timeout(20):
                while True:
                    with contextlib.suppress(aiohttp.ClientConnectionError):
                        await backend.health()
                        break
                    await asyncio.sleep(0.05)
            yield backend
        finally:
            code = await backend.end()
    # uvicorn stops in good order, then repeats the signal to itself.
    assert code in (0, -signal.SIGTERM), backend.complaints
    for word in ("Unclosed", "unclosed", "Traceback", "Warning", "never retrieved"):
        assert word not in backend.complaints


@pytest.fixture(params=sorted(COMMANDS))
def name(request):
    """The name of an example."""
    return request.param


async def test_what_a_visitor_gets(name, mock):
    """A match, the page, a word where the picture is missing, the counts."""
    face = ROOT / "examples" / "faces" / "person-3.jpg"
    mock.enroll("person-3", face.read_bytes())
    async with serving(name, mock) as backend:
        status, _, answer = await backend.upload(face.read_bytes())
        assert (status, answer) == (
            200,
            {"matches": [{"id": "person-3", "score": 1.0}]},
        )
        async with backend.browser.get("/") as page:
            assert page.content_type == "text/html"
            assert "<html" in await page.text()
        async with backend.browser.post("/search", data={"other": "1"}) as refused:
            assert refused.status in (400, 422)
        health = await backend.health()
    assert (health["answered"], health["failed"], mock.hits) == (1, 0, 1)


@pytest.mark.parametrize(
    ("fault", "status", "body", "retry_after"),
    [
        (
            Fault.status(422, code="NoFace", message="422:no_face_detected"),
            422,
            {"error": "FaceRejectedError", "reason": "no_face_detected"},
            None,
        ),
        (
            Fault.status(429, retry_after="3000"),
            503,
            {"error": "RateLimitedError"},
            "60",
        ),
        (Fault.status(402), 502, {"error": "PaymentRequiredError"}, None),
        (Fault.redirect(), 502, {"error": "RedirectError"}, None),
    ],
    ids=["face", "throttle", "credits", "redirect"],
)
async def test_errors_of_a_search(name, mock, image, fault, status, body, retry_after):
    """Each has a status that says whose turn it is, and tells nothing of the inside."""
    mock.script(fault)
    async with serving(name, mock) as backend:
        got, headers, answer = await backend.upload(image)
    assert (got, answer) == (status, body)
    assert headers.get("Retry-After") == retry_after


async def test_200_uploads_at_once(name, mock, image):
    """All are answered, over as many connections as there are slots."""
    mock.latency = 0.05
    async with serving(name, mock) as backend, asyncio.TaskGroup() as group:
        uploads = [
            group.create_task(backend.upload(image + bytes([n]))) for n in range(200)
        ]
    assert [upload.result()[0] for upload in uploads] == [200] * 200
    assert mock.hits == 200
    assert (mock.max_in_flight, mock.connections) == (SLOTS, SLOTS)


async def test_a_full_queue(name, mock, image):
    """Who comes too much is told at once when to come again."""
    mock.latency = 3.0
    many = SLOTS + QUEUE
    async with serving(name, mock) as backend, asyncio.TaskGroup() as group:
        for _ in range(many):
            group.create_task(backend.upload(image))
        await backend.comes_to(in_flight=SLOTS, waiting=QUEUE)
        status, headers, answer = await backend.upload(image)
        assert (status, answer) == (503, {"error": "QueueFullError"})
        assert int(headers["Retry-After"]) >= 1
        mock.latency = 0.0
    assert mock.hits == many


async def test_a_signal_with_searches_on_the_wire(name, mock, image):
    """They are answered before the server ends."""
    mock.latency = 0.5
    async with serving(name, mock) as backend, asyncio.TaskGroup() as group:
        uploads = [group.create_task(backend.upload(image)) for _ in range(16)]
        while mock.in_flight < 16:
            await asyncio.sleep(0.01)
        backend.ask_to_end()
    assert [upload.result()[0] for upload in uploads] == [200] * 16


@pytest.mark.parametrize(("when_left", "sent"), [("cancel", 0), ("finish", 1)])
async def test_a_visitor_who_leaves_the_queue(name, mock, image, when_left, sent):
    """The search is not sent any more, or it is sent all the same, as was chosen."""
    mock.latency = 1.0
    async with serving(name, mock, when_left) as backend:
        async with asyncio.TaskGroup() as group:
            for _ in range(SLOTS):
                group.create_task(backend.upload(image))
            await backend.comes_to(in_flight=SLOTS)
            leaver = group.create_task(backend.upload(image))
            await backend.comes_to(waiting=1)
            leaver.cancel()
            if when_left == "cancel":
                await backend.comes_to(waiting=0, in_flight=SLOTS)
        await backend.comes_to(in_flight=0, answered=SLOTS + sent)
    assert mock.hits == SLOTS + sent


@pytest.mark.skipif(shutil.which("curl") is None, reason="has no curl")
async def test_the_commands_of_the_page(name):
    """Each example is started by its command, and the page's own requests work."""
    if importlib.util.find_spec(NEEDS[name]) is None:
        pytest.skip(f'{name} is missing: pip install "verifik-async[{name}]"')
    page = (ROOT / "docs" / "web.md").read_text()
    assert re.search(
        rf"^python -m pip install .* examples/run\.py {name}$", page, re.MULTILINE
    )
    port = str(free_port())
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "examples/run.py", name, port),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # so that the signal is for both, as Ctrl-C is
    )
    try:
        commands = re.findall(r"^curl .*$", page, re.MULTILINE)
        asked = [await _shell(command.replace("8000", port)) for command in commands]
    finally:
        os.killpg(process.pid, signal.SIGINT)
    said, complaints = await process.communicate()
    found, health = map(json.loads, asked)
    assert found["matches"][0]["id"] == "person-3"
    assert health["answered"] == 1
    assert f"http://127.0.0.1:{port}/" in said.decode()
    assert (process.returncode, complaints.decode()) == (0, "")


async def _shell(command: str) -> bytes:
    """Return what a command prints, once the server is there."""
    process = await asyncio.create_subprocess_shell(
        f"{command} --silent --retry 40 --retry-delay 1 --retry-connrefused",
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    printed, _ = await process.communicate()
    return printed
