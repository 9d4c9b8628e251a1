"""Tell what got slower: `python -m benchmarks.compare OLD.json NEW.json`.

Either two run.json of `python -m benchmarks` or two files of pytest --benchmark-json.
Compared is every figure that is in both: of searches the CPU time over that of bare
aiohttp in the same round, since machines differ; of the rest the figure itself, if its
unit tells whether less or more of it is better.

A figure is called slower if its median is worse by more than --by percent, neither
median lies within the spread of the other run, and both had 5 rounds or more. The
spread is from the lowest to the highest round, for pytest-benchmark the middle half of
them. Worse by more than --by but for the rest of this: unclear. What was measured once
has no spread and is judged by its value alone: measure again before you believe it.

Exit code: 1 if a figure got slower, 2 if nothing could be compared, else 0.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence
from typing import Literal, TypeAlias

import attrs

from ._figures import Figure, NoRunError, load
from ._show import parser

Verdict: TypeAlias = Literal["slower", "faster", "unclear", "same"]

_PERCENT = 100
_ENOUGH_ROUNDS = 5


@attrs.frozen
class Change:
    """A figure of both runs.

    Attributes:
        percent: By how much the new one is worse; below 0: better.
    """

    name: str
    old: Figure
    new: Figure
    percent: float
    verdict: Verdict

    def __str__(self) -> str:
        return (
            f"{self.verdict:<8}{self.name}: {self.old.value:.4g} -> "
            f"{self.new.value:.4g} ({abs(self.percent):.0f} % "
            f"{'worse' if self.percent > 0 else 'better'})"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what changed; fail if a figure got slower."""
    options = _parser()
    given = options.parse_args(arguments)
    try:
        changes = compare(load(given.old), load(given.new), given.by)
    except NoRunError as error:
        options.error(str(error))
    if not changes:
        options.error("nothing could be compared: no figure is in both")
    changes.sort(key=lambda change: -change.percent)
    for change in changes:
        if change.verdict != "same":
            print(change)
    of = [change.verdict for change in changes]
    print(
        f"{len(of)} figures compared: {of.count('slower') or 'nothing'} got slower, "
        f"{of.count('faster')} faster, {of.count('unclear')} unclear"
    )
    if "slower" in of:
        sys.exit(1)


def compare(old: dict[str, Figure], new: dict[str, Figure], by: float) -> list[Change]:
    """Judge every figure that is in both and above 0, in the order of the old ones."""
    return [
        _judge(name, figure, new[name], by)
        for name, figure in old.items()
        if name in new and min(figure.value, new[name].value) > 0
    ]


def _judge(name: str, old: Figure, new: Figure, by: float) -> Change:
    # Relative to the better one, so that twice as slow and twice as fast are alike.
    first, then = (new, old) if old.more_is_better else (old, new)
    worse = then.value >= first.value
    low, high = sorted((first.value, then.value))
    percent = (high / low - 1) * (_PERCENT if worse else -_PERCENT)
    clear = (
        _is_enough(old)
        and _is_enough(new)
        and not (_holds(old, new.value) or _holds(new, old.value))
    )
    verdict: Verdict = "same"
    if abs(percent) > by:
        verdict = ("slower" if worse else "faster") if clear else "unclear"
    return Change(name, old, new, percent, verdict)


def _is_enough(figure: Figure) -> bool:
    return figure.rounds is None or figure.rounds >= _ENOUGH_ROUNDS


def _holds(figure: Figure, value: float) -> bool:
    return figure.low <= value <= figure.high


def _parser() -> argparse.ArgumentParser:
    options = parser("compare", __doc__)
    options.add_argument("old", type=pathlib.Path, metavar="OLD.json")
    options.add_argument("new", type=pathlib.Path, metavar="NEW.json")
    options.add_argument(
        "--by", type=float, default=10.0, metavar="PERCENT", help="10 by default"
    )
    return options


if __name__ == "__main__":
    main()
