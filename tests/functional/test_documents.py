"""Every Python block of the documents runs, in a process of its own."""

import asyncio
import os
import pathlib
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator

import pytest

from verifik_async.rules import RULES
from verifik_async.testing import MockProcess

ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / "docs" / "retries.md"
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]


def blocks() -> Iterator[object]:
    """Yield the Python blocks with the page and the number of each."""
    for page in PAGES:
        found = re.findall(
            r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL
        )
        for number, block in enumerate(found, 1):
            yield pytest.param(block, id=f"{page.name}-{number}")


@pytest.mark.parametrize("block", [*blocks()])
async def test_python_blocks(block, tmp_path, image):
    """A block runs as it stands, with a stand-in where it asks for the service."""
    (tmp_path / "face.jpg").write_bytes(image)
    async with MockProcess() as mock:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-X", "dev", "-W", "error", "-c", block),
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(sys.path),
                "VERIFIK_BASE_URL": mock.url,
                "VERIFIK_TOKEN": "any",
            },
            stderr=subprocess.PIPE,
        )
        _, errors = await process.communicate()
    assert (process.returncode, errors.decode()) == (0, "")


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


def test_the_first_screen_of_the_readme():
    """A sentence, lines that run, two commands and three facts come first."""
    text = (ROOT / "README.md").read_text()
    screen = text[: text.index("\n## ")]
    assert len(screen.splitlines()) <= 50
    assert screen.count("```python") == 1
    assert len(re.findall(r"^python -m pip install", screen, re.MULTILINE)) == 2
    assert len(re.findall(r"^- .*\d", screen, re.MULTILINE)) == 3
