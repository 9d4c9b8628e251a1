"""A server in a thread of its own, with its own event loop, for synchronous code."""

import asyncio
import concurrent.futures
import contextlib
import threading
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Self


class ServerThread:
    """The thread in which an asynchronous context manager is entered and left."""

    def __init__(self, server: AbstractAsyncContextManager[Any]) -> None:
        self._server = server
        self._stop = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._settled = threading.Event()  # it serves, or could not begin to
        self._ended: concurrent.futures.Future[None] = concurrent.futures.Future()
        # A daemon: nobody waits for it where a block is never left.
        self._thread = threading.Thread(
            target=self._run, name=type(server).__name__, daemon=True
        )

    def start(self) -> None:
        """Return when the server is entered; its errors are raised here."""
        self._thread.start()
        try:
            self._settled.wait()
        except BaseException:  # Ctrl-C
            self.stop()
            raise
        if self._ended.done():
            self.stop()

    def stop(self) -> None:
        """Return when the server is left and the thread has ended; raise its error."""
        self._settled.wait()
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._ended.result()

    def _run(self) -> None:
        try:
            with asyncio.Runner() as runner:  # which may find no file for its loop
                runner.run(self._serve())
        except BaseException as exc:  # noqa: BLE001 - raised where it is waited for
            self._ended.set_exception(exc)
        else:
            self._ended.set_result(None)
        finally:
            self._settled.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        async with self._server:
            self._settled.set()
            await self._stop.wait()


class AlsoSynchronous(AbstractAsyncContextManager[Any]):
    """What is entered with `async with` on the caller's loop, or `with` in a thread."""

    _thread: ServerThread | None = None

    def __enter__(self) -> Self:
        thread = ServerThread(self)
        thread.start()
        self._thread = thread
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._thread is not None:
            self._thread.stop()
