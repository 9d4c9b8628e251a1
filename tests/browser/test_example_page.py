"""The page of the example for FastAPI, as a visitor uses it."""

import contextlib
import os
import pathlib
import runpy
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from verifik_async.testing import Fault, MockVerifik

ROOT = pathlib.Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
COMMAND = runpy.run_path(str(EXAMPLES / "run.py"))["COMMANDS"]["fastapi"]
VISITOR = EXAMPLES / "visitor.jpg"
PATIENCE = 20


@pytest.fixture(scope="module")
def mock():
    """The service, which knows the faces of the examples."""
    pytest.importorskip("fastapi")
    with MockVerifik() as mock:
        for face in sorted((EXAMPLES / "faces").glob("*.jpg")):
            mock.enroll(face.stem, face.read_bytes())
        yield mock


@pytest.fixture
def url(mock):
    """Where the example is, begun anew: a long pause would be for all."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with subprocess.Popen(
        [sys.executable, *COMMAND, str(port)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "VERIFIK_BASE_URL": mock.url,
            "VERIFIK_TOKEN": "any",
        },
    ) as process:
        url = f"http://127.0.0.1:{port}/"
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            with contextlib.suppress(urllib.error.URLError):
                urllib.request.urlopen(url).close()
                break
            time.sleep(0.05)
        yield url
        process.send_signal(signal.SIGTERM)


@pytest.fixture
def page(browser, url):
    """The page, opened; it must neither complain nor fetch from elsewhere."""
    context = browser.new_context(viewport={"width": 800, "height": 900})
    page, complaints, requests = context.new_page(), [], []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: (complaints.append("alert"), dialog.dismiss()))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(url)
    yield page
    context.close()
    assert complaints == []
    assert [r for r in requests if not r.startswith((url, "blob:"))] == []


def choose_and_search(page, picture=VISITOR):
    """Choose a file and press the button."""
    page.locator("#file").set_input_files(picture)
    page.get_by_role("button", name="Search").click()


def title(page, wanted):
    """Wait for what the answer says first."""
    heading = page.locator("#answer h2").filter(has_text=wanted)
    heading.wait_for(timeout=PATIENCE * 1000)
    return heading.text_content()


def test_a_picture_of_a_known_person(page):
    """The person and the score are shown."""
    choose_and_search(page)
    assert title(page, "found") == "One person was found"
    [line] = page.locator("#answer li").all()
    assert line.locator("span").first.text_content() == "person-3"
    assert line.locator(".score").text_content().endswith(" %")
    assert page.locator("#preview").is_visible()


def test_a_picture_of_nobody_known(page, tmp_path):
    """It says so."""
    picture = tmp_path / "other.jpg"
    picture.write_bytes(bytes(500))
    choose_and_search(page, picture)
    assert title(page, "found") == "Nobody was found"


def test_an_id_that_looks_like_markup(page, mock, tmp_path):
    """What the service says is shown as text."""
    picture = tmp_path / "other.jpg"
    picture.write_bytes(bytes(600))
    mock.enroll("<img src=x onerror=alert(1)>", bytes(600))
    choose_and_search(page, picture)
    title(page, "found")
    assert page.locator("#answer img").count() == 0
    assert "<img" in page.locator("#answer li span").first.text_content()


def test_the_camera(page, mock):
    """A picture that was taken is a JPEG that can be searched."""
    page.get_by_role("button", name="Use the camera").click()
    page.get_by_role("button", name="Take the picture").click()
    page.locator("#preview").wait_for(state="visible")
    before = mock.hits
    page.get_by_role("button", name="Search").click()
    title(page, "found")
    assert mock.hits == before + 1
    assert mock.requests[-1].image_bytes > 1000
    assert not page.locator("#video").is_visible()


@pytest.mark.parametrize(
    ("fault", "heading", "says"),
    [
        (
            Fault.status(422, code="NoFace", message="422:no_face_detected"),
            "Please try another picture",
            "There is no face in this picture.",
        ),
        (
            Fault.status(429, retry_after="3000"),
            "Too many people are searching",
            "Try again in 60 s.",
        ),
        (Fault.status(402), "The search did not work", "Try again later (502)."),
    ],
    ids=["face", "busy", "trouble"],
)
def test_what_can_go_wrong(page, mock, fault, heading, says):
    """A visitor is told what to do."""
    mock.script(fault)
    choose_and_search(page)
    assert title(page, heading) == heading
    assert page.locator("#answer p").text_content() == says


def test_stopping(page, mock):
    """The visitor leaves a search, which is cancelled; the next one works."""
    mock.latency = PATIENCE
    choose_and_search(page)
    page.get_by_role("button", name="Stop").click()
    assert title(page, "Stopped")
    mock.latency = 0.0
    until = time.monotonic() + PATIENCE
    while mock.in_flight and time.monotonic() < until:
        time.sleep(0.02)
    assert mock.in_flight == 0
    page.get_by_role("button", name="Search").click()
    assert title(page, "found")


def test_with_the_keyboard_alone(page):
    """Everything can be reached, and Enter searches."""
    page.locator("#file").set_input_files(VISITOR)
    page.locator("#file").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "camera"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "search"
    page.keyboard.press("Enter")
    assert title(page, "One person was found")
