"""The description of the API, held against the client, the stand-in and samples."""

import asyncio
import base64
import collections
import io
import json
import pathlib
import random
import sys

import aiohttp
import pytest
from jsonschema import Draft202012Validator
from support import OPTIONS, TOKEN
from support.openapi import (
    DESCRIPTION,
    FILE,
    PARTS,
    PATH,
    REQUEST,
    RESPONSES,
    problems,
)
from support.raw_server import raw_server

from verifik_async import OperatingSystem, SearchMode, VerifikClient, _wire
from verifik_async._images import SLICE
from verifik_async.testing import Fault, MockVerifik, _answers, _faults

IMAGE = b"ABC" * 25
GOOD = {
    "os": "DESKTOP",
    "min_score": 0.7,
    "search_mode": "FAST",
    "image": base64.b64encode(IMAGE).decode(),
}
ERRORS = sorted(int(status) for status in RESPONSES if status != "200")
SAMPLES = pathlib.Path(__file__).parents[1] / "samples" / "search-active-user"
# Seen in the documents or read by the vendor's front ends on this route; errors on its
# siblings too. All others show what a client should bear.
DOCUMENTED = (
    *("array", "object", "object-without-liveness"),
    *("400-error-only", "401-authentication-required", "401-with-signature"),
    *("402-insufficient-credits", "403-access-forbidden", "403-expired-token"),
    *("403-token-expired", "404-collection", "404-person"),
    *("409-duplicated-person", "409-liveness-failed", "409-missing-parameter"),
    *("409-out-of-range", "412-only-images", "412-with-person", "412-with-prefix"),
    *("500-internal", "503-unavailable"),
)
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "ignored_auth",
)
# Its own list of statuses that refuse wrong data has no 412.
SCHEMATHESIS = """
[checks]
negative_data_rejection.expected-statuses = [400, 401, 409, 412]
"""


@pytest.fixture
async def session():
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with aiohttp.ClientSession(headers=headers) as made:
        yield made


async def post(session, mock, body=None, **how):
    """Post a body; return status and answer, which are as described."""
    how = how or {"json": body}
    async with session.post(mock.url + PATH, **how) as response:
        answer = await response.json()
    described = RESPONSES[str(response.status)]
    assert response.content_type in described["content"]
    assert problems(described, answer) == []
    # A described header is sent where the stand-in's settings do not leave it out.
    if response.status == 429:
        assert set(described["headers"]) <= set(response.headers)
    return response.status, answer


def picture(size):
    return random.Random(size).randbytes(size)


def assert_described(request):
    """The request is one that the description allows."""
    method, path, _ = request.start_line.split()
    operation = DESCRIPTION["paths"][path][method.lower()]
    assert request.header("Content-Type") in operation["requestBody"]["content"]
    [[name]] = DESCRIPTION["security"]
    scheme = PARTS["securitySchemes"][name]["scheme"]
    assert request.header("Authorization").lower() == f"{scheme} {TOKEN}"
    assert problems(operation["requestBody"], json.loads(request.body)) == []


# The document itself


def references(part):
    """Yield every reference in a part of the document."""
    if isinstance(part, dict):
        yield from [part["$ref"]] if "$ref" in part else []
    for inner in part.values() if isinstance(part, dict) else part:
        if isinstance(inner, dict | list):
            yield from references(inner)


