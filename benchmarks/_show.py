"""Figures beside what was expected of them, one a line, and as JSON."""

import argparse
import asyncio
import json
import pathlib
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import attrs

Figure: TypeAlias = int | float | str

_THREE_DIGITS_BELOW = 10


@attrs.frozen(kw_only=True)
class Kept:
    """A figure as JSON has it.

    Attributes:
        name: Without its unit.
        value: What was measured.
        unit: Of the value and the bound; empty for a count.
        bound: What it was compared with, or None.
        ok: Whether it kept within that, or None.
    """

    name: str
    value: float
    unit: str
    bound: float | None
    ok: bool | None


class Board:
    """Prints figures as they come and remembers them.

    A unit is printed behind the name. Figures that are text are for the reader alone.

    Attributes:
        missed: Figures out of their bounds.
        kept: All those that are numbers.
    """

    def __init__(self) -> None:
        self.missed = 0
        self.kept: list[Kept] = []

    def head(self, text: str) -> None:
        """Begin a table."""
        print(f"\n{text}", flush=True)

    def fact(self, name: str, figure: Figure, unit: str = "") -> None:
        """Print a figure that nothing is expected of."""
        self._keep(name, figure, unit)
        print(f"  {_label(name, unit):<52}{_text(figure):>12}", flush=True)

    def at_most(self, name: str, figure: float, bound: float, unit: str = "") -> None:
        """Print a figure that must not be above a bound."""
        self._line(name, figure, unit, ("<=", bound), ok=figure <= bound)

    def at_least(self, name: str, figure: float, bound: float, unit: str = "") -> None:
        """Print a figure that must not be below a bound."""
        self._line(name, figure, unit, (">=", bound), ok=figure >= bound)

    def exactly(
        self, name: str, figure: Figure, expected: Figure, unit: str = ""
    ) -> None:
        """Print a figure that must be this one."""
        self._line(name, figure, unit, ("==", expected), ok=figure == expected)

    def miss(self, text: str) -> None:
        """Print what went wrong as a whole."""
        self.missed += 1
        self._keep(text, 1, "", 0, ok=False)
        print(f"  {text}: MISSED", flush=True)

    def as_json(self) -> str:
        """Return the figures for other programs."""
        return json.dumps({"figures": [attrs.asdict(figure) for figure in self.kept]})

    def _line(
        self,
        name: str,
        figure: Figure,
        unit: str,
        expected: tuple[str, Figure],
        *,
        ok: bool,
    ) -> None:
        sign, bound = expected
        self.missed += not ok
        self._keep(name, figure, unit, bound, ok=ok)
        wanted = f"{sign} {_text(bound)}"
        verdict = "ok" if ok else "MISSED"
        print(
            f"  {_label(name, unit):<52}{_text(figure):>12}  {wanted:<13} {verdict}",
            flush=True,
        )

    def _keep(
        self,
        name: str,
        figure: Figure,
        unit: str,
        bound: Figure | None = None,
        *,
        ok: bool | None = None,
    ) -> None:
        if not isinstance(figure, str) and not isinstance(bound, str):
            self.kept.append(
                Kept(name=name, value=figure, unit=unit, bound=bound, ok=ok)
            )


def run(
    work: Callable[[Board], Awaitable[None]],
    seconds: float,
    json_file: pathlib.Path | None = None,
) -> None:
    """Run a measurement on an event loop of its own.

    Ends the process with exit code 1 when a figure was missed or time ran out.

    Args:
        work: The measurement.
        seconds: That it may take.
        json_file: Where the figures are written to, those of a missed run as well.
    """
    board = Board()
    try:
        asyncio.run(_bounded(work(board), seconds))
    except TimeoutError:
        board.miss(f"not over within {seconds:g} s")
    if json_file is not None:
        json_file.write_text(board.as_json() + "\n", encoding="utf-8")
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


def flags(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add to a parser what scripts have in common that others call."""
    parser.add_argument("--quick", action="store_true", help="a few seconds only")
    parser.add_argument(
        "--json", type=pathlib.Path, metavar="FILE", help="for the figures"
    )
    return parser


def percentile(figures: Sequence[float], share: float) -> float:
    """Return the figure that such a share of them does not exceed."""
    ordered = sorted(figures)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def positive(text: str) -> int:
    """Return a count given as an option.

    Raises:
        argparse.ArgumentTypeError: it is below 1.
    """
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _label(name: str, unit: str) -> str:
    return f"{name}, {unit}" if unit else name


def _text(figure: Figure) -> str:
    if isinstance(figure, float):
        digits = 3 if abs(figure) < _THREE_DIGITS_BELOW else 2
        return f"{figure:,.{digits}f}"
    return figure if isinstance(figure, str) else f"{figure:,}"
