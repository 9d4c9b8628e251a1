"""What `batch` tells: what it is about to do, how far it is, and what came of it."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

import attrs
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from verifik_async import BatchSummary, ClientStats, VerifikError
from verifik_async.cli import _show
from verifik_async.cli._exit import Exit, complain, one_line, remedy
from verifik_async.cli._inputs import Found

_EVERY: Final = 0.25
_PLAIN_EVERY: Final = 5.0


@attrs.frozen(kw_only=True)
class Estimate:
    """What a batch would come to.

    Attributes:
        found: What there is to search.
        answered: How many of these a journal has the answers of, by their keys.
        seconds: How long the rest takes.
        cost: What the rest costs at the given price of a search, or None.
    """

    found: Found
    answered: int
    seconds: float
    cost: float | None

    def as_json(self) -> dict[str, Any]:
        """Return what machines read."""
        return {
            "pictures": self.found.probes,
            "bytes": self.found.size,
            "missing": self.found.missing,
            "answered_before": self.answered,
            "estimated_s": round(self.seconds, 1),
            "cost": self.cost,
        }

    def show(self, how: str) -> None:
        """Print it for people.

        Args:
            how: What the time was estimated with.
        """
        rows = {
            "pictures": f"{self.found.probes:,}",
            "size": _size(self.found.size),
            "not there": f"{self.found.missing:,}" if self.found.missing else None,
            "answered before": f"{self.answered:,}" if self.answered else None,
            "estimated time": f"{duration(self.seconds)} ({how})",
            "cost": None if self.cost is None else f"{self.cost:,.2f}",
        }
        _print(rows)


@attrs.frozen(kw_only=True)
class Report:
    """What a batch came to.

    Attributes:
        found: What there was to search.
        summary: Of the batch.
        matched: Probes with a match, of those answered in this run.
        saved: Bytes that preparation spared, or None where nothing was prepared.
        errors: The first of each class, by its name.
        cause: What stopped it before its end, or None.
        fault: What went wrong with the tables, or None.
    """

    found: Found
    summary: BatchSummary
    matched: int
    saved: int | None
    errors: Mapping[str, VerifikError]
    cause: Exception | None
    fault: str | None = None

    @property
    def left(self) -> int:
        """How many pictures were not looked at."""
        done = self.summary.answered + self.summary.failed + self.summary.skipped
        return max(0, self.found.probes - done)

    @property
    def code(self) -> Exit:
        """The exit code."""
        if self.cause is not None or self.summary.stopped_by is not None or self.left:
            return Exit.STOPPED
        return Exit.SOME_FAILED if self.summary.failed or self.fault else Exit.OK

    def as_json(self) -> dict[str, Any]:
        """Return what machines read."""
        told = attrs.asdict(self.summary)
        told |= {"pictures": self.found.probes, "left": self.left}
        told |= {"matched": self.matched, "saved_bytes": self.saved}
        told |= {"cause": self._why(), "fault": self.fault}
        return told | {"exit_code": int(self.code)}

    def show(self) -> None:
        """Print it for people: counts on stdout, remedies on stderr."""
        summary = self.summary
        rate = (summary.answered + summary.failed) / max(summary.elapsed_s, 1e-9)
        rows = {
            "pictures": f"{self.found.probes:,}",
            "answered": f"{summary.answered:,}, {self.matched:,} with a match",
            "answered before": f"{summary.skipped:,}" if summary.skipped else None,
            "failed": f"{summary.failed:,}{_charges(summary)}",
            "left": f"{self.left:,}" if self.left else None,
            "coalesced": f"{summary.coalesced:,}" if summary.coalesced else None,
            "throttled": f"{summary.throttled:,}" if summary.throttled else None,
            "saved": None if self.saved is None else _size(self.saved),
            "time": f"{duration(summary.elapsed_s)}, {rate:,.1f} a second",
        }
        _print(rows)
        for name, count in sorted(summary.errors.items(), key=lambda item: -item[1]):
            what = remedy(self.errors[name]) if name in self.errors else None
            complain(f"{count:,} x {name}" + ("" if what is None else f" ({what})"))
        if self.fault is not None:
            complain(self.fault)
        if self.cause is not None:
            complain(f"stopped: {self._why()}")
        elif summary.stopped_by is not None:
            complain(f"stopped by {summary.stopped_by}; --resume goes on")

    def _why(self) -> str | None:
        if isinstance(self.cause, VerifikError):
            return one_line(self.cause)
        return None if self.cause is None else str(self.cause)


def print_json(told: Mapping[str, Any]) -> None:
    """Print what machines read."""
    sys.stdout.write(json.dumps(told) + "\n")


def _print(rows: Mapping[str, str | None]) -> None:
    table = _show.table("", "", left=2)
    table.show_header = False
    for name, value in rows.items():
        if value is not None:
            table.add_row(name, value)
    _show.console().print(table)


def _charges(summary: BatchSummary) -> str:
    told = [
        f"{count:,} {name}"
        for name, count in (
            ("not sent", summary.not_sent),
            ("maybe charged", summary.maybe_charged),
        )
        if count
    ]
    return f": {', '.join(told)}" if told else ""


def duration(seconds: float) -> str:
    """Return a time as people read it."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{seconds:.1f} s"


def _size(count: int) -> str:
    amount, units = float(count), ["bytes", "KB", "MB", "GB", "TB"]
    while abs(amount) >= 1000 and len(units) > 1:  # noqa: PLR2004
        amount, units = amount / 1000, units[1:]
    return (
        f"{amount:,.0f} {units[0]}" if count == amount else f"{amount:,.1f} {units[0]}"
    )


# -- progress -------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def progress(
    total: int, summary: Callable[[], BatchSummary], stats: Callable[[], ClientStats]
) -> AsyncIterator[None]:
    """Show on stderr how far a batch is, while the block lasts.

    A bar in a terminal; elsewhere a plain line now and then.

    Args:
        total: Pictures.
        summary: Of the batch, at any time.
        stats: Of the client.
    """
    err = _show.console(stderr=True)
    async with contextlib.AsyncExitStack() as stack:
        if err.is_interactive:
            bar = stack.enter_context(
                Progress(
                    BarColumn(bar_width=None),
                    MofNCompleteColumn(),
                    TextColumn("{task.fields[told]}"),
                    TimeElapsedColumn(),
                    TimeRemainingColumn(),
                    console=err,
                    transient=True,
                    expand=True,
                    redirect_stdout=False,
                )
            )
            task = bar.add_task("", total=total, told="")
            every = _EVERY

            def show() -> None:
                now = summary()
                done = now.answered + now.failed + now.skipped
                bar.update(task, completed=done, told=_told(now, stats()))

        else:
            every = _PLAIN_EVERY

            def show() -> None:
                now = summary()
                done = now.answered + now.failed + now.skipped
                complain(f"{done:,}/{total:,} {_told(now, stats())}")

        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        ticker = tasks.create_task(_tick(show, every), name="progress")
        stack.callback(ticker.cancel)
        yield


async def _tick(show: Callable[[], None], every: float) -> None:
    while True:
        await asyncio.sleep(every)
        show()


def _told(summary: BatchSummary, stats: ClientStats) -> str:
    rate = (summary.answered + summary.failed) / max(summary.elapsed_s, 1e-9)
    told = [
        f"{rate:,.1f}/s",
        f"{summary.answered:,} answered",
        f"{summary.failed:,} failed",
        f"{stats.throttled:,} throttled",
        f"window {stats.window}",
    ]
    return ", ".join(told)