def test_schemas_are_schemas():
    """Each is valid by the meta-schema of JSON Schema 2020-12, OpenAPI 3.1's own."""
    assert DESCRIPTION["openapi"].startswith("3.1.")
    for schema in PARTS["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_references_lead_somewhere():
    """None points to a part that does not exist, and no part is left unused."""
    used = set(references(DESCRIPTION))
    there = {
        f"#/components/{kind}/{name}"
        for kind, parts in PARTS.items()
        for name in parts
        if kind != "securitySchemes"
    }
    assert used == there
    assert [set(PARTS["securitySchemes"])] == [set(s) for s in DESCRIPTION["security"]]


def test_path_of_the_client():
    """The path that the client asks for is the one described."""
    assert list(DESCRIPTION["paths"]) == [_wire.SEARCH_PATH]


def test_words_of_the_client():
    """The client's choices are the described ones."""
    fields = PARTS["schemas"]["Search"]["properties"]
    assert fields["os"]["enum"] == list(OperatingSystem)
    assert fields["search_mode"]["enum"] == list(SearchMode)


@pytest.mark.parametrize("described", [REQUEST, *RESPONSES.values()])
def test_examples_are_valid(described):
    """What the description shows is what it describes."""
    examples = described["content"]["application/json"]["examples"]
    for name, example in examples.items():
        assert (name, problems(described, example["value"])) == (name, [])


def test_servers_begin_with_a_stand_in():
    """Tools that take the first server do not search at the service's price."""
    assert DESCRIPTION["servers"][0]["url"].startswith("http://127.0.0.1:")


# What the client sends


async def search_once(image, **arguments):
    """Search once and return the request as the server saw it."""
    async with (
        raw_server() as server,
        VerifikClient(TOKEN, base_url=server.url, defaults=OPTIONS) as client,
    ):
        await client.search_active_user(image, **arguments)
    [request] = server.requests
    return request


@pytest.mark.parametrize("size", [75, 76, 77, 20_000, SLICE - 1, SLICE, 2 * SLICE + 1])
async def test_pictures_that_the_client_sends(size):
    """Bytes and text of any size and any padding are described bodies."""
    text = base64.encodebytes(picture(size)).decode()
    for image in (picture(size), text, "data:image/jpeg;base64," + text):
        assert_described(await search_once(image))


@pytest.mark.parametrize("os", OperatingSystem)
@pytest.mark.parametrize("mode", SearchMode)
async def test_choices_that_the_client_sends(os, mode, image):
    """Every platform and every mode, with the ends of the range of scores."""
    for score in (0.5, 1):
        request = await search_once(image, os=os, search_mode=mode, min_score=score)
        assert_described(request)


@pytest.mark.parametrize(
    "arguments",
    [
        {"collection_id": "c-1"},
        {"collection_id": None},
        {"extra": {"liveness_min_score": 0.65, "includeCost": True}},
        {"collection_id": "c-1", "extra": {"a": [None, {"b": "ñ"}]}},
    ],
)
async def test_optional_fields_that_the_client_sends(arguments, image):
    """With a collection, without one, and with fields that are not documented."""
    request = await search_once(image, **arguments)
    assert_described(request)
    sent = {k: v for k, v in json.loads(request.body).items() if k not in GOOD}
    extra = arguments.get("extra", {})
    assert sent == {k: v for k, v in arguments.items() if k != "extra" and v} | extra


# What the stand-in answers


@pytest.mark.parametrize("shape", ["array", "object"])
async def test_answers_of_either_shape(session, shape):
    """With and without matches, with and without what it cost."""
    async with MockVerifik(data_shape=shape) as mock:
        for people in range(3):
            for more in ({}, {"includeCost": True, "liveness_min_score": 0.99}):
                status, answer = await post(session, mock, GOOD | more)
                data = answer["data"]
                found = data if shape == "array" else data["persons"]
                assert (status, len(found)) == (200, people)
            mock.enroll(f"person-{people}", IMAGE, name="Ada", collection_id="c-1")


@pytest.mark.parametrize("field", [*PARTS["schemas"]["Search"]["required"], None])
async def test_a_field_that_is_missing(session, mock, field):
    """What the description requires, and nothing else, is a 409 when left out."""
    body = {name: value for name, value in GOOD.items() if name != field}
    status, answer = await post(session, mock, body)
    if field is None:
        assert (status, problems(REQUEST, body)) == (200, [])
    else:
        assert (status, answer["message"]) == (409, f'"{field}" is required')
        assert problems(REQUEST, body) == ["required @ $"]


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"min_score": 0.5}, 200),
        ({"min_score": 1}, 200),
        ({"whatever": [1]}, 200),
        ({"liveness_min_score": "x"}, 200),
        ({"image": "QUJD" * 25 + "QQ=="}, 200),
        ({"collection_id": "c-1"}, 200),
        ({"image": 5}, 409),
        ({"image": ""}, 409),
        ({"os": "LINUX"}, 409),
        ({"os": None}, 409),
        ({"min_score": 0.49}, 409),
        ({"min_score": 1.01}, 409),
        ({"min_score": "0.7"}, 409),
        ({"min_score": True}, 409),
        ({"search_mode": "fast"}, 409),
        ({"collection_id": 7}, 409),
        ({"collection_id": ""}, 409),
        ({"collection_id": None}, 409),
        ({"image": "QUJD" * 24}, 412),
        ({"image": "QUJD" * 25 + "QQ"}, 412),
        ({"image": "QUJD" * 25 + "Q==="}, 412),
        ({"image": "data:image/png;base64," + "QUJD" * 40}, 412),
        ({"image": "QUJD\n" * 40}, 412),
        ({"image": "QU-_" * 40}, 412),
    ],
)
async def test_description_and_stand_in_agree(session, changes, status):
    """What one of them takes the other takes, and so with what is refused."""
    async with MockVerifik(collections=["c-1"]) as mock:
        assert (await post(session, mock, GOOD | changes))[0] == status
    found = [problem.split(" @ ")[1] for problem in problems(REQUEST, GOOD | changes)]
    assert set(found) == (set() if status == 200 else {f"$.{name}" for name in changes})


@pytest.mark.parametrize(
    ("authorization", "status"),
    [("", 401), ("Bearer unknown", 401), ("Bearer old", 403), ("Bearer good", 200)],
)
async def test_answers_to_tokens(authorization, status):
    """Without a token, with one that is not known, and with one that has expired."""
    async with (
        MockVerifik(tokens=["good"], expired_tokens=["old"]) as mock,
        aiohttp.ClientSession(headers={"Authorization": authorization}) as session,
    ):
        assert (await post(session, mock, GOOD))[0] == status


