"""Hostile answers: a result of the right types or a path, never an exception."""

import copy
import datetime as dt
import json
import pickle
import time

import pytest

from verifik_async.models import CallInfo, Collection, Match, SearchResult

CALL = CallInfo(attempts=1, status=200)
# What may stand anywhere in JSON; the marker must never come out of a fault.
MARKER = "Marker-Ada-Example"
ODD_VALUES = [
    None,
    True,
    False,
    0,
    -1,
    5,
    10**30,
    0.5,
    -0.5,
    1e308,
    "",
    MARKER,
    "0.5",
    "nan",
    "\x00",
    [],
    [MARKER],
    [[]],
    [None],
    [5],
    [{}],
    {},
    {"$oid": MARKER},
    {"$oid": 5},
    {"id": [MARKER]},
    {MARKER: MARKER},
    {"persons": {MARKER: 1}},
]
PERSON = {
    "id": "p-1",
    "score": 0.9,
    "name": "Bob Sample",
    "gender": "M",
    "date_of_birth": "1990-01-15",
    "nationality": "Exampleland",
    "notes": "n",
    "thumbnails": [{"id": "t", "thumbnail": "aW52ZW50ZWQ="}],
    "collections": ["c", {"id": "c", "code": "d", "name": "e", "count": 1}],
    "create_date": "2023-09-29T21:38:59.306976",
}
ANSWER = {
    "id": "SAU01",
    "success": True,
    "data": {
        "persons": [PERSON],
        "liveness": {
            "score": 0.9,
            "passed": True,
            "status": "success",
            "min_score": 0.6,
            "result": {"liveness_score": 0.9, "min_score": 0.6, "passed": True},
        },
        "liveness_score": 0.9,
    },
    "signature": {"message": "Certified", "dateTime": "January 16, 2024 3:44 PM"},
}


def paths(value, path=()):
    """Yield the path of every value in decoded JSON."""
    yield path
    items = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, inner in items:
        yield from paths(inner, (*path, key))


def replaced(path, value):
    """Return the full answer with one value changed."""
    copied = json.loads(json.dumps(ANSWER))
    if not path:
        return value
    spot = copied
    for key in path[:-1]:
        spot = spot[key]
    spot[path[-1]] = value
    return copied


def removed(path):
    """Return the full answer with one value left out."""
    copied = json.loads(json.dumps(ANSWER))
    spot = copied
    for key in path[:-1]:
        spot = spot[key]
    del spot[path[-1]]
    return copied


def with_score(text):
    """Return an answer with a score written as it is."""
    return b'{"id":"r-1","data":[{"id":"p","score":%b}]}' % text


def fault(module, body):
    """Decode what cannot be understood; return path and expectation."""
    found = module.Decoder().decode(body, CALL)
    assert isinstance(found, module.ShapeFault)
    return found.path, found.expected


def understood(module, body):
    """Decode what can be understood."""
    found = module.Decoder().decode(body, CALL)
    assert isinstance(found, SearchResult)
    return found


def matches(module, **fields):
    """Decode one person of these fields."""
    body = json.dumps({"data": [{"id": "p", **fields}]}).encode()
    return understood(module, body).best


def person_fault(module, **fields):
    """Decode one person of fields that cannot be understood."""
    return fault(module, json.dumps({"data": [{"id": "p", **fields}]}).encode())


def test_every_value_replaced_by_every_odd_one(convert, misfits):
    """Any value anywhere: right types or a fault, and no value in the fault."""
    decoder = convert.Decoder()
    kinds = set()
    for path in paths(ANSWER):
        for value in ODD_VALUES:
            found = decoder.decode(json.dumps(replaced(path, value)).encode(), CALL)
            kinds.add(type(found))
            if isinstance(found, SearchResult):
                assert misfits(found) == []
            else:
                told = f"{found.path} {found.expected}"
                assert found.path.startswith("$")
                assert MARKER not in told
                assert "Bob" not in told
                assert "p-1" not in told
    assert kinds == {SearchResult, convert.ShapeFault}


