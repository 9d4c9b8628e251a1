"""Request out, verdict in: what is sent, and what an answer means."""

import base64
import datetime as dt
import email.utils
import gzip
import json
import random
import re
import time
import zlib

import pytest
from multidict import CIMultiDict

from verifik_async import _sanitize, errors
from verifik_async._config import SearchOptions
from verifik_async._convert import Decoder
from verifik_async._types import Charge, Masked, OperatingSystem, SearchMode
from verifik_async._wire import (
    BODY_END,
    Inflater,
    Reply,
    body_start,
    interpret,
    parse_retry_after,
    too_large,
)
from verifik_async.models import CallInfo, SearchResult
from verifik_async.rules import is_throttle

ORIGIN = "https://api.verifik.co"
SECRET = "opaque+secret/0123=="
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl-_x"
DECODER = Decoder()
NOW = dt.datetime(2026, 3, 4, 12, 0, 0, tzinfo=dt.UTC)
OPTIONS = SearchOptions(os="IOS", min_score=0.7, search_mode="FAST")


def sent(**changes):
    """Return the fields that a server reads of a request, with a picture QUJD."""
    options = SearchOptions(
        **{"os": "IOS", "min_score": 0.7, "search_mode": "FAST", **changes}
    )
    return json.loads(body_start(options) + b"QUJD" + BODY_END)


def understand(status, body, **headers):
    """Interpret an answer; a dict becomes JSON, header names get hyphens."""
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    named = CIMultiDict((k.replace("_", "-"), v) for k, v in headers.items())
    reply = Reply(status, named, body)
    return interpret(
        reply, DECODER, call=CallInfo(attempts=1), origin=ORIGIN, secret=Masked(SECRET)
    )


def refused(status, message=None, code=None, **more):
    """Interpret a refusal of a message and a code."""
    body = {"message": message, "code": code, **more}
    return understand(status, {k: v for k, v in body.items() if v is not None})


# -- the request -----------------------------------------------------------------


def test_fields_of_a_request():
    """The documented fields, the picture last, and nothing else."""
    assert sent(collection_id="c") == {
        "os": "IOS",
        "min_score": 0.7,
        "search_mode": "FAST",
        "collection_id": "c",
        "image": "QUJD",
    }
    assert list(sent())[-1] == "image"


def test_a_collection_that_is_not_given_is_not_sent():
    """Null might mean something else to the API than a missing field."""
    assert "collection_id" not in sent()


@pytest.mark.parametrize("given", [OperatingSystem.IOS, "IOS"], ids=["member", "text"])
def test_enum_members_are_sent_as_their_words(given):
    """Members and plain strings are the same on the wire."""
    body = sent(os=given, search_mode=SearchMode.ACCURATE)
    assert (body["os"], body["search_mode"]) == ("IOS", "ACCURATE")


@pytest.mark.parametrize(
    "code",
    [
        "",
        'a"b',
        "a\\b",
        "line\nbreak\r\t\x00",
        "Zoë 顔 🙂",
        "\ud800",
        "\u2028",
        "</script>",
        '","image":"x',
        "x" * 100_000,
    ],
)
def test_odd_collection_ids_stay_what_they_are(code):
    """Any text arrives as it is and opens no way into the other fields."""
    body = sent(collection_id=code)
    assert body["collection_id"] == code
    assert body["image"] == "QUJD"
    assert len(body) == 5


def test_a_request_is_ascii():
    """Escapes keep every body valid UTF-8, a lone surrogate's too."""
    start = body_start(
        SearchOptions(
            os="IOS", min_score=0.7, search_mode="FAST", collection_id="\udfff 顔"
        )
    )
    assert start.isascii()


@pytest.mark.parametrize(
    ("given", "text"), [(1, b"1.0"), (0.5, b"0.5"), (0.75, b"0.75")]
)
def test_min_score_is_sent_as_a_decimal(given, text):
    """Whole numbers become decimals; nothing is rounded."""
    start = body_start(SearchOptions(os="IOS", min_score=given, search_mode="FAST"))
    assert b'"min_score":' + text + b"," in start


