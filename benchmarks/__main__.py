"""Measure everything: `python -m benchmarks`.

Each part is a process of its own or several, `python -m benchmarks.searches` for most;
all load goes to servers on this machine. What they found is put into one file,
run.json, with pictures of it beside it. `python -m benchmarks.compare` compares two
such files.

niquests is in no extra: its urllib3-future, installed from a wheel, puts itself in the
place of urllib3, and requests would run on that. To have both as they are:
URLLIB3_NO_OVERRIDE=1 python -m pip install niquests --no-binary urllib3-future
"""

import argparse
import datetime as dt
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from . import _machine
from ._parts import Child, Part, parts
from ._show import parser

# None takes as long as that; it hangs.
_CHILD_LIMIT = 300.0
_WIDTH = 60


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the parts; fail if one did."""
    options = _parser()
    given = options.parse_args(arguments)
    known = parts(given.python or ())
    if unknown := set(given.only or ()).difference(part.name for part in known):
        options.error(f"no such part: {', '.join(sorted(unknown))}; see --list")
    if given.list:
        for part in known:
            print(f"{part.name:<14}{part.about}")
        return
    chosen = [part for part in known if _is_chosen(part, given)]
    run = _run(chosen, quick=given.quick)
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / "run.json"
    path.write_text(json.dumps(run) + "\n", encoding="utf-8")
    _print_end(run, [path, *_draw(run, given.out)])
    if run["failed"]:
        sys.exit(1)


def _is_chosen(part: Part, given: argparse.Namespace) -> bool:
    if given.only is not None:
        return part.name in given.only
    return not given.quick or part.quick is not None


def _run(chosen: Sequence[Part], *, quick: bool) -> dict[str, Any]:
    run: dict[str, Any] = {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "about": _machine.here(),
        "parts": {},
        "skipped": [],
        "failed": [],
    }
    for part in chosen:
        print(f"\n{f'== {part.name}: {part.about} ':=<{_WIDTH}}", flush=True)
        if part.lack is not None:
            run["skipped"].append(f"{part.name}: {part.lack}")
            print(f"left out: {part.lack}")
            continue
        began = time.monotonic()
        reports = []
        for child in part.processes(quick=quick):
            report, fault = _run_child(child)
            if fault is not None:
                run["failed"].append(f"{part.name}: {fault}")
            if report is not None:
                reports.append({"label": _label(child, report)} | report)
        run["parts"][part.name] = {
            "seconds": round(time.monotonic() - began, 1),
            "reports": reports,
        }
    return run


def _run_child(child: Child) -> tuple[dict[str, Any] | None, str | None]:
    """Return its report, if it wrote one, and what went wrong, if anything did."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "figures.json"
        module = ("-m", f"{__package__}.{child.module}")
        command = (child.python, *module, *child.flags, f"--json={path}")
        try:
            code = subprocess.run(  # noqa: S603 - our own scripts
                command, check=False, stdin=subprocess.DEVNULL, timeout=_CHILD_LIMIT
            ).returncode
            fault = f"{child.module} ended with exit code {code}" if code else None
        except subprocess.TimeoutExpired:
            fault = f"{child.module} was not over within {_CHILD_LIMIT:g} s"
        except OSError as exc:
            fault = f"{child.python}: {exc.strerror}"
        if not path.exists():
            return None, fault or f"{child.module} wrote no figures"
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return report, fault


def _label(child: Child, report: dict[str, Any]) -> str:
    return report["about"]["python"] if child.label is None else child.label


def _draw(run: dict[str, Any], folder: pathlib.Path) -> list[pathlib.Path]:
    try:
        from . import _plots  # noqa: PLC0415 - it needs an extra, and is slow
    except ImportError:
        print("\nmatplotlib is not installed: no pictures")
        return []
    return _plots.draw(run, folder)


def _print_end(run: dict[str, Any], paths: Sequence[pathlib.Path]) -> None:
    print(f"\n{'== the run ':=<{_WIDTH}}")
    for name, part in run["parts"].items():
        print(f"{part['seconds']:>7.1f} s  {name}")
    total = sum(part["seconds"] for part in run["parts"].values())
    print(f"{total:>7.1f} s  in all")
    for path in paths:
        print(f"written: {path}")
    for sentence in run["skipped"]:
        print(f"left out: {sentence}")
    for sentence in run["failed"]:
        print(f"FAILED: {sentence}")


def _parser() -> argparse.ArgumentParser:
    options = parser("", __doc__)
    options.prog = "python -m benchmarks"
    add = options.add_argument
    add(
        "--quick", action="store_true", help="less than a minute: a few parts, in short"
    )
    add("--only", action="append", metavar="PART", help="may be repeated")
    add("--list", action="store_true", help="print the parts and end")
    add("--python", action="append", metavar="PATH", help="another interpreter*")
    add(
        "--out",
        type=pathlib.Path,
        default=pathlib.Path("benchmark-results"),
        metavar="DIR",
        help="for run.json and the pictures; benchmark-results by default",
    )
    options.epilog = "*: may be repeated; with the extra `speed` of this package"
    return options


if __name__ == "__main__":
    main()