def test_only_data_and_ids_are_needed(convert, misfits):
    """Without any other part of the full answer there is a result of right types."""
    decoder = convert.Decoder()
    needed = set()
    for path in paths(ANSWER):
        if not path:
            continue
        found = decoder.decode(json.dumps(removed(path)).encode(), CALL)
        if isinstance(found, SearchResult):
            assert misfits(found) == []
        else:
            needed.add(path)
    assert needed == {("data",), ("data", "persons", 0, "id")}


@pytest.mark.parametrize(
    "score",
    [
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"1e999",
        b"-1e999",
        b"9" * 6000,
        b"0x1",
        b"01",
    ],
)
def test_numbers_that_are_none(convert, score):
    """NaN, infinity and numbers without end are faults."""
    found = convert.Decoder().decode(with_score(score), CALL)
    assert isinstance(found, convert.ShapeFault)
    assert found.path in {"$", "$.data[0].score"}


@pytest.mark.parametrize(
    ("score", "value"),
    [
        (b"0", 0.0),
        (b"-0.0", 0.0),
        (b"1", 1.0),
        (b"1.0", 1.0),
        (b"0.5", 0.5),
        (b"1e-400", 0.0),
        (b"0." + b"1" * 6000, 0.1111111111111111),
        (b"1.0000000001", 0.010000000001),
        (b"2", 0.02),
        (b"93", 0.93),
        (b"100", 1.0),
        (b'"0.5"', 0.5),
        (b'"1"', 1.0),
        (b'" 93.5 "', 0.935),
        (b'"5e-1"', 0.5),
        (b'"+1."', 1.0),
    ],
)
def test_scores_that_are_understood(convert, score, value):
    """Numbers and numeric text from 0 to 1, and percent above."""
    found = understood(convert, with_score(score)).best.score
    assert type(found) is float
    assert found == pytest.approx(value, rel=1e-12)
    assert 0 <= found <= 1


@pytest.mark.parametrize(
    "score",
    [
        b"-0.01",
        b"100.01",
        b"-1",
        b"1e308",
        b"1" * 30,
        b"true",
        b"false",
        b'""',
        b'"nan"',
        b'"inf"',
        b'"-1"',
        b'"101"',
        b'"1e400"',
        b'"0,5"',
        b'"1_0"',
        b'"0x1"',
        '"\N{ARABIC-INDIC DIGIT ONE}"'.encode(),
        b'"%s"' % (b"9" * 6000),
        b"[0.5]",
        b"{}",
        b'"93%"',
    ],
)
def test_scores_that_are_refused(convert, score):
    """Outside 0 to 100, other types and text that is no number: a path."""
    path, expected = fault(convert, with_score(score))
    assert path == "$.data[0].score"
    assert expected in {"a number", "a score from 0 to 1, or percent"}


@pytest.mark.parametrize("number", [b"1" * 2_000_000, b"0." + b"1" * 2_000_000])
def test_long_numeric_text_takes_no_time(convert, number):
    """Megabytes of digits do not keep the loop from its work."""
    began = time.perf_counter()
    convert.Decoder().decode(with_score(b'"%b"' % number), CALL)
    assert time.perf_counter() - began < 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"{'data':[]}",
        b'{"data":[]} x',
        b'{"data":[],}',
        b"\xff\xfe",
        b"<html>",
        b'{"data":[{"id":"\xe9"}]}',
        '{"data":[]}'.encode("utf-16"),
        '{"data":[]}'.encode("utf-16-be"),
        '{"data":[]}'.encode("utf-32"),
        b"\x00" * 100,
        b'{"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"data":' + b"[" * 100_000,
        b'{"data":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001,
        b'{"data":[],"x":' + b"9" * 6000 + b"}",
        b'{"data":[],"x":NaN}',
    ],
)
def test_bodies_that_are_no_json(convert, body):
    """Other encodings, bottomless nesting and broken JSON: one fault at the root."""
    assert fault(convert, body) == ("$", "JSON")


