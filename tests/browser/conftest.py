"""Pages as people open them: from a file, in Chromium."""

import importlib
import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Iterator

import attrs
import pytest

# Set where a browser must be there: a run that skips these tests shall not pass.
REQUIRED = "VERIFIK_REQUIRE_BROWSER"
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # A camera that shows a moving pattern, and nobody to be asked.
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]


@attrs.frozen
class Visit:
    """A page that was opened, and what it did of its own accord."""

    page: object
    url: str
    requests: list[str] = attrs.field(factory=list)
    complaints: list[str] = attrs.field(factory=list)

    def listen(self) -> None:
        complain = self.complaints.append
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: complain(message.text))
        self.page.on("pageerror", lambda error: complain(str(error)))
        self.page.on("dialog", lambda dialog: (complain("alert"), dialog.dismiss()))


@pytest.fixture(scope="module")
def make_report(tmp_path_factory):
    """Return a function that makes a page of lines of a journal."""

    def make(lines, *options: object, folder=None) -> pathlib.Path:
        folder = folder or tmp_path_factory.mktemp("report")
        header = {"verifik_journal": 1, "parameters": "0" * 64}
        text = "".join(json.dumps(line) + "\n" for line in [header, *lines])
        (folder / "batch.jsonl").write_text(text, encoding="ascii")
        # As a process: this one's event loop belongs to the browser.
        subprocess.run(
            [
                *(sys.executable, "-m", "verifik_async.cli", "report"),
                *("batch.jsonl", "-o", "report.html", *map(str, options)),
            ],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=True,
            timeout=60,
        )
        return folder / "report.html"

    return make


def _without(what: str) -> None:
    if os.environ.get(REQUIRED) == "1":
        pytest.fail(f"{what} is missing")
    pytest.skip(f"{what} is missing")


# No longer than a module: while it runs, tests with an event loop can't.
@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """A Chromium for all tests of a module."""
    if importlib.util.find_spec("playwright") is None:
        _without("playwright")
    if (chromium := shutil.which("chromium")) is None:
        _without("chromium")
    api = importlib.import_module("playwright.sync_api")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser):
    """Return a function that opens a page; it must fetch nothing and not complain."""
    visits: list[Visit] = []

    def visit(path: pathlib.Path, **settings: object):
        context = browser.new_context(
            **{"viewport": {"width": 1280, "height": 900}, **settings}
        )
        visits.append(Visit(context.new_page(), path.as_uri()))
        visits[-1].listen()
        visits[-1].page.goto(path.as_uri())
        return visits[-1].page

    yield visit
    for done in visits:
        done.page.context.close()
    for done in visits:
        assert (done.requests, done.complaints) == ([done.url], [])