def test_extra_fields_are_sent_as_they_are():
    """Nested JSON, null and odd names included."""
    extra = {"liveness_min_score": 0.65, 'q"': [None, {"a": True}], "顔": "🙂"}
    body = sent(extra=extra)
    assert {name: body[name] for name in extra} == extra


@pytest.mark.parametrize("extra", [None, {}])
def test_no_extra(extra):
    """Empty and missing extras send nothing."""
    assert set(sent(extra=extra)) == {"os", "min_score", "search_mode", "image"}


# -- classes ---------------------------------------------------------------------

CLASSES = [
    (400, errors.InvalidRequestError),
    (401, errors.AuthenticationError),
    (402, errors.PaymentRequiredError),
    (403, errors.PermissionDeniedError),
    (404, errors.NotFoundError),
    (405, errors.APIStatusError),
    (408, errors.APIStatusError),
    (409, errors.InvalidRequestError),
    (410, errors.APIStatusError),
    (412, errors.InvalidRequestError),
    (413, errors.APIStatusError),
    (418, errors.APIStatusError),
    (422, errors.InvalidRequestError),
    (423, errors.APIStatusError),
    (429, errors.RateLimitedError),
    (499, errors.APIStatusError),
    (500, errors.ServerError),
    (501, errors.ServerError),
    (502, errors.ServerError),
    (503, errors.ServerError),
    (504, errors.ServerError),
    (520, errors.ServerError),
    (599, errors.ServerError),
]


@pytest.mark.parametrize(("status", "kind"), CLASSES)
def test_class_of_a_status(status, kind):
    """Without words the status decides."""
    error = refused(status)
    assert type(error) is kind
    assert error.status == status


@pytest.mark.parametrize(("status", "_"), CLASSES)
def test_charge_of_a_status(status, _):
    """A status came: answered, but for a proxy's 502 and 504."""
    expected = Charge.MAYBE_CHARGED if status in (502, 504) else Charge.ANSWERED
    assert refused(status).charge is expected


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("insufficient_credits", None),
        ("409:insufficient_credits", None),
        ("insufficient_credits@5", None),
        ("Insufficient credits", None),
        ("insufficient balance on the account", None),
        ("Insufficient funds", None),
        (None, "PaymentRequired"),
        (None, "payment_required"),
        (None, "InsufficientCredits"),
        ("Payment required", "ERROR"),
    ],
)
@pytest.mark.parametrize("status", [400, 402, 403, 409, 412, 422])
def test_words_of_payment_win(status, message, code):
    """Used-up credits have their class, whatever status carries them."""
    error = refused(status, message, code)
    assert type(error) is errors.PaymentRequiredError
    assert error.status == status


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("token_expired", "FORBIDDEN"),
        ("expired_token", "Forbidden"),
        ("Token expired", None),
        ("403:token_expired", None),
        ("TOKEN_EXPIRED", None),
        (None, "token_expired"),
        ("The token has expired.", None),
        pytest.param("jwt expired", "Forbidden"),
    ],
)
def test_403_of_an_expired_token(message, code):
    """403 that says that the token has expired is no lack of permission."""
    assert type(refused(403, message, code)) is errors.AuthenticationError


@pytest.mark.parametrize("message", ["Access forbidden", "FORBIDDEN", "", None])
def test_403_otherwise(message):
    """403 without such words is about permission."""
    assert type(refused(403, message)) is errors.PermissionDeniedError


def test_words_of_expiry_mean_nothing_elsewhere():
    """Only 403 is split by them."""
    assert type(refused(404, "token_expired")) is errors.NotFoundError
    assert type(refused(500, "token_expired")) is errors.ServerError


