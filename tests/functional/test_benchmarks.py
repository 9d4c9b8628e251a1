"""The benchmarks run, and print what they promise."""

import json
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SEARCHES = 12


def run(*arguments, code=0):
    """Run a module of the benchmarks and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode in (0, code), done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    """Return the printed table and the raw figures of a tiny run."""
    path = tmp_path_factory.mktemp("benchmark") / "raw.json"
    flags = f"--size=20 --rounds=2 --concurrency=4 --searches={SEARCHES}".split()
    return run("benchmarks", *flags, f"--json={path}"), json.loads(path.read_text())


@pytest.mark.parametrize("rival", ["verifik_async", "bare aiohttp", "requests"])
def test_row_per_rival(benchmark, rival):
    """Each rival has a row, its columns are numbers that agree with each other."""
    if rival == "requests":
        pytest.importorskip("requests")
    printed, _ = benchmark
    [row] = re.findall(rf"^{rival} +(\d.*)$", printed, re.MULTILINE)
    per_second, p50, p95, p99, cpu, ratio, low, high, n = map(float, row.split())
    assert per_second > 0
    assert 0 < p50 <= p95 <= p99
    assert cpu > 0
    assert 0 < low <= ratio <= high
    assert n == 2 * (SEARCHES / 6 if rival == "requests" else SEARCHES)


def test_head_says_where_it_ran(benchmark):
    """Machine, versions and cores stand above the table."""
    head = benchmark[0].partition("\n")[0]
    for word in ("machine: ", "python: ", "aiohttp: ", "extras: ", "pinned to core"):
        assert word in head


def test_raw_figures(benchmark):
    """Every turn is in the raw figures, and each round had an order of its own."""
    [size] = benchmark[1]["sizes"]
    assert size["size"] == 20_000
    first, second = size["orders"]
    assert first != second
    assert sorted(first) == sorted(second) == sorted(size["turns"])
    for turns in size["turns"].values():
        assert len(turns) == 2
        assert all(turn["cpu_s"] > 0 and turn["latencies_s"] for turn in turns)


def test_import_time():
    """It prints milliseconds, and no optional package was imported unasked."""
    printed = run("benchmarks.import_time", "--runs=1")
    [difference] = re.findall(r"^difference: (-?\d+\.\d) ms", printed, re.MULTILINE)
    assert float(difference) > -1000
    [imported] = re.findall(
        r"^optional packages imported: (.*)$", printed, re.MULTILINE
    )
    assert set(imported.split(", ")) <= {"none", "orjson", "pybase64"}


@pytest.mark.skipif(
    not (ROOT / "noxfile.py").exists(), reason="once is enough: in the checkout"
)
@pytest.mark.parametrize(
    ("command", "figure"),
    [
        ("drops --count=200", "requests after the first 402"),
        ("memory --count=1000", "source was ahead"),
        ("growth --count=3000 --short=500 --parts=3", "difference"),
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
