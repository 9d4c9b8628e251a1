"""What `batch` does: count, search, keep, tell."""

import asyncio
import contextlib
import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TextIO

import attrs

from verifik_async import (
    BatchStoppedError,
    JournalError,
    Outcome,
    RateLimit,
    SearchOptions,
    VerifikClient,
    VerifikError,
    read_journal,
)
from verifik_async.cli import _batch_view, _table
from verifik_async.cli._batch_view import Estimate, Report
from verifik_async.cli._exit import Exit, UsageError, complain, printable
from verifik_async.cli._inputs import Found, Inputs
from verifik_async.cli._signals import interruptible, on_signals

# Nobody has published how long the service takes.
_ASSUMED_SECONDS: Final = 1.0
# Bytes of a picture that is sent as it is, and of one that is shrunk before.
_MAX_PICTURE: Final = 20 * 1024 * 1024
_MAX_UNPREPARED: Final = 10 * _MAX_PICTURE


@attrs.frozen(kw_only=True)
class Form:
    """How pictures are prepared."""

    max_side: int | None
    quality: int


@attrs.frozen(kw_only=True)
class Task:
    """What the command was asked for.

    Attributes:
        inputs: The pictures.
        output: The journal.
        resume: Whether it may be there already.
        options: What is searched with.
        concurrency: Searches on the way at once.
        rate: Searches a second at most, or None.
        settings: Further arguments of `search_many`.
        form: How pictures are prepared; None: they are not.
        tables: Where tables go, by their kind.
        as_json: Whether machines read the end.
    """

    inputs: Inputs
    output: Path
    resume: bool
    options: SearchOptions
    concurrency: int
    rate: float | None
    settings: Mapping[str, Any]
    form: Form | None
    tables: Mapping[str, Path | None]
    as_json: bool


def estimate(task: Task, price: float | None) -> int:
    """Tell what the task would come to; nothing is sent."""
    with interruptible():
        found = _survey(task)
        answered = _answered(task) if task.resume else 0
    left = found.probes - answered
    if task.rate is None:
        pace = task.concurrency / _ASSUMED_SECONDS
        how = f"{task.concurrency} at once, if each takes {_ASSUMED_SECONDS:g} s"
    else:
        pace, how = task.rate, f"at {task.rate:g} a second"
    told = Estimate(
        found=found,
        answered=answered,
        seconds=left / pace,
        cost=None if price is None else price * left,
    )
    if task.as_json:
        _batch_view.print_json(told.as_json())
    else:
        told.show(how)
    return Exit.OK


async def run(task: Task, token: str, base_url: str | None, *, debug: bool) -> int:
    """Do the task and return the exit code."""
    _table.check(task.tables, [task.output, *task.inputs.lists])
    _check_output(task)
    with interruptible():
        found = _survey(task)
    client = VerifikClient(
        token,
        base_url=base_url,
        defaults=task.options,
        max_concurrency=task.concurrency,
        rate_limit=None if task.rate is None else RateLimit(task.rate),
        max_image_bytes=_MAX_PICTURE if task.form is None else _MAX_UNPREPARED,
    )
    work = _Run(task, client, found, debug=debug)
    with on_signals(work.stop):
        async with client:
            report = await work.report()
        report = attrs.evolve(report, fault=await _write_tables(task))
    _tell(report, as_json=task.as_json)
    return report.code


async def _write_tables(task: Task) -> str | None:
    """Write the tables, and return what went wrong: the answers are in the journal."""
    ordered = task.settings["ordered"]
    try:
        await asyncio.to_thread(_table.write, task.output, task.tables, ordered=ordered)
    except (OSError, ValueError, JournalError) as error:
        return f"no table: {type(error).__name__} ({error}); --resume writes it"
    return None


def _tell(report: Report, *, as_json: bool) -> None:
    try:
        if as_json:
            _batch_view.print_json(report.as_json())
        else:
            report.show()
    except BrokenPipeError:  # the reader has had enough
        raise
    except OSError as error:
        complain(f"the end cannot be told: {type(error).__name__}")