@pytest.mark.parametrize(
    ("message", "parameter"),
    [
        ('"os" is required', "os"),
        ('"min_score" is required', "min_score"),
        (
            '"liveness_min_score" must be greater than or equal to 0.52',
            "liveness_min_score",
        ),
        ('"images[0]" must be a string', "images[0]"),
        ('"data.image" is not allowed to be empty', "data.image"),
        ("name is required", "name"),
        ("missing Authorization header", None),
        ("generic", None),
        ("", None),
    ],
)
@pytest.mark.parametrize("status", [400, 409, 412, 422])
def test_missing_parameter(status, message, parameter):
    """The code makes the class, the text names the field."""
    error = refused(status, message, "MissingParameter")
    assert type(error) is errors.MissingParameterError
    assert (error.parameter, error.message) == (parameter, message)


@pytest.mark.parametrize("status", [401, 404, 500])
def test_missing_parameter_under_other_statuses(status):
    """The code splits refusals only."""
    error = refused(status, '"os" is required', "MissingParameter")
    assert not isinstance(error, errors.MissingParameterError)


def test_a_named_parameter_without_the_code():
    """Without the code nothing says that a field is the fault."""
    assert type(refused(409, '"os" is required', "ERROR")) is errors.InvalidRequestError


REASONS = [
    "no_face_detected",
    "multiple_faces_detected",
    "face_occluded",
    "face_close_to_border",
    "face_not_centered",
    "face_too_far",
    "face_too_close",
    "face_rotation_too_large",
    "poor_lighting",
    "liveness_failed",
    "liveness_error",
]


@pytest.mark.parametrize("reason", REASONS)
@pytest.mark.parametrize(
    "form", ["{}", "409:{}", "412: {}", "{}@0.45", "{} (0.45)", "409:{}@", "CODE"]
)
@pytest.mark.parametrize("status", [400, 409, 412, 422])
def test_face_reasons_in_every_form(reason, form, status):
    """A refused picture has its class and its reason, wherever that stands."""
    if form == "CODE":
        error = refused(status, "The picture is unfit for it", reason.upper())
    else:
        error = refused(status, form.format(reason), "ERROR")
    assert type(error) is errors.FaceRejectedError
    assert error.reason == reason


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("ERR_NO_FACE_DETECTED", "no_face_detected"),
        ("ERR_MULTIPLE_FACES_DETECTED", "multiple_faces_detected"),
        ("ERR_LIVENESS_FACE_TOO_SMALL", "face_too_far"),
        ("ERR_LIVENESS_FACE_CLOSE_TO_BORDER", "face_close_to_border"),
        ("ERR_LIVENESS_FACE_ANGLE_TOO_LARGE", "face_rotation_too_large"),
        ("ERR_LIVENESS_FAILED", "liveness_failed"),
        ("LIVENESS_CHECK_FAILED", "liveness_failed"),
        ("the image has more than one face", "multiple_faces_detected"),
        ("image is invalid for checking liveness", "liveness_error"),
    ],
)
@pytest.mark.parametrize("place", ["message", "code", "prefixed", "nested"])
def test_words_of_the_engine(words, reason, place):
    """The engine's own words mean the documented reasons."""
    body = {
        "message": {"message": words, "code": "ERROR"},
        "code": {"message": "The picture is unfit", "code": words},
        "prefixed": {"message": f"409:{words}", "code": "ERROR"},
        "nested": {"data": {"message": words}},
    }[place]
    error = understand(409, body)
    assert type(error) is errors.FaceRejectedError
    assert error.reason == reason


def test_words_of_the_engine_in_a_nested_code():
    """The provider's code beneath a general one still tells the reason."""
    error = understand(
        409,
        {
            "message": "The request failed",
            "code": "ERROR",
            "data": {"code": "ERR_NO_FACE_DETECTED"},
        },
    )
    assert type(error) is errors.FaceRejectedError


def test_engine_words_as_detail():
    """A token of no capture fault may have one as its detail."""
    error = refused(409, "409:enrolment_refused@ERR_NO_FACE_DETECTED")
    assert type(error) is errors.FaceRejectedError
    assert (error.reason, error.detail) == ("no_face_detected", "ERR_NO_FACE_DETECTED")


