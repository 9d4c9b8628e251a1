"""What `assert_no_leaks` finds, and what it lets pass."""

import base64
import json
import logging
import random
import sys
import urllib.parse

import pytest

from verifik_async import ConfigurationError, VerifikError
from verifik_async.testing import assert_no_leaks

TOKEN = "invented-token-7f3a9c"
NAME = "Zoë Invented"
PICTURE = random.Random(3).randbytes(4_000)
TEXT = base64.b64encode(PICTURE).decode()


def record(message="", *args, **extra):
    """Return a record as a logger makes it."""
    made = logging.makeLogRecord({"name": "somebody", "msg": message, "args": args})
    vars(made).update(extra)
    return made


def raised(error, cause=None, context=None):
    """Return an error that was raised, and its record."""
    error.__cause__, error.__context__ = cause, context
    with pytest.raises(type(error)) as caught:
        raise error
    return error, record(exc_info=(type(error), error, caught.tb))


def noted(note):
    error = ValueError()
    error.add_note(note)
    return error


LEAKS = {
    "a text": f"got {TOKEN}",
    "bytes": f"got {TOKEN}".encode(),
    "the repr of an object": {"list": [pytest.param(TOKEN)]},
    "a key": {TOKEN: 1},
    "nested": [[{"a": ({"b": {TOKEN}},)}]],
    "a generator": (text for text in ["", TOKEN]),
    "an URL": "https://x/?t=" + urllib.parse.quote(f"{NAME}"),
    "JSON": json.dumps({"name": NAME}),
    "ASCII": ascii(NAME),
    "capitals": NAME.upper(),
    "a message": record("token %s", TOKEN),
    "arguments": record("", TOKEN),
    "an extra": record(person=NAME),
    "a stack": record(stack_info=TOKEN),
    "an error's message": ValueError(TOKEN),
    "an error as it was raised": raised(KeyError(NAME)),
    "a note": noted(TOKEN),
    "a cause": raised(VerifikError("x"), KeyError(TOKEN)),
    "a context": raised(VerifikError("x"), context=KeyError(TOKEN)),
    "a group": ExceptionGroup("g", [ExceptionGroup("h", [ValueError(TOKEN)])]),
    "base64": TEXT,
    "a part of base64": f'{{"image": "{TEXT[700:760]}"}}',
    "base64 for URLs": base64.urlsafe_b64encode(PICTURE).decode(),
    "base64 of a part": base64.b64encode(PICTURE[1000:1100]).decode(),
    "bytes of the picture": PICTURE,
    "their repr": repr(PICTURE[:200]),
    "hexadecimal": PICTURE.hex(),
}


@pytest.mark.parametrize("leak", LEAKS.values(), ids=LEAKS)
def test_leaks(leak):
    """It fails, and does not show what it found."""
    with pytest.raises(AssertionError, match=r" shows (the|a) ") as caught:
        assert_no_leaks(["fine", leak], token=TOKEN, images=[PICTURE], names=[NAME])
    assert TOKEN not in str(caught.value)
    assert NAME not in str(caught.value)
    assert TEXT[:20] not in str(caught.value)


def test_a_picture_as_text():
    """It may be named in the form in which it was searched."""
    with pytest.raises(AssertionError, match="a picture"):
        assert_no_leaks(f"x {TEXT[40:100]} y", images=[TEXT])


def test_locals_of_the_package_are_looked_at():
    """Those of the caller's own frames are his: he holds the picture."""
    source = "def send(secret):\n    raise ValueError('x')\n"
    ours = {}
    package = sys.modules[VerifikError.__module__].__file__
    exec(compile(source, package, "exec"), ours)  # noqa: S102
    theirs = {}
    exec(compile(source, __file__, "exec"), theirs)  # noqa: S102
    with pytest.raises(ValueError, match="x") as caught:
        theirs["send"](TOKEN)
    assert_no_leaks(caught.value, token=TOKEN)
    with pytest.raises(ValueError, match="x") as caught:
        ours["send"](TOKEN)
    with pytest.raises(AssertionError, match=r"send\(\) in the traceback of"):
        assert_no_leaks(caught.value, token=TOKEN)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("Authorization: Bearer abc123def456", "a token"),
        ("eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.", "a token"),
        ("image=" + "QUJD" * 60, "a long run of base64"),
    ],
)
def test_what_is_not_named_is_known_by_its_form(text, what):
    """With nothing but the records."""
    with pytest.raises(AssertionError, match=what):
        assert_no_leaks(text)


@pytest.mark.parametrize(
    "fine",
    [
        "",
        [],
        None,
        "Bearer authentication failed",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ConfigurationError("token is required"),
        record("search took %d ms", 5),
        raised(VerifikError("x"), KeyError("y")),
    ],
)
def test_what_is_fine(fine):
    """Digests, ids and plain words pass."""
    assert_no_leaks(fine, token=TOKEN, images=[PICTURE], names=[NAME])


def test_many_leaks_are_counted():
    """The first ten are told."""
    with pytest.raises(AssertionError) as caught:
        assert_no_leaks([TOKEN] * 15, token=TOKEN)
    lines = str(caught.value).splitlines()
    assert lines[0] == "records[0] shows the token"
    assert (len(lines), lines[-1]) == (11, "and 5 more")