class _Run:
    """One run of a task."""

    def __init__(
        self, task: Task, client: VerifikClient, found: Found, *, debug: bool
    ) -> None:
        self._task = task
        self._client = client
        self._found = found
        self._debug = debug
        self._matched = 0
        self._errors: dict[str, VerifikError] = {}  # the first of each class
        self._cause: Exception | None = None
        self._batch: Any = None
        self._searching: asyncio.Task[Any] | None = None
        self._stops = 0

    def stop(self) -> None:
        """Stop gently, and at once when asked again."""
        self._stops += 1
        if self._stops == 1:
            complain("stopping: what is on the way is finished (again: stop at once)")
            if self._batch is not None:
                self._batch.stop()
        elif self._stops == 2 and self._searching is not None:  # noqa: PLR2004
            self._searching.cancel()

    async def report(self) -> Report:
        """Search, and return what came of it."""
        async with contextlib.AsyncExitStack() as stack:
            prepare: Any = None
            if self._task.form is not None:
                preparation = _preparation(self._task.form)
                prepare = await stack.enter_async_context(preparation)
            self._batch = self._client.search_many(
                self._task.inputs.probes(),
                journal=self._task.output,
                prepare=prepare,
                **self._task.settings,
            )
            await self._search(self._batch)
        return Report(
            found=self._found,
            summary=self._batch.summary,
            matched=self._matched,
            saved=None if prepare is None else prepare.saved_bytes,
            errors=self._errors,
            cause=self._cause,
        )

    async def _search(self, batch: Any) -> None:
        self._searching = me = asyncio.current_task()
        try:
            async with contextlib.AsyncExitStack() as stack:
                try:
                    await stack.enter_async_context(batch)
                except JournalError as error:
                    raise _unusable(self._task.output, error) from error
                shown = _batch_view.progress(
                    self._found.probes, lambda: batch.summary, self._client.stats
                )
                await stack.enter_async_context(shown)
                await self._note_all(batch)
        except JournalError as error:  # of the last lines
            self._cause = error
        except asyncio.CancelledError:
            if self._stops < 2 or me is None or me.uncancel():  # noqa: PLR2004
                raise
        finally:
            self._searching = None

    async def _note_all(self, batch: Any) -> None:
        try:
            async for outcome in batch:
                self._note(outcome)
        except BatchStoppedError as error:
            self._cause = error.cause or error
        except (JournalError, UsageError) as error:  # UsageError: a list has changed
            self._cause = error

    def _note(self, outcome: Outcome) -> None:
        if outcome.result is not None:
            self._matched += bool(outcome.result.matches)
        elif outcome.error is not None:
            self._errors.setdefault(type(outcome.error).__name__, outcome.error)
            if self._debug:
                traceback.print_exception(outcome.error)
                complain(printable(outcome.key))


def _preparation(form: Form) -> Any:
    try:
        from verifik_async.images import Preparation  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise UsageError(str(error)) from None
    return Preparation(max_side=form.max_side, quality=form.quality)


def _survey(task: Task) -> Found:
    found = task.inputs.survey()
    if not found.probes:
        raise UsageError("there are no pictures (name a folder that has some)")
    return found


def _answered(task: Task) -> int:
    """Return how many of the pictures a journal has the answers of, by their keys."""
    if not task.output.exists():
        return 0
    try:
        keys = {found.key for found in read_journal(task.output) if found.ok}
    except JournalError as error:
        raise _unusable(task.output, error) from error
    return sum(key in keys for key in map(_key, task.inputs.probes()))


def _unusable(output: Path, error: JournalError) -> UsageError:
    return UsageError(f"{printable(output)}: {str(error).removeprefix('journal: ')}")


def _key(probe: Any) -> str | int:
    return str(probe.image) if probe.key is None else probe.key


def _check_output(task: Task) -> None:
    """Refuse to write over what is there.

    Raises:
        UsageError: the journal is there, or can't be.
    """
    output = task.output
    name = printable(output)
    try:
        there = output.stat() if output.exists() else None
        fit = output.parent.is_dir()
    except (OSError, ValueError) as error:
        raise UsageError(f"{name}: {type(error).__name__} (choose another)") from None
    if not fit:
        raise UsageError(
            f"{name}: there is no such folder (make it, or choose another)"
        )
    if there is None:
        return
    if any(_is_stream(there, stream) for stream in (sys.stdout, sys.stderr)):
        raise UsageError(f"{name} is where the command itself writes (choose another)")
    if there.st_size and not task.resume:
        raise UsageError(
            f"{name} is there already (add --resume to go on with it, or choose "
            "another --output)"
        )


def _is_stream(status: os.stat_result, stream: TextIO) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return os.path.samestat(status, os.fstat(stream.fileno()))
    return False
