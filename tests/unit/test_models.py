"""The values that users get: properties, repr, equality."""

import datetime as dt
import pickle

import attrs
import pytest

from verifik_async import errors, models
from verifik_async._types import Charge, Masked, NotGiven
from verifik_async.models import (
    CallInfo,
    Collection,
    Match,
    Outcome,
    Probe,
    SearchResult,
    Thumbnail,
)

PERSON = Match(
    id="p-1",
    score=0.9,
    name="Ada Example",
    gender="F",
    date_of_birth=dt.date(1990, 1, 15),
    nationality="Exampleland",
    notes={"badge": 7},
    thumbnails=(Thumbnail(id="t", thumbnail="aW52ZW50ZWQ="),),
    collections=("a", Collection(id="c", name="staff")),
    extra={"create_date": "2023-09-29"},
)


def test_best_is_the_first_match():
    """The matches come in order, so the best is the first."""
    result = SearchResult(matches=(PERSON, Match(id="p-2", score=0.1)))
    assert result.best is PERSON


def test_best_of_nobody():
    """Without a match there is no best one."""
    assert SearchResult().best is None


def test_match_repr_shows_id_and_score_only():
    """Logs of matches name nobody."""
    assert repr(PERSON) == "Match(id='p-1', score=0.9)"


def test_result_repr_names_nobody():
    """The raw answer and the persons stay out of a result's repr."""
    result = SearchResult(id="r", matches=(PERSON,), raw={"name": "Ada Example"})
    assert "Ada" not in repr(result)
    assert "raw" not in repr(result)
    assert "p-1" in repr(result)


def test_thumbnail_repr_is_masked():
    """A small picture is a picture."""
    assert "aW52" not in repr(PERSON.thumbnails[0])


def test_raw_and_call_are_out_of_equality():
    """Two answers that say the same are equal, whatever they took."""
    one = SearchResult(matches=(PERSON,), raw=1, call=CallInfo(attempts=1))
    two = SearchResult(matches=(PERSON,), raw=2, call=CallInfo(attempts=2))
    assert one == two
    assert hash(one) == hash(two)


@pytest.mark.parametrize(
    "change",
    [{"id": "other"}, {"matches": ()}, {"liveness": models.Liveness(passed=True)}],
)
def test_what_was_found_is_in_equality(change):
    """Answers that differ in what they say are not equal."""
    result = SearchResult(id="r", matches=(PERSON,))
    assert attrs.evolve(result, **change) != result


def test_matches_with_notes_are_hashable():
    """Decoded JSON in a match does not keep it out of sets."""
    assert len({PERSON, attrs.evolve(PERSON), attrs.evolve(PERSON, id="q")}) == 2


def test_notes_are_in_equality():
    """Fields out of the hash still count for equality."""
    assert attrs.evolve(PERSON, notes=[1]) != PERSON
    assert attrs.evolve(PERSON, extra={}) != PERSON


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (PERSON, "id"),
        (SearchResult(), "id"),
        (CallInfo(), "attempts"),
        (Probe(b"x"), "key"),
        (Outcome(index=0, key=0), "key"),
        (models.BatchSummary(), "answered"),
        (models.ClientStats(), "attempts"),
        (models.Attempt(number=1), "number"),
    ],
)
def test_models_are_frozen(model, name):
    """Nobody changes what was answered."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(model, name, None)


def test_a_result_survives_pickle():
    """Results travel between processes whole, raw and call included."""
    result = SearchResult(matches=(PERSON,), raw={"a": 1}, call=CallInfo(status=200))
    twin = pickle.loads(pickle.dumps(result))
    assert twin == result
    assert (twin.raw, twin.call) == (result.raw, result.call)


def test_probe_repr_shows_no_picture():
    """A probe can be logged: neither picture nor extra nor context is shown."""
    probe = Probe(b"face-bytes", key="k", extra={"secret": 1}, context="private")
    assert repr(probe) == (
        "Probe(image=<masked>, key='k', collection_id=None, min_score=None)"
    )


def test_probe_takes_the_picture_alone_by_position():
    """Everything but the picture is named."""
    assert Probe(b"x", key=1).image == b"x"
    with pytest.raises(TypeError):
        Probe(b"x", "key")


def test_probes_of_different_pictures_are_not_equal():
    """A set of probes loses none of them."""
    assert len({Probe(b"one"), Probe(b"two")}) == 2


@pytest.mark.parametrize("image", [bytearray(b"x"), memoryview(b"x"), [1], "text"])
def test_probes_are_hashable_whatever_they_hold(image):
    """The picture's type does not keep a probe out of sets."""
    assert isinstance(hash(Probe(image, extra={"a": []})), int)


def test_ok_outcome():
    """A result makes an outcome ok, answered, and gives itself back."""
    result = SearchResult(id="r")
    outcome = Outcome(index=3, key="k", result=result, context=object())
    assert outcome.ok
    assert outcome.state is Charge.ANSWERED
    assert outcome.unwrap() is result


@pytest.mark.parametrize("charge", list(Charge))
def test_failed_outcome(charge):
    """An outcome with an error is as charged as its error, and raises that."""
    error = errors.ConnectionLostError("lost", charge=charge)
    outcome = Outcome(index=0, key=0, error=error)
    assert not outcome.ok
    assert outcome.state is charge
    with pytest.raises(errors.ConnectionLostError) as caught:
        outcome.unwrap()
    assert caught.value is error


def test_outcome_with_neither():
    """An outcome made by hand without anything can't be unwrapped."""
    with pytest.raises(ValueError, match="neither"):
        Outcome(index=0, key=0).unwrap()


def test_context_and_call_are_out_of_an_outcomes_equality():
    """The caller's object is handed back and means nothing."""
    one = Outcome(index=0, key="k", context=[1], call=CallInfo(attempts=1))
    two = Outcome(index=0, key="k", context=[2], call=CallInfo(attempts=9))
    assert one == two
    assert "context" not in repr(one)


@pytest.mark.parametrize(
    ("one", "two", "worst"),
    [
        ("not_sent", "not_sent", "not_sent"),
        ("not_sent", "answered", "answered"),
        ("answered", "maybe_charged", "maybe_charged"),
        ("not_sent", "maybe_charged", "maybe_charged"),
    ],
)
def test_the_worst_charge_wins(one, two, worst):
    """Over several attempts the gravest charge counts, in either order."""
    assert Charge(one).worst(Charge(two)) is Charge(worst)
    assert Charge(two).worst(Charge(one)) is Charge(worst)


def test_masked_values_show_nothing():
    """A masked value shows itself to those who ask for it only."""
    masked = Masked("secret")
    assert masked.reveal() == "secret"
    assert "secret" not in f"{masked!r} {masked} {[masked]}"
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(masked)


def test_the_sentinel_names_itself():
    """Signatures in help() stay readable."""
    assert repr(NotGiven.NOT_GIVEN) == "NOT_GIVEN"
