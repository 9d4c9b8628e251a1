"""Every Python block of the documents runs, in a process of its own."""

import asyncio
import importlib
import os
import pathlib
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest
from support import complaints

from verifik_async import read_journal
from verifik_async.cli._faces import draw_face, encode
from verifik_async.rules import RULES
from verifik_async.testing import MockProcess

ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / "docs" / "retries.md"
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]


FILE = re.compile(r"# (\w+\.py)\n")  # the first line of a block that is a file


def blocks_of(page: pathlib.Path) -> list[str]:
    """Return the Python blocks of a page."""
    return re.findall(
        r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL
    )


def scripts() -> Iterator[object]:
    """Yield the Python blocks that run by themselves, with page and number."""
    for page in PAGES:
        for number, block in enumerate(blocks_of(page), 1):
            if not FILE.match(block):
                yield pytest.param(block, id=f"{page.name}-{number}")


async def run_python(folder: pathlib.Path, url: str, *arguments: str) -> str:
    """Run Python as a reader would; return what it has to complain about."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-X", "dev", "-W", "error", *arguments),
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "VERIFIK_BASE_URL": url,
            "VERIFIK_TOKEN": "any",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    told, errors = await process.communicate()
    failed = f"exit code {process.returncode}\n{told.decode()}"
    return complaints(errors) + (failed if process.returncode else "")


@pytest.mark.parametrize("block", [*scripts()])
async def test_python_blocks(block, tmp_path, image):
    """A block runs as it stands, with a stand-in where it asks for the service."""
    (tmp_path / "face.jpg").write_bytes(image)
    async with MockProcess() as mock:
        assert await run_python(tmp_path, mock.url, "-c", block) == ""


async def test_the_tests_of_the_testing_page(tmp_path, image):
    """Blocks that name a file are a folder of tests, which passes as it stands."""
    (tmp_path / "face.jpg").write_bytes(image)
    async with MockProcess() as mock:
        await mock.enroll("person-1", image)
        for block in blocks_of(ROOT / "docs" / "testing.md"):
            name = FILE.match(block)
            if name:
                (tmp_path / name[1]).write_text(block)
            else:  # it records what the tests replay
                assert await run_python(tmp_path, mock.url, "-c", block) == ""
    # The service is gone: no test asks for it.
    options = ("-o", "asyncio_default_fixture_loop_scope=function")
    pytest_run = ("-m", "pytest", "-q", "-W", "error", *options)
    assert await run_python(tmp_path, mock.url, *pytest_run) == ""
    assert len([*tmp_path.glob("test_*.py")]) >= 6


@pytest.mark.skipif(shutil.which("bash") is None, reason="has no bash")
async def test_commands_of_the_batch_page(tmp_path):
    """All of them, one after the other, as a reader would try them."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(1, 13):
        picture = encode(draw_face(number))
        (photos / f"{number:04}.jpg").write_bytes(picture)
    text = (ROOT / "docs" / "batch.md").read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    commands = "\n".join(blocks)
    assert commands.count("verifik-async") >= 8
    scripts = pathlib.Path(sys.executable).parent
    async with MockProcess() as mock:
        await mock.enroll("person-3", encode(draw_face(3)))
        process = await asyncio.create_subprocess_exec(
            *("bash", "-euo", "pipefail", "-c", commands),
            cwd=tmp_path,
            env={
                **os.environ,
                "PATH": os.pathsep.join([str(scripts), os.environ["PATH"]]),
                "VERIFIK_BASE_URL": mock.url,
                "VERIFIK_TOKEN": "any",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        _, errors = await process.communicate()
        hits = (await mock.counts())["hits"]
    assert (process.returncode, complaints(errors)) == (0, "")
    # The folder once and not again, a list of two, two of a pattern, the folder shrunk.
    assert hits == 12 + 2 + 2 + 12
    [found] = [o for o in read_journal(tmp_path / "out.jsonl") if o.unwrap().matches]
    assert (found.key, found.unwrap().best.id) == ("photos/0003.jpg", "person-3")
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 13
    assert "person-3" in (tmp_path / "report.html").read_text()


def test_the_table_of_rules():
    """The page shows the rules that the client decides by."""
    script = runpy.run_path(str(ROOT / "docs" / "write_rules.py"))
    page = PAGE.read_text()
    assert script["written"](page) == page
    assert page.count("\n| ") == len(RULES) + 1


def test_the_figures_of_the_run_that_is_kept():
    """Page and README show the figures of one run, and show nothing else."""
    script = runpy.run_path(str(ROOT / "docs" / "write_performance.py"))
    made = script["sections"](script["load"]())
    for path in (ROOT / "docs" / "performance.md", ROOT / "README.md"):
        text = path.read_text()
        assert script["written"](text, made) == text
        assert script["END"] in text


def test_the_fault_matrix_that_is_kept(monkeypatch):
    """The page shows the runs that are kept, of all rows, each as promised."""
    monkeypatch.syspath_prepend(ROOT / "docs")
    monkeypatch.syspath_prepend(ROOT)
    faults = importlib.import_module("benchmarks.faults")
    script = runpy.run_path(str(ROOT / "docs" / "write_reliability.py"))
    page = (ROOT / "docs" / "reliability.md").read_text()
    assert script["written"](page) == page
    kept = script["load"]("faults")["rows"]
    for row, came in zip(faults.rows(), kept, strict=True):
        facts = came | {"in_batch": tuple(came["in_batch"])}
        assert (row.phase, row.what) == (came["phase"], came["what"])
        assert faults.differences(row, faults.Came(**facts)) == []
    assert f"{len(kept)} faults" in (ROOT / "README.md").read_text()


def test_the_run_of_web_backends_that_is_kept(monkeypatch):
    """The page shows its figures."""
    monkeypatch.syspath_prepend(ROOT / "docs")
    script = runpy.run_path(str(ROOT / "docs" / "write_web.py"))
    page = (ROOT / "docs" / "web.md").read_text()
    assert script["written"](page) == page


def test_the_first_screen_of_the_readme():
    """A sentence, lines that run, two commands and three facts come first."""
    text = (ROOT / "README.md").read_text()
    screen = text[: text.index("\n## ")]
    assert len(screen.splitlines()) <= 50
    assert screen.count("```python") == 1
    assert len(re.findall(r"^python -m pip install", screen, re.MULTILINE)) == 2
    assert len(re.findall(r"^- .*\d", screen, re.MULTILINE)) == 3
