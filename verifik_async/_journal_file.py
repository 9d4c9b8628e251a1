"""The file of a journal: locked, resumed, appended to, and brought to the disk.

The functions of `JournalFile` block and run in a thread of their own; `JournalWriter`
is what a batch talks to, on its event loop.
"""

import asyncio
import contextlib
import errno
import os
import pathlib
import stat
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, Self

from verifik_async._journal import (
    Answered,
    Searched,
    header_line,
    outcome_line,
    whole_lines,
    wrong_header,
)
from verifik_async.errors import JournalError, JournalLockedError
from verifik_async.models import Outcome

# Seconds after which a line is on the disk, whatever happens to the machine.
SYNC_AFTER: Final = 0.5

if sys.platform == "win32":
    import msvcrt

    def _lock(file: int) -> None:
        # Far behind the end: a locked byte can't be read by others.
        os.lseek(file, 1 << 40, os.SEEK_SET)
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


class JournalFile:
    """A journal that nobody else writes meanwhile.

    Attributes:
        answered: What it had the answers of when it was opened.
    """

    def __init__(self, path: pathlib.Path, parameters: str) -> None:
        """Open a journal, or begin one; what a killed process left torn is cut off.

        Raises:
            JournalError: it can't be opened, is no journal, or is damaged.
            JournalLockedError: another batch writes it.
            JournalMismatchError: it was written with other parameters.
        """
        self.answered = Answered()
        self._size = 0
        self._file, problem = _open(path)
        if problem is None:
            try:
                problem = self._begin(path, parameters)
            except OSError as error:
                problem = _unusable(error)
            except BaseException:
                self.close()
                raise
        if problem is not None:
            self.close()
            raise problem

    def append(self, lines: Iterable[bytes]) -> None:
        """Hand lines to the operating system: they outlive the process from then on.

        Raises:
            OSError: the disk is full, or gone. None of the lines is there then.
        """
        data = memoryview(b"".join(lines))
        end = self._size + len(data)
        try:
            while data:
                data = data[os.write(self._file, data) :]
        except OSError:
            # Half a line would be taken for a damaged one, once others follow it.
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)
            raise
        self._size = end

    def sync(self) -> None:
        """Bring all lines to the disk: they outlive the machine from then on.

        Raises:
            OSError: the disk does not take them, or somebody has removed the file or
                cut it short: what is written to it is lost then.
        """
        os.fsync(self._file)
        status = os.fstat(self._file)
        if not status.st_nlink or status.st_size < self._size:
            raise OSError(errno.ESTALE, "it was removed, or cut short, meanwhile")

    def close(self) -> None:
        """Close and unlock it."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _begin(self, path: pathlib.Path, parameters: str) -> JournalError | None:
        if not stat.S_ISREG(os.fstat(self._file).st_mode):
            return JournalError("journal: it is no regular file")
        try:
            _lock(self._file)
        except OSError:
            return JournalLockedError(
                "journal: another batch is writing it: wait for its end, or use "
                "another file"
            )
        problem = self._resume(parameters)
        if problem is None and not self._size:
            self._write_header(path, parameters)
        return problem

    def _resume(self, parameters: str) -> JournalError | None:
        """Read what is there, and cut off what is torn."""
        with open(self._file, "rb", closefd=False) as lines:
            header = lines.readline()
            if header_line(parameters).startswith(header):
                if not header.endswith(b"\n"):  # it is torn, or the file is new
                    header = b""
            elif (problem := wrong_header(header, parameters)) is not None:
                return problem
            self._size = len(header)
            for self._size, fields in whole_lines(lines, len(header)):
                self.answered.read(fields)
        os.ftruncate(self._file, self._size)
        return None

    def _write_header(self, path: pathlib.Path, parameters: str) -> None:
        self.append([header_line(parameters)])
        self.sync()
        if sys.platform != "win32":  # the file's name must be on the disk as well
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def _open(path: pathlib.Path) -> tuple[int, JournalError | None]:
    """Return a file that others must not read: it tells who was found."""
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
    flags |= getattr(os, "O_NONBLOCK", 0)  # a named pipe would wait for its reader
    try:
        return os.open(path, flags, 0o600), None
    except OSError as error:
        return -1, _unusable(error)


def _unusable(error: OSError) -> JournalError:
    return JournalError(
        f"journal: it cannot be written ({type(error).__name__}: {error.strerror})"
    )


class JournalWriter:
    """A journal as a batch sees it: lines that come meanwhile are written together."""

    def __init__(
        self,
        file: JournalFile,
        thread: ThreadPoolExecutor,
        failed: Callable[[JournalError], None],
    ) -> None:
        self._file = file
        self._thread = thread
        # Apart: it may take long, and what is written meanwhile need not wait for it.
        self._sync_thread = _one_thread("verifik-journal-sync")
        self._loop = asyncio.get_running_loop()
        self._failed = failed
        self._broken = self._closed = self._busy = False
        self._lines: list[bytes] = []
        self._written = asyncio.Event()  # those lines are
        self._timer: asyncio.TimerHandle | None = None
        self._syncing: Future[None] | None = None

    @classmethod
    async def open(
        cls,
        path: pathlib.Path,
        parameters: str,
        failed: Callable[[JournalError], None],
    ) -> Self:
        """Open a journal.

        Args:
            path: Where it is, or will be.
            parameters: Digest of what the batch searches with.
            failed: Called once when it can be written no more. What is added from
                then on is lost, and nobody waits for it.

        Raises:
            JournalError: see `JournalFile`.
        """
        thread = _one_thread("verifik-journal")
        opening = thread.submit(JournalFile, path, parameters)
        try:
            file = await asyncio.shield(asyncio.wrap_future(opening))
        except BaseException:
            # In the thread: this event loop may be closed by then.
            opening.add_done_callback(_close_unused)
            thread.shutdown(wait=False)
            raise
        return cls(file, thread, failed)

    @property
    def answered(self) -> Answered:
        """What it had the answers of, and which keys this run has seen."""
        return self._file.answered

    def add(self, outcome: Outcome, searched: Searched) -> asyncio.Event:
        """Have an outcome's line written; the event tells that it is."""
        self._lines.append(outcome_line(outcome, searched))
        written = self._written
        if not self._busy:
            self._write()
        return written

    async def close(self) -> None:
        """Bring all to the disk and close the file.

        Raises:
            JournalError: the disk did not take it.
        """
        self._closed, told = True, self._broken
        if self._timer is not None:
            self._timer.cancel()
        lines, self._lines = self._lines, []
        # Behind what the thread still does; and whoever is cancelled now leaves that
        # to it.
        closing = self._loop.run_in_executor(
            self._thread, self._finish, [] if told else lines
        )
        self._thread.shutdown(wait=False)
        error = await asyncio.shield(closing)
        if error is not None and not told:
            raise _unusable(error)

    def _finish(self, lines: Iterable[bytes]) -> OSError | None:
        self._sync_thread.shutdown(wait=True)
        try:
            if self._syncing is not None:
                self._syncing.result()
            self._file.append(lines)
            self._file.sync()
        except OSError as error:
            return error
        finally:
            self._file.close()
        return None

    def _write(self) -> None:
        """Write what has come, unless nothing has."""
        lines, self._lines = self._lines, []
        written, self._written = self._written, asyncio.Event()
        self._busy = bool(lines) and not self._broken
        if not self._busy:
            written.set()
            return
        writing = self._loop.run_in_executor(self._thread, self._file.append, lines)
        writing.add_done_callback(lambda done: self._wrote(written, done))

    def _wrote(self, written: asyncio.Event, done: "asyncio.Future[None]") -> None:
        self._check(done)
        written.set()
        if self._timer is None and not (self._broken or self._closed):
            self._timer = self._loop.call_later(SYNC_AFTER, self._sync)
        self._write()

    def _sync(self) -> None:
        self._timer = None
        self._syncing = self._sync_thread.submit(self._file.sync)
        asyncio.wrap_future(self._syncing).add_done_callback(self._check)

    def _check(self, done: "asyncio.Future[None]") -> None:
        error = done.exception()
        if isinstance(error, OSError) and not self._broken:
            self._broken = True
            self._failed(_unusable(error))


def _one_thread(name: str) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix=name)


def _close_unused(opening: "Future[JournalFile]") -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
