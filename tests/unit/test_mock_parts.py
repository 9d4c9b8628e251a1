"""The parts of the stand-in that decide, without a socket."""

import base64

import pytest

from verifik_async.testing import _answers, _base64
from verifik_async.testing._capacity import TokenBucket
from verifik_async.testing._chance import Chance
from verifik_async.testing._faults import Fault
from verifik_async.testing._gallery import Gallery, Match, Person, best_first

TEXTS = {
    "": True,
    "QUJD": True,
    "QUI=": True,
    "QQ==": True,
    "Q+/D": True,
    "QUJ": False,
    "QUI": False,
    "QUI==": False,
    "QUJD=": False,
    "QU JD": False,
    "QUJD\n": False,
    "=QUJ": False,
    "QU=I": False,
    "=Q==": False,
    "Q===": False,
    "====": False,
    "QU-_": False,
    "QUJ\u00e9": False,
    "QUI=QUJD": False,
}


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("text", TEXTS)
def test_base64(monkeypatch, text, fast):
    """Both ways to check base64 agree, and decode what they accept."""
    if not fast:
        monkeypatch.setattr(_base64, "pybase64", None)
    assert _base64.is_base64(text) is TEXTS[text]
    expected = base64.b64decode(text) if TEXTS[text] else None
    assert _base64.decode(text) == expected


@pytest.mark.parametrize("fast", [True, False])
def test_json(monkeypatch, fast):
    """Both ways to read and write JSON agree."""
    if not fast:
        monkeypatch.setattr(_answers, "orjson", None)
    assert _answers.dump_json({"a": [1.0, None]}) == b'{"a":[1.0,null]}'
    assert _answers.load_json(b'{"a": 1}') == {"a": 1}
    for wrong in (b"NaN", b"{", b"\xff"):
        with pytest.raises(ValueError):  # noqa: PT011 - the texts differ
            _answers.load_json(wrong)


@pytest.mark.parametrize(
    ("minute", "text"),
    [
        (0, "January 1, 1970 12:00 AM"),
        (28423664, "January 16, 2024 3:44 PM"),
        (28423440, "January 16, 2024 12:00 PM"),
        (28422729, "January 16, 2024 12:09 AM"),
    ],
)
def test_time_in_english(minute, text):
    """Times have the month's name, no leading zero in the hour, and a half of day."""
    assert _answers.english_time(minute) == text


def test_bucket():
    """Tokens come back at the rate, up to the size, and stay whole."""
    bucket = TokenBucket(10, 2)
    assert [bucket.take(5.0) for _ in range(3)] == [True, True, False]
    assert not bucket.take(5.09)
    assert bucket.take(5.11)
    assert [bucket.take(99.0) for _ in range(3)] == [True, True, False]
    bucket.refill()
    assert bucket.take(99.0)


def test_bucket_without_a_burst():
    """A burst is a second's worth when it is not given, one at least."""
    bucket = TokenBucket(2.5)
    assert [bucket.take(0.0) for _ in range(4)] == [True, True, True, False]
    bucket = TokenBucket(0.1)
    assert [bucket.take(0.0) for _ in range(2)] == [True, False]


def test_order_and_cut_of_matches():
    """Matches are sorted by score, ties stay, and what is below the score goes."""
    scores = {"a": 0.7, "b": 0.9, "c": 0.69, "d": 0.9, "e": 1.0}
    matches = [Match(Person(id=name), score) for name, score in scores.items()]
    kept = [match.person.id for match in best_first(matches, 0.7)]
    assert kept == ["e", "b", "d", "a"]


def test_gallery_keeps_the_newest_fields_and_every_collection():
    """Enrolling again replaces the fields and adds the collection."""
    gallery = Gallery()
    assert not gallery
    gallery.add(Person(id="p", name="Old", collections=("a",)), b"1")
    gallery.add(Person(id="p", name="New", collections=("b",)), b"2")
    person = gallery.search(b"1", 1.0, "b")[0].person
    assert (person.name, person.collections) == ("New", ("a", "b"))
    assert gallery.collections == {"a", "b"}
    assert gallery.search(b"3", 0.5) == []


def test_sequences_do_not_disturb_each_other():
    """Faults fall on the same requests whatever the latency is."""
    faults = {Fault.status(500): 0.5}
    plain = Chance(3, faults, 0.0)
    spread = Chance(3, faults, (0.0, 1.0))
    for _ in range(20):
        spread.next_delay()
        assert plain.next_fault() == spread.next_fault()
    assert plain.next_id() == spread.next_id()
