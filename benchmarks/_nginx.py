"""nginx as a server that costs next to nothing, where it is installed."""

import asyncio
import contextlib
import pathlib
import shutil
import socket
import subprocess
import tempfile
from asyncio.subprocess import Process
from types import TracebackType
from typing import Self

from verifik_async.testing._child import end

from ._fixed import ANSWER, JSON_TYPE

_HOST = "127.0.0.1"
# Debian's folder of servers is on root's search path only.
_FOLDERS = ("/usr/sbin", "/usr/local/sbin")
_START_LIMIT = 10.0
_LOOK_EVERY = 0.02

# `return` alone would answer before the body has come, and the client would write
# against the answer. A mirror wants the body first, and whole; then no file is found,
# and that is made the answer. The buffer is as large as a body may be, and taken as
# large as the body is: nothing goes to the disk.
_CONFIG = """\
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  log_not_found off;
  server_tokens off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  client_max_body_size 32m;
  client_body_buffer_size 32m;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  server {{
    listen {address} backlog=1024;
    root {folder}/no-such-folder;
    location / {{
      mirror /mirror;
      error_page 404 =200 @answer;
    }}
    location = /mirror {{ internal; return 204; }}
    location @answer {{
      default_type "{content_type}";
      return 200 '{answer}';
    }}
  }}
}}
"""


class NotInstalledError(Exception):
    """A program is missing; the message tells how Debian installs it."""


def find_nginx() -> str:
    """Return the path of nginx.

    Raises:
        NotInstalledError: there is none.
    """
    for folders in (None, ":".join(_FOLDERS)):
        if (found := shutil.which("nginx", path=folders)) is not None:
            return found
    raise NotInstalledError("nginx is not installed: apt-get install nginx")


class Nginx:
    """One nginx process on a free port of loopback while its `async with` block runs.

    It reads bodies of up to 32 MB to their ends, into memory, and answers each POST
    with the person found.

    Attributes:
        url: Base URL.
        pid: Of the one process, which is the worker as well.
    """

    def __init__(self) -> None:
        """Set a server up; nothing is started yet.

        Raises:
            NotInstalledError: there is no nginx.
        """
        self._program = find_nginx()
        self.url = ""
        self.pid = 0
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            port = free_port()
            process = await _start(self._program, pathlib.Path(folder), port)
            stack.push_async_callback(end, process)
            await _served(process, pathlib.Path(folder), port)
            self.pid = process.pid
            self.url = f"http://{_HOST}:{port}"
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()


def free_port() -> int:
    with socket.create_server((_HOST, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


async def _start(program: str, folder: pathlib.Path, port: int) -> Process:
    config = folder / "nginx.conf"
    config.write_text(
        _CONFIG.format(
            folder=folder,
            address=f"{_HOST}:{port}",
            answer=ANSWER,
            content_type=JSON_TYPE,
        ),
        encoding="utf-8",
    )
    return await asyncio.create_subprocess_exec(
        *dying_with_parent(),
        *(program, "-p", str(folder), "-e", str(folder / "error.log")),
        *("-c", str(config)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def dying_with_parent() -> tuple[str, ...]:
    """Return what starts a program so that it ends with us, where there is such."""
    found = shutil.which("setpriv")
    return () if found is None else (found, "--pdeathsig", "TERM", "--")


async def _served(process: Process, folder: pathlib.Path, port: int) -> None:
    """Wait until it listens.

    Raises:
        RuntimeError: it ended instead; with its reason.
        TimeoutError: it took too long.
    """
    async with asyncio.timeout(_START_LIMIT):
        while process.returncode is None:
            with contextlib.suppress(ConnectionRefusedError):
                _, writer = await asyncio.open_connection(_HOST, port)
                writer.close()
                await writer.wait_closed()
                return
            await asyncio.sleep(_LOOK_EVERY)
    log = folder / "error.log"
    reason = log.read_text(encoding="utf-8").strip() if log.exists() else "no reason"
    raise RuntimeError(f"nginx ended before it served: {reason}")
