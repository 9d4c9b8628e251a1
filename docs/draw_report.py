"""Draw docs/report-light.png and docs/report-dark.png: what `report` makes.

    python docs/draw_report.py [FOLDER]

It invents a journal of 600 probes with pictures of nobody, makes the page with the real
command and has Chromium draw it. FOLDER keeps what was made on the way. Playwright and
Chromium must be there.
"""

import contextlib
import io
import pathlib
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator

from PIL import Image
from playwright.sync_api import sync_playwright

from verifik_async import (
    CallInfo,
    Charge,
    ConnectError,
    FaceRejectedError,
    Match,
    Outcome,
    RateLimitedError,
    SearchResult,
    ServerError,
    VerifikError,
)
from verifik_async._journal import Searched, header_line, outcome_line
from verifik_async.cli import main as command
from verifik_async.cli._faces import alter, draw_face, encode

PROBES, FACES = 600, 24
WIDTH, HEIGHT = 1280, 1700
COLOURS = 200  # enough for a page, and half the bytes
TARGETS = pathlib.Path(__file__).parent
CHROMIUM = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run")
# How many of a hundred searches fail, and of what.
FAILURES: list[tuple[int, VerifikError | None]] = [
    (90, None),
    (4, FaceRejectedError(status=422, reason="no_face_detected", attempts=1)),
    (2, FaceRejectedError(status=422, reason="face_too_far", attempts=1)),
    (2, ServerError(status=502, charge=Charge.MAYBE_CHARGED, attempts=4)),
    (1, ConnectError(attempts=4)),
    (1, RateLimitedError(status=429, charge=Charge.NOT_SENT)),
]


def outcomes(rng: random.Random) -> Iterator[Outcome]:
    """Yield outcomes as a batch might have them."""
    weights, errors = zip(*FAILURES, strict=True)
    for index in range(PROBES):
        key = f"photos/visitor-{index + 1:04}.jpg"
        (error,) = rng.choices(errors, weights)
        (tries,) = rng.choices((1, 2, 3), (90, 8, 2))
        attempts = tries if error is None else error.attempts
        seconds = rng.lognormvariate(-1.9, 0.35) + 0.4 * (attempts - 1)
        call = CallInfo(attempts=attempts, elapsed_s=seconds, status=200)
        result = SearchResult(matches=found(rng)) if error is None else None
        yield Outcome(index=index, key=key, result=result, error=error, call=call)


def found(rng: random.Random) -> tuple[Match, ...]:
    """Return the matches of a search, best first: the person, and some who are like."""
    scores = [rng.triangular(0.7, 0.9, 0.72) for _ in range(rng.choice((0, 0, 1, 2)))]
    if rng.random() < 0.7:  # noqa: PLR2004 - so many are enrolled
        scores.append(min(1.0, rng.gauss(0.93, 0.03)))
    return tuple(
        Match(id=f"{rng.getrandbits(96):024x}", score=round(score, 4))
        for score in sorted(scores, reverse=True)
    )


def make_page(folder: pathlib.Path) -> pathlib.Path:
    """Write pictures, journal and page, and return the page."""
    rng = random.Random(7)  # noqa: S311 - invented figures, not secrets
    faces = [draw_face(seed) for seed in range(FACES)]
    (folder / "photos").mkdir(parents=True)
    journal, page = folder / "batch.jsonl", folder / "report.html"
    with journal.open("wb") as file:
        file.write(header_line("0" * 64))
        for outcome in outcomes(rng):
            file.write(outcome_line(outcome, Searched()))
            face = alter(faces[outcome.index % FACES], outcome.index)
            (folder / str(outcome.key)).write_bytes(encode(face))
    with contextlib.suppress(SystemExit):
        command(["report", str(journal), "--output", str(page), "--images"])
    return page


def draw(page: pathlib.Path) -> None:
    """Have the page drawn in light and in dark."""
    chromium = shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=list(CHROMIUM)
        )
        tab = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        tab.goto(page.as_uri())
        tab.locator("#threshold").fill("0.85")
        tab.get_by_role("button", name="Score").click()
        tab.locator("#rows button").first.click()
        for scheme in ("light", "dark"):
            tab.emulate_media(color_scheme=scheme)
            target = TARGETS / f"report-{scheme}.png"
            drawn = Image.open(io.BytesIO(tab.screenshot()))
            drawn.quantize(COLOURS).save(target, optimize=True)
            print(f"{target.name}: {target.stat().st_size} bytes")
        browser.close()


def main() -> None:
    """Write the pictures."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(*sys.argv[1:2] or [temporary])
        draw(make_page(folder))


if __name__ == "__main__":
    main()
