"""The benchmarks run, and print what they promise."""

import importlib.metadata
import importlib.util
import json
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SEARCHES = 12
RIVALS = {
    "verifik_async": None,
    "search_many": None,
    "bare aiohttp": None,
    "aiohttp json=": None,
    "httpx": "httpx",
    "httpx2": "httpx2",
    "niquests": "niquests",
    "requests.Session": "requests",
    "requests": "requests",
    "humanauthn": "humanauthn",
}


def start(*arguments, flags=()):
    """Run a module of the benchmarks to its end."""
    return subprocess.run(
        [sys.executable, *flags, "-m", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def run(*arguments, code=0):
    """Run a module of the benchmarks and return what it printed."""
    done = start(*arguments)
    assert done.returncode in (0, code), done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Return the printed table and the raw figures of a tiny run."""
    path = tmp_path_factory.mktemp("benchmark") / "raw.json"
    flags = f"--size=20 --rounds=2 --concurrency=4 --searches={SEARCHES}".split()
    printed = run("benchmarks.searches", *flags, f"--json={path}")
    return printed, json.loads(path.read_text())


@pytest.mark.parametrize(("rival", "package"), RIVALS.items())
def test_row_per_rival(tiny, rival, package):
    """Each rival has a row with numbers that agree, or a word why it has none."""
    printed, _ = tiny
    if f"\n{rival} is left out: " in printed:
        assert package is not None
        return
    [row] = re.findall(rf"^{rival} +(\d.*)$", printed, re.MULTILINE)
    per_second, p50, p95, p99, cpu, ratio, low, high, wall, n = map(float, row.split())
    assert per_second > 0
    assert 0 < p50 <= p95 <= p99
    assert cpu > 0
    assert 0 < low <= ratio <= high
    assert wall > 0
    assert n in (2 * SEARCHES, 2 * SEARCHES / 3)


def test_head_says_where_it_ran(tiny):
    """Machine, versions and cores stand above the table."""
    head = tiny[0].partition("\n")[0]
    for word in ("machine: ", "python: ", "aiohttp: ", "extras: ", "pinned to core"):
        assert word in head


def test_requests_runs_on_its_own_urllib3(tiny):
    """What takes urllib3's place is not measured as requests."""
    pytest.importorskip("requests")
    urllib3 = pytest.importorskip("urllib3")
    version = importlib.metadata.version("urllib3")
    if urllib3.__version__ == version:
        assert f"urllib3 {version}" in tiny[0].partition("\n")[0]
        assert "\nrequests is left out" not in tiny[0]
    else:
        assert "\nrequests is left out: urllib3-future" in tiny[0]


def test_raw_figures(tiny):
    """Every turn is in the raw figures, and each round had an order of its own."""
    [cell] = tiny[1]["cells"]
    assert (cell["size"], cell["concurrency"], cell["latency_ms"]) == (20_000, 4, 0)
    first, second = cell["orders"]
    assert first != second
    assert sorted(first) == sorted(second) == sorted(cell["turns"])
    for turns in cell["turns"].values():
        assert len(turns) == 2
        assert all(turn["cpu_s"] > 0 and turn["wall_s"] > 0 for turn in turns)
    assert {row["rival"] for row in cell["rows"]} == set(cell["turns"])


def test_plain_is_plain():
    """With --plain the client's process does not import what `speed` brings."""
    flags = "--plain --rival=search_many --size=1 --rounds=1 --searches=4"
    done = start("benchmarks.searches", *flags.split(), flags=("-X", "importtime"))
    assert done.returncode == 0, done.stderr
    assert "extras: no pybase64, no orjson;" in done.stdout
    # Both have a part in C; that an import was tried is in the list as well.
    assert not re.search(r"\| +(pybase64|orjson)\.", done.stderr)


def test_layers_are_measured_in_their_order():
    """From the floor to the whole client, and nobody else."""
    printed = run("benchmarks.searches", *["--layers", "--size=1", "--rounds=1"])
    rows = re.findall(r"^([a-z+_ ]+?) +\d[\d.]* +\d", printed, re.MULTILINE)
    layers = ["+ decoding", "+ time limit", "+ gate", "+ one search", "verifik_async"]
    assert rows == ["bare aiohttp", "transport", *layers]


@pytest.mark.parametrize(
    ("flag", "word"),
    [("--rival=nobody", "no such rival: nobody"), ("--size=0", "must be 1 or more")],
)
def test_wrong_flags(flag, word):
    """What cannot be measured is said in one line."""
    done = start("benchmarks.searches", flag)
    assert done.returncode == 2
    assert word in done.stderr.splitlines()[-1]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return what a small whole run printed, and the folder that it wrote to."""
    folder = tmp_path_factory.mktemp("whole")
    pythons = (f"--python={sys.executable}", "--python=/nowhere/python")
    only = ("--only=pythons", "--only=import_time")
    done = start("benchmarks", "--quick", *only, *pythons, f"--out={folder}")
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout, folder


def test_whole_run(whole):
    """Parts are put into one file with pictures beside it; a failed one is named."""
    printed, folder = whole
    assert re.findall("^FAILED: .*", printed, re.MULTILINE) == [
        "FAILED: pythons: /nowhere/python: No such file or directory"
    ]
    written = json.loads((folder / "run.json").read_text())
    assert set(written["parts"]) == {"import_time", "pythons"}
    [python] = written["parts"]["pythons"]["reports"]
    assert python["label"] == python["about"]["python"]
    assert [cell["size"] for cell in python["cells"]] == [20_000, 200_000]
    if importlib.util.find_spec("matplotlib") is None:
        assert "no pictures" in printed
    else:
        assert (folder / "settings.svg").read_text().startswith("<?xml")


def figures_of(rows, rounds=5):
    """Return a run with these ratios: median, lowest, highest, by rival."""
    cell = {"size": 20_000, "concurrency": 32, "latency_ms": 0.0}
    cell |= {"floor": "bare aiohttp", "orders": [[]] * rounds, "rows": []}
    for rival, (ratio, low, high) in (rows | {"bare aiohttp": (1.0, 1.0, 1.0)}).items():
        spread = {"ratio_min": low, "ratio_max": high}
        cell["rows"].append({"rival": rival, "ratio": ratio} | spread)
    return {"parts": {"sizes": {"reports": [{"label": "", "cells": [cell]}]}}}


def compare(folder, old, new):
    """Run the comparison of two contents."""
    paths = folder / "old.json", folder / "new.json"
    for path, content in zip(paths, (old, new), strict=True):
        path.write_text(json.dumps(content))
    return start("benchmarks.compare", *map(str, paths))


def test_compare_names_what_got_slower(tmp_path):
    """More than 10 % and out of the spread is slower; within the spread is unclear."""
    old = {"verifik_async": (1.2, 1.1, 1.25), "search_many": (1.2, 1.1, 1.5)}
    new = {"verifik_async": (1.5, 1.4, 1.6), "search_many": (1.4, 1.3, 1.5)}
    done = compare(tmp_path, figures_of(old), figures_of(new))
    assert done.returncode == 1
    where = "sizes, 20 KB, 32 at once"
    assert done.stdout.splitlines() == [
        f"slower  {where}, verifik_async: CPU over bare: 1.2 -> 1.5 (25 % worse)",
        f"unclear {where}, search_many: CPU over bare: 1.2 -> 1.4 (17 % worse)",
        "2 figures compared: 1 got slower, 0 faster, 1 unclear",
    ]


def test_compare_needs_rounds(tmp_path):
    """The spread of a few rounds proves nothing."""
    old = figures_of({"verifik_async": (1.2, 1.1, 1.25)}, rounds=4)
    new = figures_of({"verifik_async": (1.5, 1.4, 1.6)})
    done = compare(tmp_path, old, new)
    assert done.returncode == 0
    assert done.stdout.startswith("unclear sizes, 20 KB, 32 at once, verifik_async")


def test_compare_knows_what_more_is_better_of(tmp_path):
    """Fewer searches a second is slower, fewer milliseconds is not."""

    def content(*values):
        units = ("1/s", "ms", "")
        figures = [
            {"name": f"figure {unit}", "value": value, "unit": unit}
            for value, unit in zip(values, units, strict=True)
        ]
        return {"parts": {"ceiling": {"reports": [{"figures": figures}]}}}

    done = compare(tmp_path, content(1000, 20.0, 1), content(800, 10.0, 2))
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "slower  ceiling: figure 1/s, 1/s: 1000 -> 800 (25 % worse)",
        "faster  ceiling: figure ms, ms: 20 -> 10 (100 % better)",
        "2 figures compared: 1 got slower, 1 faster, 0 unclear",
    ]


def test_compare_of_equals(tmp_path):
    """Files of pytest-benchmark are read too; equal ones are not slower."""
    stats = {"median": 1e-5, "q1": 0.9e-5, "q3": 1.1e-5, "rounds": 9}
    content = {"benchmarks": [{"fullname": "test_encode", "stats": stats}]}
    done = compare(tmp_path, content, content)
    assert done.returncode == 0
    assert done.stdout == (
        "1 figures compared: nothing got slower, 0 faster, 0 unclear\n"
    )


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ([], "was written neither by python -m benchmarks nor by"),
        ({"parts": {"sizes": {}}}, "was written neither by"),
        ({"parts": {}}, "nothing could be compared"),
    ],
)
def test_compare_of_something_else(tmp_path, content, word):
    """Nothing is called equal that could not be compared."""
    done = compare(tmp_path, content, content)
    assert done.returncode == 2
    assert word in done.stderr.splitlines()[-1]


def test_import_time(whole):
    """It prints milliseconds, and no optional package was imported unasked."""
    printed, folder = whole
    [difference] = re.findall(r"^difference: (-?\d+\.\d) ms", printed, re.MULTILINE)
    assert float(difference) > -1000
    [imported] = re.findall(
        r"^optional packages imported: (.*)$", printed, re.MULTILINE
    )
    assert set(imported.split(", ")) <= {"none", "orjson", "pybase64"}
    parts = json.loads((folder / "run.json").read_text())["parts"]
    [report] = parts["import_time"]["reports"]
    figures = {figure["name"]: figure["value"] for figure in report["figures"]}
    assert f"{figures['difference']:.1f}" == difference


@pytest.mark.skipif(
    not (ROOT / "noxfile.py").exists(), reason="once is enough: in the checkout"
)
@pytest.mark.parametrize(
    ("command", "figure"),
    [
        ("drops --count=200", "requests after the first 402"),
        ("memory --count=500", "source was ahead"),
        ("growth --count=1500 --short=300 --parts=3", "difference"),
    ],
    ids=lambda value: value.partition(" ")[0],
)
def test_scripts_of_claims(command, figure):
    """Each prints figures with bounds; how fast the machine is does not matter here."""
    printed = run(f"benchmarks.{command.split()[0]}", *command.split()[1:], code=1)
    assert re.search(r"  ok$", printed, re.MULTILINE)
    assert figure in printed
    for line in printed.splitlines():
        if line.startswith(("  failed", "  answered")) and "==" in line:
            assert line.endswith("ok"), printed
