"""What comes back: results, every error of the tree, and hostile answers."""

import gzip
import json

import pytest
from support import OPTIONS, QUICK, TOKEN
from support.raw_server import raw_server

from verifik_async import Charge, VerifikClient, errors
from verifik_async.testing import Fault, MockVerifik

ONE_REQUEST = [
    (400, {"error": "Invalid request"}, errors.InvalidRequestError),
    (401, {"message": "Authentication required"}, errors.AuthenticationError),
    (402, {"message": "no", "code": "PaymentRequired"}, errors.PaymentRequiredError),
    (409, {"message": "insufficient_credits"}, errors.PaymentRequiredError),
    (403, {"message": "token_expired"}, errors.AuthenticationError),
    (403, {"message": "Access forbidden"}, errors.PermissionDeniedError),
    (404, {"message": "invalid_collection"}, errors.NotFoundError),
    (405, {}, errors.APIStatusError),
    (409, {"message": "name_too_short"}, errors.InvalidRequestError),
    (412, {"message": "only_images_in_base64"}, errors.InvalidRequestError),
    (422, {"message": "ERR_NO_FACE_DETECTED"}, errors.FaceRejectedError),
    (423, {"code": "Locked"}, errors.APIStatusError),
    (501, {}, errors.ServerError),
]


@pytest.mark.parametrize("shape", ["array", "object"])
async def test_both_shapes_of_data(shape, image):
    """An enrolled picture is found, whichever shape the service answers in."""
    async with (
        MockVerifik(data_shape=shape) as mock,
        VerifikClient(TOKEN, base_url=mock.url, defaults=OPTIONS) as client,
    ):
        mock.enroll("person-1", image, name="Invented Person")
        result = await client.search_active_user(image)
    assert result.best is not None
    assert (result.best.id, result.best.score) == ("person-1", 1.0)
    assert result.call.status == 200
    assert result.call.attempts == 1
    assert result.signature.timestamp is not None
    assert (result.liveness is not None) == (shape == "object")


async def test_nobody_found_is_a_normal_answer(client, image):
    """An empty list of matches is a result, not an error."""
    result = await client.search_active_user(image)
    assert result.matches == ()
    assert result.best is None


@pytest.mark.parametrize(("status", "body", "kind"), ONE_REQUEST)
async def test_refusals_are_typed_and_never_sent_again(
    status, body, kind, client, mock, image
):
    """Each status has its class; a refusal is paid, or not, exactly once."""
    mock.script(Fault.body(body, status=status))
    with pytest.raises(kind) as caught:
        await client.search_active_user(image)
    error = caught.value
    assert type(error) is kind
    assert (error.status, error.attempts) == (status, 1)
    assert error.charge is Charge.ANSWERED
    assert mock.hits == 1


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_server_errors_are_sent_again(status, client, mock, image):
    """A server that recovers costs attempts, not the search."""
    mock.script(Fault.status(status), Fault.status(status))
    result = await client.search_active_user(image)
    assert result.call.attempts == 3
    assert result.call.maybe_charged == (2 if status in (502, 504) else 0)


async def test_attempts_come_to_an_end(client, mock, image):
    """Four attempts by default, then the last error with the worst charge."""
    mock.script(Fault.status(502), *[Fault.status(500)] * 9)
    with pytest.raises(errors.ServerError) as caught:
        await client.search_active_user(image)
    assert caught.value.attempts == mock.hits == 4
    assert caught.value.charge is Charge.MAYBE_CHARGED


async def test_missing_parameter_names_the_field(image):
    """The service's own validation answer becomes a `.parameter`."""
    async with (
        raw_server(
            lambda _, writer: _write(
                writer,
                409,
                b'{"message":"\\"os\\" is required","code":"MissingParameter"}',
            )
        ) as server,
        VerifikClient(TOKEN, base_url=server.url, defaults=OPTIONS) as client,
    ):
        with pytest.raises(errors.MissingParameterError) as caught:
            await client.search_active_user(image)
    assert caught.value.parameter == "os"
    assert caught.value.code == "MissingParameter"


async def _write(writer, status, body, headers=b""):
    writer.write(
        b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n%s\r\n" % (status, len(body), headers)
        + body
    )


