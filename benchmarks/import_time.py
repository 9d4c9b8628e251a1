"""Measure the import: `python -m benchmarks.import_time`.

In fresh interpreters, `import verifik_async` and `import aiohttp` by turns.
"""

import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from ._show import flags, parser, positive

_RUNS, _QUICK_RUNS = 9, 1
_ALLOWED = ("orjson", "pybase64")
_FORBIDDEN = ("PIL", "cyclopts", "pytest", "rich")

_PROBE = """\
import sys, time
began = time.perf_counter()
import {module}
took = time.perf_counter() - began
found = [name for name in {optional!r} if name in sys.modules]
import json
print(json.dumps([took * 1000, found]))
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the medians; fail if a package was imported that must not be."""
    options = flags(parser("import_time", __doc__))
    options.add_argument("--runs", type=positive, help="of each; 9 by default")
    given = options.parse_args(arguments)
    runs = given.runs or (_QUICK_RUNS if given.quick else _RUNS)
    _import("verifik_async")  # writes the bytecode
    ours, theirs = [], []
    found: set[str] = set()
    for _ in range(runs):
        theirs.append(_import("aiohttp")[0])
        took, imported = _import("verifik_async")
        ours.append(took)
        found.update(imported)
    over = [mine - base for mine, base in zip(ours, theirs, strict=True)]
    timed = {"import verifik_async": ours, "import aiohttp": theirs, "difference": over}
    if given.json is not None:
        figures = [_figure(name, taken) for name, taken in timed.items()]
        given.json.write_text(json.dumps({"figures": figures}) + "\n", encoding="utf-8")
    print(f"import verifik_async: {statistics.median(ours):.1f} ms")
    print(f"import aiohttp: {statistics.median(theirs):.1f} ms")
    print(
        f"difference: {statistics.median(over):.1f} ms, median of {runs} "
        f"({min(over):.1f} to {max(over):.1f})"
    )
    print(f"optional packages imported: {', '.join(sorted(found)) or 'none'}")
    if wrong := found.intersection(_FORBIDDEN):
        sys.exit(f"must not be imported: {', '.join(sorted(wrong))}")


def _figure(name: str, taken: Sequence[float]) -> dict[str, Any]:
    spread = {"min": min(taken), "max": max(taken)}
    value = {"name": name, "value": statistics.median(taken), "unit": "ms"}
    return value | spread | {"bound": None, "ok": None}


def _import(module: str) -> tuple[float, list[str]]:
    """Return the milliseconds of an import and the optional packages that it took."""
    script = _PROBE.format(module=module, optional=_ALLOWED + _FORBIDDEN)
    done = subprocess.run(  # noqa: S603 - our own interpreter and script
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    answer: list[Any] = json.loads(done.stdout)
    return float(answer[0]), list(answer[1])


if __name__ == "__main__":
    main()