def test_the_apis_reason_goes_before_the_engines():
    """The token of the message is the reason, the engine's word its detail."""
    error = refused(409, "409:liveness_failed@ERR_LIVENESS_FACE_TOO_SMALL")
    assert error.reason == "liveness_failed"
    assert error.detail == "ERR_LIVENESS_FACE_TOO_SMALL"


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500])
def test_face_reasons_under_other_statuses(status):
    """Only refusals of the request are split by the picture's faults."""
    assert not isinstance(refused(status, "no_face_detected"), errors.FaceRejectedError)


@pytest.mark.parametrize(
    ("message", "reason", "detail"),
    [
        ("409:liveness_failed@0.45", "liveness_failed", "0.45"),
        ("409: Duplicated_Person", "duplicated_person", None),
        ("liveness_failed (0.45)", "liveness_failed", "0.45"),
        ("token@", "token", ""),
        ("token@a@b", "token", "a@b"),
        ("PERSON_NOT_FOUND", "person_not_found", None),
        ("v1.2-x", "v1.2-x", None),
        ("Access forbidden", None, None),
        ("409", None, None),
        ("40:token", None, None),
        ("", None, None),
        ('"os" is required', None, None),
    ],
)
def test_reason_and_detail(message, reason, detail):
    """`NNN:token@detail` is split and lowered; a sentence is left alone."""
    error = refused(404, message)
    assert (error.reason, error.detail) == (reason, detail)


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        ({"message": "m", "error": "e"}, "m", None),
        ({"message": "", "error": "e"}, "e", None),
        ({"message": 5, "error": {"a": 1}, "code": 7}, "", None),
        ({"message": ["m"], "code": ["c"]}, "", None),
        ({"validationError": "v"}, "v", None),
        ({"data": {"message": "n", "code": "c"}}, "n", "c"),
        ({"data": {"detail": "d"}}, "d", None),
        ({"data": {"detail": [{"msg": "d"}]}}, "d", None),
        ({"detail": [{"msg": "d"}]}, "d", None),
        ({"detail": "d"}, "d", None),
        ({"data": {"detail": []}}, "", None),
        ({"data": {"detail": ["d"]}}, "", None),
        ({"data": {"detail": {"a": 1}}}, "", None),
        ({"data": {"detail": [{"msg": 5}]}}, "", None),
        ({"data": [{"message": "n"}]}, "", None),
        ({"data": None}, "", None),
        ({}, "", None),
        ([], "", None),
        ([{"message": "m"}], "", None),
        ("m", "", None),
        (None, "", None),
    ],
)
def test_forms_of_error_bodies(body, message, code):
    """The first text that says something is the message; odd types say nothing."""
    error = understand(409, body)
    assert (error.message, error.code) == (message, code)


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        ({"id": "SAU01"}, {}, "SAU01"),
        ({"id": "SAU01"}, {"X_Request_Id": "h"}, "SAU01"),
        ({}, {"X_Request_Id": "h"}, "h"),
        ({}, {"x_request_id": "h"}, "h"),
        ({"id": 5}, {"X_Request_Id": "h"}, "h"),
        ({}, {}, None),
        ({"id": None}, {}, None),
        (b"<html>", {"X_Request_Id": "h"}, "h"),
        ({"id": f"a{SECRET}\nb"}, {}, "a*** b"),
        ({"id": "x" * 500}, {}, "***"),
    ],
)
def test_request_ids(body, headers, expected):
    """The body's id, else the header's, fit for a log."""
    assert understand(500, body, **headers).request_id == expected


def test_a_hostile_body_is_no_crash():
    """Bottomless and broken JSON in a refusal leaves the status."""
    for body in (b"[" * 100_000, b'{"message":' + b"[" * 100_000, b"\xff", b"9" * 6000):
        error = understand(500, body)
        assert type(error) is errors.ServerError


