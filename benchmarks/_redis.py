"""A Redis server of one's own, which may be killed and started again."""

import asyncio
import contextlib
import pathlib
import shutil
import signal
import subprocess
import tempfile
from asyncio.subprocess import Process
from types import TracebackType
from typing import Self

from verifik_async.testing._child import end

from ._nginx import NotInstalledError, dying_with_parent, free_port

_HOST = "127.0.0.1"
_START_LIMIT = 10.0
_LOOK_EVERY = 0.02
_PONG = b"+PONG"


class RedisServer:
    """A process on a free port of loopback while its `async with` block runs.

    What it holds is in memory only, in a folder that is removed in the end.

    Attributes:
        url: Of the server.
        port: On loopback.
    """

    def __init__(self, *options: str) -> None:
        """Set a server up; nothing is started yet.

        Args:
            options: Further words of its command line.

        Raises:
            NotInstalledError: there is no redis-server.
        """
        found = shutil.which("redis-server")
        if found is None:
            raise NotInstalledError(
                "redis-server is not installed: apt-get install redis-server"
            )
        self.port = free_port()
        self.url = f"redis://{_HOST}:{self.port}/0"
        self._program = found
        self._options = options
        self._folder = ""
        self._process: Process | None = None
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            self._folder = stack.enter_context(tempfile.TemporaryDirectory())
            stack.push_async_callback(self._end)
            await self.start()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def start(self) -> None:
        """Start it, at first or again, with nothing in it; return when it answers.

        Raises:
            RuntimeError: it ended instead.
            TimeoutError: it took too long.
        """
        log = pathlib.Path(self._folder) / "log"
        self._process = await asyncio.create_subprocess_exec(
            *(*dying_with_parent(), self._program, "--bind", _HOST),
            *("--port", str(self.port), "--dir", self._folder),
            *("--save", "", "--appendonly", "no", "--logfile", str(log)),
            *self._options,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        async with asyncio.timeout(_START_LIMIT):
            while self._process.returncode is None:
                with contextlib.suppress(OSError):
                    if await self._answers():
                        return
                await asyncio.sleep(_LOOK_EVERY)
        raise RuntimeError(f"redis-server ended: {log.read_text(encoding='utf-8')}")

    async def kill(self) -> None:
        """End it at once, as a crash does."""
        if self._process is not None:
            self._process.kill()
            await self._process.wait()

    def hang(self) -> None:
        """Let it answer nobody, with its connections open, until it is killed."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    async def _end(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGCONT)
            await end(self._process)

    async def _answers(self) -> bool:
        """Whether it answers at all; an error about a password is an answer, too."""
        reader, writer = await asyncio.open_connection(_HOST, self.port)
        try:
            writer.write(b"PING\r\n")
            return (await reader.readline()).startswith((_PONG, b"-NOAUTH"))
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
