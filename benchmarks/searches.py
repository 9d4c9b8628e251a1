"""Measure searches beside rivals: `python -m benchmarks.searches`.

All rivals in this one process, by turns, on one server in a process of its own, on
loopback; the client keeps to one core and the server to another. A table for each
combination of size, concurrency and latency.
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Sequence

from ._show import parser, positive

# What the extra `speed` brings.
_SPEED = ("pybase64", "orjson")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print, cell by cell."""
    options = _parser()
    given = options.parse_args(arguments)
    if given.plain:
        _hide_extras()
    # Not before that: the client imports the extras when it is imported itself.
    from ._searching import ImpossibleError, run  # noqa: PLC0415

    try:
        report = run(given)
    except ImpossibleError as impossible:
        options.error(str(impossible))
    if given.json is not None:
        given.json.write_text(json.dumps(report) + "\n", encoding="utf-8")


def _hide_extras() -> None:
    """Let nothing in this process import them, as if they were not installed."""
    for name in _SPEED:
        sys.modules[name] = None  # type: ignore[assignment]  # what import looks for


def _parser() -> argparse.ArgumentParser:
    options = parser("searches", __doc__)
    add = options.add_argument
    add("--size", type=positive, action="append", metavar="KB", help="of the picture*")
    add("--concurrency", type=positive, action="append", help="searches at once*")
    add("--latency", type=float, action="append", metavar="MS", help="of the server*")
    add("--rival", action="append", metavar="NAME", help="beside bare aiohttp; all*")
    add("--layers", action="store_true", help="the client's layers as rivals, alone")
    add("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    add("--plain", action="store_true", help="as if the extra `speed` were missing")
    add("--server", choices=("stand-in", "nginx"), default="stand-in")
    add("--rounds", type=positive, default=12, help="for each table, at most")
    add("--seconds", type=float, default=45.0, help="no round begins after them")
    add("--searches", type=positive, help="in a turn; by the setting by default")
    add("--terse", action="store_true", help="no legend below the tables")
    add("--json", type=pathlib.Path, metavar="FILE", help="for the raw figures")
    options.epilog = "*: may be repeated; 20, 200 and 2000 KB, 32 at once, 0 ms"
    return options


if __name__ == "__main__":
    main()