async def test_answers_to_bodies_that_are_no_search(session, mock):
    """No JSON, an unknown collection, and far too much."""
    kind = {"headers": {"Content-Type": "application/json"}}
    assert (await post(session, mock, data=b"{", **kind))[0] == 400
    assert (await post(session, mock, GOOD | {"collection_id": "c"}))[0] == 404
    large = io.BytesIO(bytes(33 * 1024 * 1024))
    assert (await post(session, mock, data=large, **kind))[0] == 413


async def test_answer_to_too_many_requests(session):
    """A throttle says when to come back, as described."""
    async with MockVerifik(rate=0.001, burst=1) as mock:
        assert (await post(session, mock, GOOD))[0] == 200
        assert (await post(session, mock, GOOD))[0] == 429


@pytest.mark.parametrize("status", ERRORS)
async def test_scripted_errors(session, mock, status):
    """The usual body of every status is the described one."""
    mock.script(Fault.status(status, retry_after=1))
    assert (await post(session, mock, GOOD))[0] == status


def test_scripted_errors_are_complete():
    """Each status whose words the stand-in knows is described, and no other."""
    assert set(_faults._KNOWN) == set(ERRORS)


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_web_pages_of_gateways(session, mock, status):
    """Where a gateway may write HTML, the description says so."""
    mock.script(Fault.html(status))
    async with session.post(mock.url + PATH, json=GOOD) as response:
        assert response.content_type in RESPONSES[str(response.status)]["content"]


async def test_wrong_method_names_the_right_one(session, mock):
    """A 405 lists the methods that there are, as RFC 9110 has it."""
    async with session.get(mock.url + PATH) as response:
        assert response.status == 405
        allowed = response.headers["Allow"].split(", ")
    assert [name.lower() for name in allowed] == list(DESCRIPTION["paths"][PATH])


@pytest.mark.parametrize("decoder", ["any", "the standard library's"])
async def test_deep_json_is_no_json(session, mock, decoder, monkeypatch):
    """A body nested more deeply than the decoder can follow is refused, no crash."""
    if decoder != "any":
        monkeypatch.setattr(_answers, "orjson", None)
    deep = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    headers = {"Content-Type": "application/json"}
    assert (await post(session, mock, data=deep, headers=headers))[0] == 400


# Samples


@pytest.mark.parametrize("name", DOCUMENTED)
def test_documented_samples(name):
    """Samples that show what sources show are valid by their status."""
    status = name[:3] if name[:3].isdigit() else "200"
    sample = json.loads((SAMPLES / f"{name}.json").read_text(encoding="utf-8"))
    assert problems(RESPONSES[status], sample) == []


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (200, []),
        (200, {}),
        (200, {"data": None}),
        (200, {"data": {}}),
        (200, {"data": [{"score": 0.9}]}),
        (200, {"data": [{"id": "p"}]}),
        (200, {"data": [{"id": "p", "score": 93}]}),
        (200, {"data": [{"id": "p", "score": "0.9"}]}),
        (200, {"data": {"persons": [{"id": 5, "score": 0.9}]}}),
        (200, {"data": [], "signature": {}}),
        (409, []),
        (409, {}),
        (409, {"code": "MissingParameter"}),
        (409, {"message": "", "code": "MissingParameter"}),
        (409, {"message": "x", "code": 5}),
        (409, {"success": True, "message": "x"}),
    ],
)
def test_what_is_no_answer(status, answer):
    """The description is not so wide that anything is an answer."""
    assert len(problems(RESPONSES[str(status)], answer)) == 1


# Requests that a tool makes up


@pytest.mark.parametrize(
    ("shape", "phases"),
    [("array", "examples,coverage"), ("object", "examples,coverage,fuzzing")],
)
async def test_generated_requests(shape, phases, tmp_path):
    """Schemathesis finds nothing in the stand-in that is not as described."""
    pytest.importorskip("schemathesis")
    (tmp_path / "schemathesis.toml").write_text(SCHEMATHESIS)
    async with MockVerifik(tokens=[TOKEN], data_shape=shape) as mock:
        # Whom the description's examples find.
        example = REQUEST["content"]["application/json"]["examples"]["collection"]
        code = example["value"]["collection_id"]
        mock.enroll("person-1", IMAGE, collection_id=code)
        # Apart from this process: its own settings and warnings stay there.
        tool = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "run", FILE),
            *("--url", mock.url, "--header", f"Authorization: Bearer {TOKEN}"),
            *("--checks", ",".join(CHECKS), "--phases", phases),
            *("--max-examples", "100", "--generation-deterministic"),
            *("--continue-on-failure", "--no-color"),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await tool.communicate()
        seen = collections.Counter(request.status for request in mock.requests)
    # Shown by `pytest -rP`.
    print(f"{mock.hits} requests, by status: {dict(sorted(seen.items()))}")  # noqa: T201
    assert tool.returncode == 0, output.decode()
    assert {200, 401, 404, 405, 409, 412} <= set(seen)
    assert seen[200] > 10