HOSTILE = {
    "html": b"<html>busy</html>",
    "empty": b"",
    "null": b"null",
    "array": b"[]",
    "truncated": b'{"data":[{"id":"a"',
    "latin-1": '{"data":[{"id":"ñ"}]}'.encode("latin-1"),
    "nan": b'{"data":[{"id":"a","score":NaN}]}',
    "infinity": b'{"data":[{"id":"a","score":1e999}]}',
    "deep": b'{"data":' + b"[" * 100_000,
    "deep and closed": b'{"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "long number": b'{"data":[{"id":"a","score":' + b"9" * 6000 + b"}]}",
    "no data": b'{"id":"AAAAA"}',
    "failure": b'{"success":false,"data":[]}',
    "text for a list": b'{"data":"abc"}',
    "number for an id": b'{"data":[{"id":5,"score":0.9}]}',
    "score as true": b'{"data":[{"id":"a","score":true}]}',
    "score of 101": b'{"data":[{"id":"a","score":101}]}',
    "name as list": b'{"data":[{"id":"a","name":["x"]}]}',
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_success_that_makes_no_sense(name, client, mock, image):
    """A 2xx body that is no answer: `ResponseShapeError` with a path, once."""
    body = HOSTILE[name]
    mock.script(Fault.body(body))
    with pytest.raises(errors.ResponseShapeError) as caught:
        await client.search_active_user(image)
    assert caught.value.path.startswith("$")
    assert caught.value.status == 200
    assert caught.value.__context__ is None
    assert mock.hits == 1


async def test_unknown_fields_are_kept(client, mock, image):
    """What the service adds one day is in `extra` and in `raw`."""
    person = {"_id": {"$oid": "p-1"}, "score": "87", "mood": "fine"}
    mock.script(Fault.body({"data": {"persons": [person]}, "credits": {"amount": 1}}))
    result = await client.search_active_user(image)
    assert result.best.id == "p-1"
    assert result.best.score == pytest.approx(0.87)
    assert result.best.extra == {"mood": "fine"}
    assert result.raw["credits"] == {"amount": 1}


async def test_best_match_comes_first(client, mock, image):
    """Matches are sorted here, the service's order notwithstanding."""
    scores = [0.7, None, 0.9, 0.8]
    persons = [{"id": str(score), "score": score} for score in scores]
    mock.script(Fault.body({"data": persons}))
    result = await client.search_active_user(image)
    assert [match.score for match in result.matches] == [0.9, 0.8, 0.7, None]


async def test_a_compressed_answer_is_read(image):
    """Gzip is what we say that we understand."""
    body = gzip.compress(json.dumps({"data": [{"id": "a", "score": 1}]}).encode())

    async def answer(request, writer):
        assert request.header("Accept-Encoding") == "gzip"
        await _write(writer, 200, body, b"Content-Encoding: gzip\r\n")

    async with (
        raw_server(answer) as server,
        VerifikClient(TOKEN, base_url=server.url, defaults=OPTIONS) as client,
    ):
        assert (await client.search_active_user(image)).best.id == "a"


@pytest.mark.parametrize(
    "fault",
    [Fault.gzip_bomb(50), Fault.body(b" " * 2_000_000)],
    ids=["inflated", "announced"],
)
async def test_an_answer_over_the_limit(fault, mock, image):
    """A body, or what it would inflate to, never takes more than the limit."""
    async with VerifikClient(
        TOKEN, base_url=mock.url, defaults=OPTIONS, max_response_bytes=1_000_000
    ) as client:
        mock.script(fault)
        with pytest.raises(errors.ResponseTooLargeError) as caught:
            await client.search_active_user(image)
        assert caught.value.limit == 1_000_000
        assert caught.value.charge is Charge.ANSWERED
        assert (await client.search_active_user(image)).call.status == 200


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_never_followed(status, client, mock, image):
    """Token and face stay here; both origins are told, the path is not."""
    async with raw_server() as elsewhere:
        mock.script(Fault.redirect(status, f"{elsewhere.url}/a/secret?path"))
        with pytest.raises(errors.RedirectError) as caught:
            await client.search_active_user(image)
        assert elsewhere.connections == 0
    assert caught.value.status == status
    assert caught.value.origin == mock.url
    assert caught.value.target == elsewhere.url
    assert "secret" not in str(caught.value)


async def test_the_request_id_is_kept_for_support(client, mock, image):
    """The answer's own id, of results and of errors."""
    mock.script(
        Fault.body({"id": "9DVKW", "data": []}),
        Fault.body({"id": "SAU02", "message": "name_too_short"}, status=409),
    )
    assert (await client.search_active_user(image)).id == "9DVKW"
    with pytest.raises(errors.InvalidRequestError) as caught:
        await client.search_active_user(image)
    assert caught.value.request_id == "SAU02"
    assert caught.value.reason == "name_too_short"


async def test_a_proxys_page_is_described_not_repeated(mock, image):
    """Of a page that is not the API's, kind and title are told."""
    async with VerifikClient(
        TOKEN, base_url=mock.url, defaults=OPTIONS, retry=QUICK
    ) as client:
        mock.script(*[Fault.html(502)] * 4)
        with pytest.raises(errors.ServerError) as caught:
            await client.search_active_user(image)
    assert "not JSON but text/html" in caught.value.message
    assert "<" not in caught.value.message