@pytest.mark.parametrize(
    "body", [b"null", b"[]", b'[{"id":"a"}]', b"5", b'"x"', b"true", b"0.5"]
)
def test_json_that_is_no_object(convert, body):
    """An envelope is an object."""
    assert fault(convert, body) == ("$", "an object")


def test_byte_order_mark(convert):
    """A mark before UTF-8 text is no fault."""
    assert understood(convert, b'\xef\xbb\xbf{"data":[]}').matches == ()


def test_text_outside_ascii(convert):
    """UTF-8 comes through as it is."""
    assert matches(convert, name="Zoë Exåmple 顔 🙂").name == "Zoë Exåmple 顔 🙂"


@pytest.mark.parametrize(
    "odd", [rb'"\ud800"', b"1e999", b"9" * 400], ids=["surrogate", "overflow", "long"]
)
def test_odd_values_in_unknown_fields_are_no_fault(odd, convert):
    """An answer that was paid for is not lost for a value that nobody asked for."""
    body = b'{"data":[{"id":"p"}],"x":%b}' % odd
    assert understood(convert, body).best.id == "p"


@pytest.mark.parametrize("brackets", [b"[]", b"{}"])
def test_deep_notes_are_kept_up_to_a_bound(brackets, convert):
    """Whoever copies or pickles a result goes down all its levels, too."""

    def body(levels):  # with the root, data and the person
        inner = b'{"a":' * (levels - 1) + b"{}" + b"}" * (levels - 1)
        if brackets == b"[]":
            inner = b"[" * levels + b"]" * levels
        return b'{"data":[{"id":"p","notes":%b}]}' % inner

    for levels in (10, convert.MAX_DEPTH - 3):
        found = understood(convert, body(levels))
        assert copy.deepcopy(pickle.loads(pickle.dumps(found))) == found
    for levels in (convert.MAX_DEPTH - 2, 400, 5_000, 100_000):
        fault = convert.Decoder().decode(body(levels), CALL)
        assert fault.path == "$"
        assert fault.expected in {"at most 100 levels", "JSON"}


def test_brackets_in_a_text_are_no_levels(convert):
    """Nor are commas in it values, unless there are absurdly many."""
    text = b"[{" * 5_000 + b"," * 5_000
    assert understood(convert, b'{"data":[],"x":"%b"}' % text).matches == ()
    assert understood(convert, b'{"data":[]}' + b" " * convert.MAX_VALUES)


def test_a_count_beyond_all_reason(convert):
    """Its digits get lost in one of the two readers, the answer in none."""
    found = matches(convert, collections=[{"id": "c", "count": 10**25}])
    assert found.collections[0].count == pytest.approx(10**25)


@pytest.mark.parametrize("name", ["thumbnails", "collections"])
def test_more_parts_than_a_match_may_have(name, convert):
    """Each of them costs a class."""
    body = json.dumps({"data": [{"id": "p", name: [{"id": "c"}] * 1_001}]}).encode()
    fault = convert.Decoder().decode(body, CALL)
    assert fault.path == f"$.data[0].{name}"
    assert fault.expected == "at most 1,000 items"


def test_to_tell_what_is_wrong_takes_no_time(convert):
    """The first of what is wrong is enough, however much is."""
    body = json.dumps({"data": [{"id": 5}] * convert.MAX_MATCHES}).encode()
    began = time.perf_counter()
    fault = convert.Decoder().decode(body, CALL)
    assert (fault.path, fault.expected) == ("$.data[0].id", "text")
    assert time.perf_counter() - began < 0.3


