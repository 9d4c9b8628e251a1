"""What holds for any picture, any text, any JSON and any answer."""

import base64
import json
import random
from collections.abc import AsyncIterator

import attrs
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support import OPTIONS, TOKEN
from support.raw_server import OK, raw_server

from verifik_async import RetryPolicy, SearchResult, VerifikClient, VerifikError
from verifik_async._config import OWN_FIELDS
from verifik_async._images import PIECE, SLICE

# The same examples each time: a run that fails can be run again.
several = settings(
    max_examples=100,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
sizes = st.one_of(
    st.integers(1, 2_000),
    st.sampled_from([SLICE - 1, SLICE, SLICE + 1, 2 * SLICE + 1, PIECE + 1]),
    st.integers(1, 1_000_000),
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=12,
)
# JSON of the answer's own words: it gets deeper into the decoder than any JSON.
words = st.sampled_from(
    [
        "id",
        "_id",
        "$oid",
        "data",
        "persons",
        "search",
        "score",
        "name",
        "gender",
        "date_of_birth",
        "year",
        "month",
        "day",
        "thumbnails",
        "thumbnail",
        "collections",
        "code",
        "count",
        "liveness",
        "liveness_score",
        "passed",
        "min_score",
        "result",
        "signature",
        "message",
        "dateTime",
        "success",
        "error",
        "detail",
        "msg",
    ]
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 101),
    st.floats(-1, 101),
    st.sampled_from(["", "0.9", "nan", "1990-05-07", "token_expired", "ERR_X", "{"]),
)
answers = st.dictionaries(
    words,
    st.recursive(
        scalars,
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4)
        ),
        max_leaves=15,
    ),
    max_size=6,
)
bodies = st.one_of(
    answers.map(json.dumps).map(str.encode),
    json_values.map(json.dumps).map(str.encode),
    st.binary(max_size=200),
)
statuses = st.one_of(st.just(200), st.integers(200, 599))


class Wire:
    """A client, what its server saw last, and what the server answers next."""

    def __init__(self, client: VerifikClient) -> None:
        self.client = client
        self.body = b""
        self.answer = OK

    @property
    def fields(self) -> dict[str, object]:
        return json.loads(self.body)


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    async def answer(request, writer):
        wire.body = request.body
        writer.write(wire.answer)

    never = RetryPolicy(attempts=1, base_delay=0.05, max_delay=0.05)
    async with (
        raw_server(answer) as server,
        VerifikClient(
            TOKEN, base_url=server.url, defaults=OPTIONS, retry=never
        ) as client,
    ):
        wire = Wire(client)
        yield wire
        server.requests.clear()


@several
@given(size=sizes, seed=st.integers(0, 9), as_text=st.booleans())
async def test_any_picture_arrives_as_it_is(wire, size, seed, as_text):
    """The base64 on the wire decodes to the picture, whatever its size."""
    picture = random.Random(seed).randbytes(size)
    as_text = as_text and size >= 75
    await wire.client.search_active_user(
        base64.b64encode(picture).decode() if as_text else picture
    )
    sent = wire.fields["image"]
    assert base64.b64decode(sent, validate=True) == picture


@several
@given(
    collection_id=st.text() | st.text(st.characters()),
    extra=st.dictionaries(
        st.text().filter(lambda name: name not in OWN_FIELDS), json_values, max_size=4
    ),
)
async def test_any_collection_and_any_extra_make_a_valid_body(
    wire, image, collection_id, extra
):
    """The body is JSON with these fields in it."""
    await wire.client.search_active_user(
        image, collection_id=collection_id, extra=extra
    )
    fields = wire.fields
    assert fields["collection_id"] == collection_id
    assert {name: fields[name] for name in extra} == extra
    assert fields["image"] == base64.b64encode(image).decode()


@attrs.frozen
class Checked:
    """What a result may hold, by type."""

    result: SearchResult

    def assert_types(self) -> None:
        assert self.result.id is None or type(self.result.id) is str
        for match in self.result.matches:
            assert type(match.id) is str
            assert match.score is None or 0.0 <= match.score <= 1.0
            assert match.name is None or type(match.name) is str
        if self.result.liveness is not None:
            assert self.result.liveness.passed in (None, True, False)


@settings(several, max_examples=400)
@given(status=statuses, body=bodies)
@example(status=204, body=b"")
@example(status=500, body=b'{"message":' + b"[" * 5_000)
@example(status=409, body=b'{"message":"' + b"9" * 6_000 + b'"}')
@example(status=200, body=b"9" * 6_000)
@example(status=429, body=b"\xff\xfe")
async def test_any_answer_gives_a_result_or_our_error(wire, image, status, body):
    """Nothing else comes out, whatever the service writes."""
    no_body = status in {204, 304}
    head = b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n"
    wire.answer = (
        b"HTTP/1.1 %d X\r\n\r\n" % status
        if no_body
        else head % (status, len(body)) + body
    )
    try:
        result = await wire.client.search_active_user(image, deadline=0.2)
    except VerifikError as error:
        assert error.charge in ("answered", "maybe_charged")  # noqa: PT017
        assert str(error)  # noqa: PT017 - an error is one of two good ends
    else:
        assert 200 <= status < 300
        Checked(result).assert_types()
