"""Draw docs/web-light.png and docs/web-dark.png: the page of the FastAPI example.

    python docs/draw_web.py

It starts the example as its page says, has Chromium choose a picture and search, and
draws what a visitor sees. Playwright and Chromium must be there.
"""

import contextlib
import io
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

from PIL import Image
from playwright.sync_api import sync_playwright

TARGETS = pathlib.Path(__file__).parent
EXAMPLES = TARGETS.parent / "examples"
PORT = "8129"
URL = f"http://127.0.0.1:{PORT}/"
WIDTH, HEIGHT = 760, 800
COLOURS = 200  # enough for a page, and half the bytes
CHROMIUM = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run")
PATIENCE = 20


@contextlib.contextmanager
def example() -> Iterator[None]:
    """Run the example until it answers, and end it."""
    command = [sys.executable, str(EXAMPLES / "run.py"), "fastapi", PORT]
    with subprocess.Popen(command, start_new_session=True) as process:  # noqa: S603 - ours
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            with contextlib.suppress(urllib.error.URLError):
                urllib.request.urlopen(URL).close()
                break
            time.sleep(0.1)
        yield
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does


def draw() -> None:
    """Have the page drawn in light and in dark."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=list(CHROMIUM)
        )
        tab = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        tab.goto(URL)
        tab.locator("#file").set_input_files(EXAMPLES / "visitor.jpg")
        tab.get_by_role("button", name="Search").click()
        tab.locator("#answer li").first.wait_for()
        for scheme in ("light", "dark"):
            tab.emulate_media(color_scheme=scheme)
            target = TARGETS / f"web-{scheme}.png"
            drawn = Image.open(io.BytesIO(tab.screenshot()))
            drawn.quantize(COLOURS).save(target, optimize=True)
            print(f"{target.name}: {target.stat().st_size} bytes")
        browser.close()


if __name__ == "__main__":
    with example():
        draw()