@pytest.mark.parametrize(
    ("body", "path", "expected"),
    [
        (b'{"data":[%b]}', "$.data", "at most 20,000 matches"),
        (b'{"data":{"persons":[%b]}}', "$.data.persons", "at most 20,000 matches"),
        (b'{"data":[],"x":[%b]}', "$", "at most 200,000 values"),
    ],
)
def test_more_than_an_answer_may_hold(body, path, expected, convert):
    """What would hold up everybody for seconds is refused in milliseconds."""
    most = convert.MAX_VALUES // 2 - 10 if path == "$" else convert.MAX_MATCHES
    few, many = (b",".join([b'{"id":1e0}'] * n) for n in (most, most * 3 // 2))
    few = few.replace(b"1e0", b'"p"')
    assert understood(convert, body % few)
    fault = convert.Decoder().decode(body % many, CALL)
    assert (fault.path, fault.expected) == (path, expected)


@pytest.mark.parametrize(
    ("envelope", "expected"),
    [
        ({}, ("$.data", "data")),
        ({"persons": []}, ("$.data", "data")),
        ({"success": False}, ("$.success", "success")),
        ({"success": False, "data": []}, ("$.success", "success")),
        ({"data": 0}, ("$.data", "an array or an object")),
        ({"data": False}, ("$.data", "an array or an object")),
        ({"data": ""}, ("$.data", "an array or an object")),
        ({"data": MARKER}, ("$.data", "an array or an object")),
        ({"data": {"match": {}}}, ("$.data", "persons or search")),
        ({"data": {"persons": {}}}, ("$.data.persons", "an array")),
        ({"data": {"search": MARKER}}, ("$.data.search", "an array")),
        ({"data": {"liveness": []}}, ("$.data.liveness", "an object")),
        ({"data": {"liveness": MARKER}}, ("$.data.liveness", "an object")),
        (
            {"data": {"persons": [], "liveness_score": MARKER}},
            ("$.data.liveness.score", "a number"),
        ),
        (
            {"data": {"persons": [], "liveness": {"passed": "true"}}},
            ("$.data.liveness.passed", "true or false"),
        ),
        (
            {"data": {"persons": [], "liveness": {"status": 1}}},
            ("$.data.liveness.status", "text"),
        ),
        ({"data": [], "id": 5}, ("$.id", "text")),
        ({"data": [], "id": {"$oid": None}}, ("$.id", "text")),
        ({"data": [], "signature": 5}, ("$.signature", "an object or text")),
        ({"data": [], "signature": []}, ("$.signature", "an object or text")),
        ({"data": [], "signature": {"message": 5}}, ("$.signature", "text")),
        ({"data": [], "signature": {"dateTime": []}}, ("$.signature", "text")),
        ({"data": [MARKER]}, ("$.data[0]", "an object")),
        ({"data": [None]}, ("$.data[0]", "an object")),
        ({"data": [{"id": "a"}, []]}, ("$.data[1]", "an object")),
        ({"data": [{"score": 1}]}, ("$.data[0].id", "a value")),
        ({"data": {"search": [{"id": "a"}, {}]}}, ("$.data.search[1].id", "a value")),
    ],
)
def test_paths_of_what_is_wrong(convert, envelope, expected):
    """The fault says where and what should be there."""
    assert fault(convert, json.dumps(envelope).encode()) == expected


@pytest.mark.parametrize(
    ("fields", "path", "expected"),
    [
        ({"id": None}, "id", "text"),
        ({"id": 5}, "id", "text"),
        ({"id": True}, "id", "text"),
        ({"id": {"oid": "x"}}, "id", "text"),
        ({"name": 5}, "name", "text"),
        ({"name": [MARKER]}, "name", "text"),
        ({"gender": True}, "gender", "text"),
        ({"nationality": {MARKER: 1}}, "nationality", "text"),
        ({"thumbnails": {}}, "thumbnails", "an array"),
        ({"thumbnails": "x"}, "thumbnails", "an array"),
        ({"thumbnails": [MARKER]}, "thumbnails[0]", "an object"),
        ({"thumbnails": [{}, {"id": 5}]}, "thumbnails[1].id", "text"),
        ({"thumbnails": [{"thumbnail": 5}]}, "thumbnails[0].thumbnail", "text"),
        ({"collections": {}}, "collections", "an array"),
        ({"collections": MARKER}, "collections", "an array"),
        ({"collections": ["a", 5]}, "collections[1]", "an object"),
        ({"collections": [{"name": 5}]}, "collections[0].name", "text"),
        ({"collections": [{"count": "1"}]}, "collections[0].count", "a whole number"),
        ({"collections": [{"count": True}]}, "collections[0].count", "a whole number"),
    ],
)
def test_paths_inside_a_person(convert, fields, path, expected):
    """Wrong types are refused, never coerced, and the path leads there."""
    assert person_fault(convert, **fields) == (f"$.data[0].{path}", expected)


def test_the_request_id_of_a_fault(convert):
    """An answer that is not understood still names its request."""
    found = convert.Decoder().decode(b'{"id":"SAU01","data":5}', CALL)
    assert found.request_id == "SAU01"
    found = convert.Decoder().decode(b'{"id":5,"data":[]}', CALL)
    assert found.request_id is None


def test_a_decoder_serves_on_after_a_fault(convert):
    """A bad answer leaves nothing behind."""
    decoder = convert.Decoder()
    for _ in range(2):
        assert isinstance(decoder.decode(b'{"data":[5]}', CALL), convert.ShapeFault)
        assert isinstance(decoder.decode(b'{"data":[]}', CALL), SearchResult)


def test_what_the_search_took_goes_into_the_result(convert):
    """The call's facts are handed through."""
    assert understood(convert, b'{"data":[]}').call is CALL


@pytest.mark.parametrize(
    "data", ["null", "[]", "{}", '{"persons":[]}', '{"persons":null}']
)
def test_nobody_found(convert, data):
    """Each way to say nobody is an empty result."""
    assert understood(convert, b'{"data":%b}' % data.encode()).matches == ()


def test_liveness_without_persons(convert):
    """An answer of liveness alone found nobody."""
    result = understood(convert, b'{"data":{"liveness":{"score":0.4}}}')
    assert (result.matches, result.liveness.score) == ((), 0.4)


def test_matches_come_best_first_and_stable(convert):
    """Equal scores keep the API's order; no score goes last."""
    persons = [("a", 0.5), ("b", None), ("c", 0.9), ("d", 0.5), ("e", 0), ("f", "95")]
    body = json.dumps({"data": [{"id": i, "score": s} for i, s in persons]}).encode()
    ids = [match.id for match in understood(convert, body).matches]
    assert ids == ["f", "c", "a", "d", "e", "b"]


def test_unknown_fields_go_to_extra(convert):
    """What is not known is kept, under its own name, an `extra` included."""
    match = matches(convert, age=40, extra={"x": 1}, _id="other", nested=[{"a": None}])
    assert match.extra == {"age": 40, "extra": {"x": 1}, "nested": [{"a": None}]}
    assert match.id == "p"


@pytest.mark.parametrize("name", ["thumbnails", "collections"])
def test_null_lists_are_empty(convert, name):
    """Null where a list belongs is no list."""
    assert getattr(matches(convert, **{name: None}), name) == ()


@pytest.mark.parametrize("notes", [None, 5, "text", [1], {"a": {"b": None}}])
def test_notes_are_any_json(convert, notes):
    """Notes come out as they were stored."""
    assert matches(convert, notes=notes).notes == notes


@pytest.mark.parametrize(
    ("told", "date"),
    [
        ("1990-01-15", dt.date(1990, 1, 15)),
        ("1990-01-15T23:59:59.999Z", dt.date(1990, 1, 15)),
        ({"year": 1990, "month": 1, "day": 15}, dt.date(1990, 1, 15)),
        ({"year": 1990, "month": 13, "day": 15}, None),
        ({"year": 10**30, "month": 1, "day": 1}, None),
        ({"year": "1990", "month": 1, "day": 1}, None),
        ({"year": 1990.5, "month": 1, "day": 1}, None),
        ({"year": 1990}, None),
        ({}, None),
        ("15/01/1990", None),
        ("1990-02-30", None),
        ("0000-00-00", None),
        ("", None),
        (None, None),
    ],
)
def test_dates_of_birth(convert, told, date):
    """A date, or None where the text is none; the answer is not lost for it."""
    assert matches(convert, date_of_birth=told).date_of_birth == date


def test_a_collections_null_id_gives_way(convert):
    """As with persons, `_id` counts where `id` is null."""
    match = matches(convert, collections=[{"id": None, "_id": "c-1"}])
    assert match.collections == (Collection(id="c-1"),)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("January 16, 2024 3:44 PM", (2024, 1, 16, 15, 44)),
        ("january 16, 2024 3:44 pm", (2024, 1, 16, 15, 44)),
        ("December 31, 2024 12:00 AM", (2024, 12, 31, 0, 0)),
        ("December 31, 2024 12:00 PM", (2024, 12, 31, 12, 0)),
        ("May 1, 2024, 11:59:58 AM", (2024, 5, 1, 11, 59, 58)),
        ("May 1, 2024 at 1:02 AM", (2024, 5, 1, 1, 2)),
        ("  May 1, 2024 1:02AM ", (2024, 5, 1, 1, 2)),
        ("2024-01-16T15:44:00", (2024, 1, 16, 15, 44)),
        ("2024-01-16T15:44:00+02:00", (2024, 1, 16, 15, 44)),
    ],
)
def test_signature_times(convert, text, moment):
    """English and ISO texts are read, without a zone."""
    assert convert.parse_date_time(text) == dt.datetime(*moment)  # noqa: DTZ001 - naive by contract