# -- success ---------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202, 299])
def test_any_2xx_is_an_answer(status):
    """Every 2xx is read as an answer."""
    assert type(understand(status, {"data": []})) is SearchResult


def test_204_without_a_body():
    """Success without an answer cannot be understood."""
    error = understand(204, b"")
    assert type(error) is errors.ResponseShapeError
    assert (error.status, error.path) == (204, "$")


def test_shape_errors_have_a_path_and_no_value(shown):
    """The error shows where, and neither value nor name."""
    error = understand(
        200, {"id": "SAU01", "data": [{"id": "p-77", "name": ["Ada Example"]}]}
    )
    assert type(error) is errors.ResponseShapeError
    assert str(error) == "expected text @ $.data[0].name"
    assert (error.path, error.request_id) == ("$.data[0].name", "SAU01")
    assert error.charge is Charge.ANSWERED
    assert "Ada" not in shown(error)
    assert "p-77" not in shown(error)


def test_shape_errors_take_the_header_for_an_id():
    """Without an id in the body the header names the request."""
    assert understand(200, b"<html>", X_Request_Id="h").request_id == "h"


def test_a_page_with_200_is_no_answer():
    """A captive portal answers 200 as well."""
    error = understand(200, b"<html>Log in</html>", Content_Type="text/html")
    assert type(error) is errors.ResponseShapeError


def test_too_large():
    """The error tells the limit and the remedy."""
    error = too_large(200, 1024)
    assert (error.status, error.limit) == (200, 1024)
    assert error.charge is Charge.ANSWERED
    assert "max_response_bytes (1024)" in str(error)


# -- redirects -------------------------------------------------------------------


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308, 399])
def test_every_3xx_is_a_redirect_error(status):
    """No 3xx is followed or read."""
    error = understand(status, {"data": []}, Location="https://other.example/x")
    assert type(error) is errors.RedirectError
    assert error.status == status
    assert error.charge is Charge.ANSWERED


def test_both_origins_are_named():
    """Who answered, and where it points to, without user, path and query."""
    error = understand(
        307, b"", Location="https://user:pw@other.example:8443/secret?token=1#x"
    )
    assert (error.origin, error.target) == (ORIGIN, "https://other.example:8443")
    assert f"{ORIGIN} to https://other.example:8443" in str(error)
    for part in ("user", "pw", "secret", "token="):
        assert part not in str(error)


@pytest.mark.parametrize("location", [None, "", "/login", "?a", "https://[::1", "#"])
def test_redirects_to_no_other_origin(location):
    """A path, or junk, names no target."""
    headers = {} if location is None else {"Location": location}
    assert understand(302, b"", **headers).target is None


def test_redirects_that_keep_the_scheme():
    """A location that begins with two slashes keeps the scheme of the request."""
    error = understand(302, b"", Location="//other.example/x")
    assert error.target == "https://other.example"


def test_a_token_in_a_redirects_host_is_masked(shown):
    """A host name may echo the token too."""
    secret = Masked("opaque-secret-0123")
    error = interpret(
        Reply(302, {"Location": f"https://{secret.reveal()}.example"}, b""),
        DECODER,
        call=CallInfo(),
        origin=ORIGIN,
        secret=secret,
    )
    assert secret.reveal() not in shown(error)


# -- Retry-After -----------------------------------------------------------------


def http_date(seconds):
    """Return an HTTP date so many seconds from now."""
    return email.utils.format_datetime(NOW + dt.timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1", 1.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("0.001", 0.001),
        ("5.", 5.0),
        ("007", 7.0),
        ("86400", 86400.0),
        (http_date(90), 90.0),
        (http_date(86400), 86400.0),
        ("Wed, 04 Mar 2026 12:01:00 -0000", 60.0),
        ("Wed, 04 Mar 2026 13:01:00 +0100", 60.0),
        ("Wednesday, 04-Mar-26 12:01:00 GMT", 60.0),
        ("Wed Mar  4 12:01:00 2026", 60.0),
    ],
)
def test_retry_after(text, seconds):
    """Seconds, decimals and the three forms of HTTP dates."""
    assert parse_retry_after(text, NOW) == seconds


