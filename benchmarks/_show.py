"""Figures beside what was expected of them, one a line."""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import TypeAlias

Figure: TypeAlias = int | float | str

_THREE_DIGITS_BELOW = 10


class Board:
    """Prints figures as they come and remembers how many were missed.

    Attributes:
        missed: Figures out of their bounds.
    """

    def __init__(self) -> None:
        self.missed = 0

    def head(self, text: str) -> None:
        """Begin a table."""
        print(f"\n{text}", flush=True)

    def fact(self, name: str, figure: Figure) -> None:
        """Print a figure that nothing is expected of."""
        print(f"  {name:<52}{_text(figure):>12}", flush=True)

    def at_most(self, name: str, figure: float, bound: float) -> None:
        """Print a figure that must not be above a bound."""
        self._line(name, figure, f"<= {_text(bound)}", ok=figure <= bound)

    def at_least(self, name: str, figure: float, bound: float) -> None:
        """Print a figure that must not be below a bound."""
        self._line(name, figure, f">= {_text(bound)}", ok=figure >= bound)

    def exactly(self, name: str, figure: Figure, expected: Figure) -> None:
        """Print a figure that must be this one."""
        self._line(name, figure, f"== {_text(expected)}", ok=figure == expected)

    def miss(self, text: str) -> None:
        """Print what went wrong as a whole."""
        self.missed += 1
        print(f"  {text}: MISSED", flush=True)

    def _line(self, name: str, figure: Figure, expected: str, *, ok: bool) -> None:
        self.missed += not ok
        verdict = "ok" if ok else "MISSED"
        print(f"  {name:<52}{_text(figure):>12}  {expected:<13} {verdict}", flush=True)


def run(work: Callable[[Board], Awaitable[None]], seconds: float) -> None:
    """Run a measurement on an event loop of its own.

    Ends the process with exit code 1 when a figure was missed or time ran out.

    Args:
        work: The measurement.
        seconds: That it may take.
    """
    board = Board()
    try:
        asyncio.run(_bounded(work(board), seconds))
    except TimeoutError:
        board.miss(f"not over within {seconds:g} s")
    print(f"\n{board.missed} missed" if board.missed else "\nall as expected")
    if board.missed:
        sys.exit(1)


async def _bounded(work: Awaitable[None], seconds: float) -> None:
    async with asyncio.timeout(seconds):
        await work


def parser(name: str, about: str | None) -> argparse.ArgumentParser:
    """Return the parser of `python -m benchmarks.NAME`."""
    return argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def positive(text: str) -> int:
    """Return a count given as an option.

    Raises:
        argparse.ArgumentTypeError: it is below 1.
    """
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _text(figure: Figure) -> str:
    if isinstance(figure, float):
        digits = 3 if abs(figure) < _THREE_DIGITS_BELOW else 2
        return f"{figure:,.{digits}f}"
    return figure if isinstance(figure, str) else f"{figure:,}"