def test_a_signature_of_many_words(convert):
    """However much is said beside it, the time is understood."""
    signature = {"message": "x" * 1000, "dateTime": "January 16, 2024 3:44 PM"}
    body = json.dumps({"data": [], "signature": signature}).encode()
    assert understood(convert, body).signature.timestamp is not None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "enero 16, 2024 3:44 PM",
        "February 30, 2024 3:44 PM",
        "January 16, 2024 3:99 PM",
        "January 16, 0000 3:44 PM",
        "January 16, 2024",
        "16/01/2024 15:44",
        "\x00",
    ],
)
def test_signature_times_that_are_none(convert, text):
    """Other texts give None, and the text itself stays."""
    assert convert.parse_date_time(text) is None
    body = json.dumps({"data": [], "signature": {"dateTime": text}}).encode()
    signature = understood(convert, body).signature
    assert (signature.date_time, signature.timestamp) == (text, None)


@pytest.mark.parametrize("hour", ["13", "99", "0"])
def test_hours_beyond_twelve_are_no_time(convert, hour):
    """A time that is none on a twelve-hour clock is not guessed."""
    assert convert.parse_date_time(f"January 16, 2024 {hour}:44 PM") is None


def test_both_passes_agree(convert):
    """The slow converter, which finds the path, understands what the fast one does."""
    body = json.dumps(ANSWER).encode()
    fast = convert.Decoder().decode(body, CALL)
    slow = convert._result(json.loads(body), convert._detailed_parts(), CALL)
    assert slow == fast
    assert isinstance(fast.best, Match)


def test_a_large_answer_takes_no_time(convert):
    """Thousands of matches are structured within a moment."""
    body = json.dumps(
        {"data": [{"id": f"p-{n}", "score": n / 20_000} for n in range(20_000)]}
    ).encode()
    began = time.perf_counter()
    assert understood(convert, body).best.id == "p-19999"
    assert time.perf_counter() - began < 2