@pytest.mark.parametrize(("text", "seconds"), [("7", 7.0), ("1.5", 1.5)])
def test_retry_after_of_an_answer(text, seconds):
    """The header of a refusal becomes a fact of the error."""
    assert understand(429, {}, Retry_After=text).retry_after == seconds


def test_retry_after_as_a_date_counts_from_now():
    """A date is turned into seconds when the answer comes."""
    date = email.utils.formatdate(time.time() + 90, usegmt=True)
    assert 80 < understand(503, {}, Retry_After=date).retry_after <= 90
    date = email.utils.formatdate(time.time() - 90, usegmt=True)
    assert understand(429, {}, Retry_After=date).retry_after is None


@pytest.mark.parametrize(
    "text", ["0", "-5", "soon", "", "Mon, 01 Jan 2001 00:00:00 GMT"]
)
def test_a_503_with_any_retry_after_is_a_throttle(text):
    """Junk is of no use as a number, and still asks everybody to slow down."""
    error = understand(503, {}, Retry_After=text)
    assert error.retry_after == 0.0
    assert is_throttle(error)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "0",
        "0.0",
        "-5",
        "+5",
        "abc",
        "1e3",
        "1e400",
        "inf",
        "nan",
        "NaN",
        "Infinity",
        "5 s",
        "1,5",
        "1_0",
        "\N{ARABIC-INDIC DIGIT ONE}",
        "0x10",
        "1 2",
        "5;6",
        http_date(-1),
        http_date(0),
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "Wed, 99 Mar 2026 12:00:00 GMT",
        "Wed, 04 Mar 99999 12:00:00 GMT",
        "Wed, 04 Mar 2026 12:01:00 +9999",
        "2026-03-04T12:01:00Z",
        "Wed",
        ",",
        "\x00",
    ],
)
def test_retry_after_that_says_nothing(text):
    """Junk, zero, negatives and the past are as good as no header."""
    assert parse_retry_after(text, NOW) is None


def test_no_retry_after():
    """Without the header nothing is asked."""
    assert parse_retry_after(None, NOW) is None
    assert understand(429, {}).retry_after is None


def test_retry_after_without_end():
    """Digits without end are junk: infinite seconds would close the gate for good."""
    assert parse_retry_after("9" * 400, NOW) is None


# -- texts from outside ----------------------------------------------------------

ECHOES = [
    SECRET,
    f"Bearer {SECRET}",
    JWT,
    JWT.rpartition(".")[0],
    "bearer abc.def",
    "Authorization: Bearer abc+def/ghi==",
    "JWT abcdef",
    "/9j/4AAQSkZJRgABAQEASABIAAD/2wBDAAMCAgMCAgMDAwMEAwMEBQgFBQQEBQoHBwYIDAo=",
]


@pytest.mark.parametrize("echo", ECHOES)
@pytest.mark.parametrize(
    "place",
    ["message", "code", "error", "nested", "detail", "id", "title", "type", "header"],
)
def test_echoed_secrets_are_masked(echo, place, shown):
    """Token and picture do not come back, wherever the service puts them."""
    bodies = {
        "message": {"message": f"bad {echo} given"},
        "code": {"code": f"bad {echo} given"},
        "error": {"error": echo},
        "nested": {"data": {"message": echo, "code": echo}},
        "detail": {"detail": [{"msg": echo}]},
        "id": {"id": echo},
        "title": f"<title>{echo}</title>".encode(),
        "type": b"<html>",
        "header": {},
    }
    headers = {
        "Content_Type": echo if place == "type" else "text/html",
        "X_Request_Id": echo if place == "header" else "r",
    }
    error = understand(409, bodies[place], **headers)
    text = shown(error)
    for part in (SECRET, "c2lnbmF0dXJl", "eyJhbGci", "abc.def", "abc+def", "abcdef"):
        assert part not in text
    assert "/9j/4AAQSkZJRg" not in text


