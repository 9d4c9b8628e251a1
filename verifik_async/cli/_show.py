"""How things look: consoles, tables, progress."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator

from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

_PLAIN_EVERY = 2.0


def console(*, stderr: bool = False) -> Console:
    """Return a console that prints text as it is, on a stream of this moment."""
    # Rich drops only the colours for NO_COLOR and keeps bold; here it drops both.
    plain = bool(os.environ.get("NO_COLOR"))
    return Console(
        stderr=stderr,
        color_system=None if plain else "auto",
        highlight=False,
        markup=False,
        emoji=False,
    )


def table(*headings: str, left: int = 1) -> Table:
    """Return an empty table whose first `left` columns are text, the rest numbers."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for number, heading in enumerate(headings):
        if number < left:
            # Folded, not cut: an id that is cut is worth nothing.
            made.add_column(heading, overflow="fold")
        else:
            made.add_column(heading, justify="right", no_wrap=True)
    return made


def milliseconds(seconds: float) -> str:
    """Return a time with three digits that matter."""
    value = seconds * 1000
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"  # noqa: PLR2004


def score(value: float | None) -> str:
    """Return a score, or a dash where the API told none."""
    return "-" if value is None else f"{value:.3f}"


@contextlib.contextmanager
def progress(
    label: str, total: int, *, hidden: bool = False
) -> Iterator[Callable[[], None]]:
    """Show on stderr how far something has come; call what is yielded once a step.

    A bar in a terminal; elsewhere a plain line now and then, nothing for what is
    quickly done.

    Args:
        label: What is being done.
        total: How many steps there are.
        hidden: Show nothing.
    """
    if hidden:
        yield _nothing
        return
    if total > 1 and (err := console(stderr=True)).is_interactive:
        with _bar(err) as bar:
            task = bar.add_task(label, total=total)
            yield lambda: bar.advance(task)
        return
    yield _plain_steps(label, total)


def _bar(err: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<14}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=err,
        transient=True,
        expand=True,
        # What is printed meanwhile must still end up on stdout.
        redirect_stdout=False,
    )


def _nothing() -> None:
    pass


def _plain_steps(label: str, total: int) -> Callable[[], None]:
    done, told = 0, time.monotonic()

    def step() -> None:
        nonlocal done, told
        done += 1
        if (now := time.monotonic()) - told >= _PLAIN_EVERY:
            told = now
            sys.stderr.write(f"{label}: {done}/{total}\n")

    return step
