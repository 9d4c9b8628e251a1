"""Web backends as server processes: the examples, and one that does without us."""

import asyncio
import contextlib
import os
import pathlib
import runpy
import signal
import socket
import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import attrs

ROOT = pathlib.Path(__file__).parents[1]
PLAIN = "plain aiohttp json="
_UVICORN = ("-m", "uvicorn", "--log-level", "warning")
_COMMANDS: dict[str, tuple[str, ...]] = {
    **runpy.run_path(str(ROOT / "examples" / "run.py"))["COMMANDS"],
    PLAIN: (*_UVICORN, "benchmarks._plain_web:app", "--port"),
}
EXAMPLES = ("fastapi", "aiohttp", "django")
_PATIENCE = 20.0


@attrs.frozen
class Backend:
    """One that runs.

    Attributes:
        url: Base URL.
        process: The server.
    """

    url: str
    process: asyncio.subprocess.Process

    def stop(self) -> None:
        """Ask it to stop, as who deploys does."""
        self.process.send_signal(signal.SIGTERM)


@contextlib.asynccontextmanager
async def serving(name: str, service: str) -> AsyncIterator[Backend]:
    """Run a backend that searches at a service, until it answers and to its end."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *_COMMANDS[name], str(port)),
        cwd=ROOT,
        env={**os.environ, "VERIFIK_BASE_URL": service, "VERIFIK_TOKEN": "any"},
        stdout=asyncio.subprocess.DEVNULL,
    )
    backend = Backend(f"http://127.0.0.1:{port}", process)
    try:
        await _until_it_answers(backend.url)
        yield backend
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        await process.wait()


async def _until_it_answers(url: str) -> None:
    async with asyncio.timeout(_PATIENCE), aiohttp.ClientSession(url) as browser:
        while True:
            with contextlib.suppress(aiohttp.ClientConnectionError):
                async with browser.get("/health"):
                    return
            await asyncio.sleep(0.05)


def form(picture: bytes) -> dict[str, Any]:
    """Return a form with a picture, as arguments of a request; made once for many."""
    boundary = "-----picture"
    head = (
        f"--{boundary}\r\n"
        'Content-Disposition: form-data; name="picture"; filename="face.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    )
    body = head.encode() + picture + f"\r\n--{boundary}--\r\n".encode()
    kind = f"multipart/form-data; boundary={boundary}"
    return {"data": body, "headers": {"Content-Type": kind}}