def test_the_secret_of_a_shape_error_is_masked(shown):
    """The request id of an answer that is not understood may echo the token."""
    error = understand(200, {"id": SECRET, "data": 5})
    assert error.request_id == "***"
    assert SECRET not in shown(error)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("a\x00b\x1b[31mc\r\nd", "a b [31mc d"),
        ("\u202eabc\u200b\ufeff", "abc"),
        ("a\ud800b", "a b"),
        ("  many   spaces\t", "many spaces"),
        ("Zoë 顔 🙂", "Zoë 顔 🙂"),
        ("x " * 300, ("x " * 300)[:200]),
        ("", ""),
        ("65a69f3c2f1d4e0012ab34cd", "65a69f3c2f1d4e0012ab34cd"),
        (
            "c0ffee00-1111-4222-8333-444455556666",
            "c0ffee00-1111-4222-8333-444455556666",
        ),
    ],
)
def test_cleaned_text(text, cleaned):
    """Non-printables become spaces, ids stay, 200 characters are enough."""
    assert _sanitize.clean(text) == cleaned


@pytest.mark.parametrize("field", ["message", "code", "error", "id"])
def test_texts_are_cut_at_200_characters(field):
    """Nobody floods a log."""
    error = understand(409, {field: "words " * 1000})
    found = error.request_id if field == "id" else getattr(error, "code", None)
    text = (error.message if field in ("message", "error") else found) or ""
    assert len(text) == 200


def test_masking_comes_before_cutting():
    """A token across the cut leaves no half behind."""
    error = refused(409, "x " * 95 + SECRET + " tail")
    assert "opaque" not in error.message
    assert len(error.message) <= 200


@pytest.mark.parametrize("text", ["eyJ", "token", "expired", "jwt "])
@pytest.mark.parametrize("status", [403, 409])
def test_a_hostile_message_takes_no_time(text, status):
    """Text made to look like tokens does not keep the loop from its work."""
    began = time.perf_counter()
    refused(status, text * 100_000)
    assert time.perf_counter() - began < 0.2


def test_a_picture_echoed_in_lines_leaves_no_end():
    """Nor where the text is cut for its length."""
    lines = base64.encodebytes(random.Random(1).randbytes(4_000)).decode()
    for start in range(100):
        error = refused(409, lines[start:])
        assert not re.search(r"[A-Za-z0-9+/]{12}", error.message[80:]), error.message


def test_a_long_message_takes_no_time():
    """Megabytes of text are not cleaned for the sake of 200 characters."""
    text = "a " * 3_000_000
    began = time.perf_counter()
    _sanitize.clean(text)
    assert time.perf_counter() - began < 0.1


def test_a_proxys_page():
    """A page is described by its type, size and title; its text stays out."""
    page = b"<html><head><title>\n502 Bad\tGateway </title></head><b>Ada Example</b>"
    error = understand(502, page, Content_Type="text/html; charset=utf-8")
    assert error.message == (
        f"not JSON but text/html, {len(page)} bytes titled '502 Bad Gateway'"
    ) or error.message == (
        f"not JSON but text/html, {len(page)} bytes titled '502 Bad\\tGateway'"
    )
    assert "Ada" not in str(error)
    assert (error.reason, error.code) == (None, None)


def test_half_an_answer_stays_out(shown):
    """A damaged body may hold persons: nothing of it is shown."""
    half = b'{"id":"SAU01","data":[{"id":"p-77","name":"Ada Exam'
    error = understand(500, half, Content_Type="application/json")
    assert "Ada" not in shown(error)
    assert "p-77" not in shown(error)
    assert f"{len(half)} bytes" in error.message


def test_no_content_type():
    """A body without a type is described as such."""
    assert "no content type, 3 bytes" in understand(500, b"abc").message


def test_a_reply_shows_neither_headers_nor_body():
    """The repr of an answer names nobody."""
    reply = Reply(200, {"Set-Cookie": "session"}, b'{"name":"Ada Example"}')
    assert "Ada" not in repr(reply)
    assert "session" not in repr(reply)


def test_errors_of_refusals_are_not_chained():
    """No other error, with a body in its frames, hangs on an error."""
    error = understand(500, b"\xff not json")
    assert error.__cause__ is None
    assert error.__context__ is None


# -- bodies ----------------------------------------------------------------------


def inflate(data, *, limit=1_000_000, encoding="gzip", step=None):
    """Feed data in steps; None once it is too much."""
    inflater = Inflater(encoding, limit)
    whole = b""
    step = step or max(len(data), 1)
    for start in range(0, len(data), step):
        part = inflater.feed(data[start : start + step])
        if part is None:
            return None
        whole += part
    return whole


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", " x-gzip "])
@pytest.mark.parametrize("step", [1, 7, 1000])
def test_gzip(encoding, step):
    """Compressed bodies come out, however they are cut."""
    text = b'{"data":[]}' * 50
    assert inflate(gzip.compress(text), encoding=encoding, step=step) == text


@pytest.mark.parametrize("encoding", ["", "identity", "br", "deflate"])
def test_other_encodings_pass_as_they_are(encoding):
    """Only gzip is asked for; the rest is judged as it comes."""
    assert inflate(b"abc", encoding=encoding) == b"abc"


@pytest.mark.parametrize("encoding", ["", "gzip"])
@pytest.mark.parametrize("step", [1, 10, 10_000])
def test_limit_of_bytes(encoding, step):
    """The limit itself is fine, one byte more is not, however it comes."""
    for size, fits in ((1000, True), (1001, False)):
        data = gzip.compress(bytes(size)) if encoding else bytes(size)
        found = inflate(data, limit=1000, encoding=encoding, step=step)
        assert (found == bytes(size)) is fits
        assert (found is None) is not fits


def test_a_bomb_is_refused_early():
    """A small body that inflates to much never exists in memory as a whole."""
    bomb = gzip.compress(bytes(50_000_000))
    began = time.perf_counter()
    assert inflate(bomb, limit=1000) is None
    assert time.perf_counter() - began < 0.5


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"\x00" + data[1:],
        lambda data: data[: len(data) // 2],
        lambda data: data[:-4] + b"\xff\xff\xff\xff",
        lambda data: data[:20] + b"\xff\xff\xff\xff" + data[24:],
        lambda _: b"plain text, no gzip at all",
    ],
    ids=["head", "half", "checksum", "middle", "plain"],
)
@pytest.mark.parametrize("step", [1, 5, 10_000])
def test_damaged_gzip(damage, step):
    """Damage raises nothing; what came before it may stay."""
    text = json.dumps({"data": [{"id": str(n)} for n in range(50)]}).encode()
    found = inflate(damage(gzip.compress(text)), step=step)
    assert found is not None
    assert text.startswith(found)


def test_trailing_bytes_are_ignored():
    """What follows the end of the stream is not part of it."""
    assert inflate(gzip.compress(b"abc") + b"\x00" * 10) == b"abc"


def test_members_of_gzip_are_joined():
    """A stream may have several members (RFC 1952, 2.2)."""
    assert inflate(gzip.compress(b"abc") + gzip.compress(b"def")) == b"abcdef"


def test_many_members_take_no_time():
    """A read full of small members, which nobody sends, ends after some of them."""
    data = gzip.compress(bytes(1000)) * 4000
    began = time.perf_counter()
    assert inflate(data, limit=4_000_000) == bytes(16_000)
    assert time.perf_counter() - began < 0.25


def test_raw_deflate_under_the_name_of_gzip():
    """A wrong name is damage, not a crash."""
    assert inflate(zlib.compress(b"abc")) == b""
