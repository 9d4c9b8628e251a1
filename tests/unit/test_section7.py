"""The 14 things that a tolerant client must cope with, each by its number.

The list is section 7 of the facts about the HTTP API; the bodies are in
`tests/samples/search-active-user`.
"""

import base64
import datetime as dt
import json
import pathlib

import pytest

from verifik_async import _config, _images, _retry, _wire, errors
from verifik_async._auth import TokenSource
from verifik_async._convert import Decoder
from verifik_async._retry import Verdict
from verifik_async._types import Masked
from verifik_async.models import CallInfo, Collection, Liveness, SearchResult, Thumbnail

ORIGIN = "https://api.verifik.co"
POLICY = _config.RetryPolicy()


@pytest.fixture
def decode(convert, sample):
    """Decode a recorded answer, which must be understood."""

    def decode(name):
        result = convert.Decoder().decode(sample(name), CallInfo())
        assert isinstance(result, SearchResult)
        return result

    return decode


@pytest.fixture
def refuse(sample):
    """Return the error that a recorded refusal means; its status leads its name."""

    def refuse(name, status=None, headers=()):
        reply = _wire.Reply(status or int(name[:3]), dict(headers), sample(name))
        return _wire.interpret(
            reply,
            Decoder(),
            call=CallInfo(),
            origin=ORIGIN,
            secret=Masked("Bearer-9f2c"),
        )

    return refuse


def judge(error, attempts=1, policy=POLICY):
    """Return what follows an error of a search whose token can be renewed."""
    return _retry.judge(error, policy, attempts=attempts, renewable=True)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("array", [("person_id", 0.93)]),
        (
            "object",
            [("65a69f3c2f1d4e0012ab34cd", 0.97), ("65a69f3c2f1d4e0012ab34ce", 0.81)],
        ),
        ("object-without-liveness", [("p-1", 0.88)]),
        ("object-search", [("65a69f3c2f1d4e0012ab34cd", 0.97)]),
        ("liveness-score", [("p-1", 0.93)]),
        ("bare", [("p-1", 0.9)]),
    ],
)
def test_row_01_data_as_array_or_object(decode, name, found):
    """The persons are found in each shape of data, best first."""
    assert [(match.id, match.score) for match in decode(name).matches] == found


def test_row_01_no_more_than_id_and_score(decode):
    """What the API leaves out is None or empty, not an error."""
    match = decode("array").best
    assert (match.name, match.gender, match.date_of_birth) == (None, None, None)
    assert (match.thumbnails, match.collections, match.extra) == ((), (), {})


def test_row_01_all_fields_of_a_person(decode):
    """What the API adds is there, unknown fields under `extra`."""
    match = decode("object").best
    assert (match.name, match.gender, match.nationality, match.notes) == (
        "Ada Example",
        "F",
        "Exampleland",
        "badge 7",
    )
    assert match.thumbnails == (
        Thumbnail(
            id="th-1",
            thumbnail=base64.b64encode(b"a small invented picture").decode(),
        ),
    )
    assert match.extra == {
        "create_date": "2023-09-29T21:38:59.306976",
        "modified_date": "2023-09-30T08:00:00.000001",
    }


@pytest.mark.parametrize(
    ("name", "liveness"),
    [
        ("liveness-score", Liveness(score=0.92)),
        ("object", Liveness(score=0.91, passed=True, status="success")),
        ("liveness-flat", Liveness(score=0.59, passed=False, min_score=0.6)),
        (
            "object-search",
            Liveness(score=0.88, passed=True, min_score=0.6, status="success"),
        ),
        ("array", None),
        ("object-without-liveness", None),
    ],
)
def test_row_02_liveness_in_four_forms_or_none(decode, name, liveness):
    """Each form of liveness is read; its absence is normal."""
    assert decode(name).liveness == liveness


@pytest.mark.parametrize(
    ("told", "passed"),
    [
        ({"score": 0.7, "min_score": 0.6}, True),
        ({"score": 0.6, "min_score": 0.6}, False),
        ({"score": 0.5, "min_score": 0.6}, False),
        ({"score": 0.5, "min_score": 0.6, "passed": True}, True),
        ({"score": 0.9, "min_score": 0.6, "passed": False}, False),
        ({"score": 0.9}, None),
        ({"min_score": 0.6}, None),
        ({"result": {"liveness_score": 0.61, "min_score": 0.6}}, True),
        ({"liveness_score": "61", "min_score": "60"}, True),
    ],
)
def test_row_02_passed_decides_else_strictly_greater(convert, told, passed):
    """The API's verdict counts; without one the score must exceed the threshold."""
    body = json.dumps({"data": {"persons": [], "liveness": told}}).encode()
    assert convert.Decoder().decode(body, CallInfo()).liveness.passed is passed


def test_row_03_scores_as_float_int_text_percent_or_absent(decode):
    """Scores come out as numbers from 0 to 1; an absent one is None, not 0."""
    scores = {match.id: match.score for match in decode("score-forms").matches}
    assert scores == {
        "whole": 1.0,
        "percent": 0.93,
        "percent-text": 0.885,
        "text": 0.75,
        "none": 0.0,
        "absent": None,
        "null": None,
    }


def test_row_03_absent_scores_come_last(decode):
    """A match without a score stands behind one with score 0."""
    ids = [match.id for match in decode("score-forms").matches]
    assert ids[-3:] == ["none", "absent", "null"]


def test_row_04_ids_plain_mongo_and_wrapped(decode):
    """Ids are text, whichever name and wrapping the API gives them."""
    result = decode("id-forms")
    assert result.id == "65a69f3c2f1d4e0012ab0001"
    assert [match.id for match in result.matches] == [
        "plain",
        "mongo",
        "65a69f3c2f1d4e0012ab0002",
        "65a69f3c2f1d4e0012ab0003",
        "fallback",
    ]


def test_row_04_envelope_id_is_the_request_id(decode):
    """The id beside the data is kept for the vendor's support."""
    assert decode("array").id == "SAU01"


def test_row_05_missing_id_and_signature(decode):
    """An answer of data alone is an answer."""
    result = decode("bare")
    assert (result.id, result.signature) == (None, None)


def test_row_05_signature_as_text(decode):
    """A signature that is a plain string is its message."""
    signature = decode("signature-text").signature
    assert (signature.message, signature.date_time) == ("Certified by Verifik.co", None)


def test_row_05_more_root_keys_are_kept_raw(decode, sample_json):
    """Root keys that are not known change nothing and stay readable."""
    result = decode("more-root-keys")
    assert result.raw == sample_json("more-root-keys")
    assert result.best.id == "p-1"


def test_row_06_date_of_birth_in_four_forms(decode):
    """Object, date, timestamp and null: a date or None."""
    born = {match.id: match.date_of_birth for match in decode("birth-dates").matches}
    day = dt.date(1990, 1, 15)
    assert born == {"a": day, "b": day, "c": day, "d": None}


@pytest.mark.parametrize(
    ("name", "text", "moment"),
    [
        ("array", "January 16, 2024 3:44 PM", dt.datetime(2024, 1, 16, 15, 44)),  # noqa: DTZ001 - naive by contract
        ("birth-dates", "2024-01-16T15:44:00Z", dt.datetime(2024, 1, 16, 15, 44)),  # noqa: DTZ001 - naive by contract
    ],
)
def test_row_06_signature_time_in_english_or_iso(decode, name, text, moment):
    """The text stays untouched; the moment beside it has no zone."""
    signature = decode(name).signature
    assert signature.date_time == text
    assert signature.timestamp == moment
    assert signature.timestamp.tzinfo is None


def test_row_06_timestamps_of_persons_are_kept_as_they_are(decode):
    """A time without a zone is not guessed at."""
    assert decode("object").best.extra["create_date"] == "2023-09-29T21:38:59.306976"


def test_row_07_collections_as_ids_codes_or_objects(decode):
    """Text stays text, objects tell what they know."""
    assert decode("collection-forms").best.collections == (
        "65a69f3c2f1d4e0012ab0004",
        "c0ffee00-1111-4222-8333-444455556666",
        Collection(
            id="65a6", name="staff", description="people of the office", count=12
        ),
        Collection(
            id="65a7", code="c0ffee00-1111-4222-8333-444455556667", name="guests"
        ),
    )


@pytest.mark.parametrize("code", ["c0ffee00-1111", "65a69f3c2f1d4e0012ab0004", " x "])
def test_row_07_collection_id_is_sent_verbatim(code):
    """Whatever kind of id the caller has, nobody touches it."""
    options = _config.SearchOptions(
        os="IOS", min_score=0.7, search_mode="FAST", collection_id=code
    )
    sent = json.loads(_wire.body_start(options) + _wire.BODY_END)
    assert sent["collection_id"] == code


@pytest.mark.parametrize(
    ("name", "message", "code", "reason", "detail"),
    [
        ("400-error-only", "Invalid request", None, None, None),
        (
            "401-authentication-required",
            "Authentication required",
            "UNAUTHORIZED",
            None,
            None,
        ),
        ("401-with-signature", "Invalid or expired token.", "Unauthorized", None, None),
        ("404-person", "PERSON_NOT_FOUND", None, "person_not_found", None),
        ("404-collection", "invalid_collection", "ERROR", "invalid_collection", None),
        (
            "409-liveness-failed",
            "409:liveness_failed@0.45",
            "liveness_failed",
            "liveness_failed",
            "0.45",
        ),
        (
            "409-duplicated-person",
            "409:duplicated_person",
            "ERROR",
            "duplicated_person",
            None,
        ),
        (
            "409-nested-detail",
            "ensure this value is greater than or equal to 0.5",
            "ERR_ENTITY_NOT_FOUND",
            None,
            None,
        ),
        (
            "409-nested-message",
            "collection or person id was not found",
            "ERR_ENTITY_NOT_FOUND",
            None,
            None,
        ),
        (
            "409-validation-error",
            '"search_mode" is required',
            "MissingParameter",
            None,
            None,
        ),
        (
            "409-success-false",
            "Invalid query parameters",
            "INVALID_PARAMETERS",
            None,
            None,
        ),
        (
            "412-with-prefix",
            "412:only_images_in_base64",
            "ERROR",
            "only_images_in_base64",
            None,
        ),
    ],
)
def test_row_08_error_bodies(refuse, name, message, code, reason, detail):
    """Every form of an error body gives its message, code, reason and detail."""
    error = refuse(name)
    assert (error.message, error.code) == (message, code)
    assert (error.reason, error.detail) == (reason, detail)


@pytest.mark.parametrize("body", [b"", b"<html>busy</html>", b"[1]", b"5", b'"no"'])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 429, 500, 503])
def test_row_08_bodies_that_are_no_json_object(body, status):
    """A proxy's page gets the class of its status."""
    error = _wire.interpret(
        _wire.Reply(status, {"Content-Type": "text/html"}, body),
        Decoder(),
        call=CallInfo(),
        origin=ORIGIN,
        secret=Masked("Bearer-9f2c"),
    )
    assert isinstance(error, errors.APIStatusError)
    assert (error.status, error.code, error.reason) == (status, None, None)


@pytest.mark.parametrize(
    "code", ["MissingParameter", "missingparameter", "MISSINGPARAMETER"]
)
def test_row_08_codes_in_mixed_case(code):
    """The spelling of a code does not matter."""
    body = json.dumps({"message": '"os" is required', "code": code}).encode()
    error = _wire.interpret(
        _wire.Reply(409, {}, body),
        Decoder(),
        call=CallInfo(),
        origin=ORIGIN,
        secret=Masked("Bearer-9f2c"),
    )
    assert type(error) is errors.MissingParameterError
    assert (error.parameter, error.code) == ("os", code)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("400-error-only", errors.InvalidRequestError),
        ("409-missing-parameter", errors.MissingParameterError),
        ("409-duplicated-person", errors.InvalidRequestError),
        ("409-liveness-failed", errors.FaceRejectedError),
        ("412-only-images", errors.InvalidRequestError),
        ("412-with-person", errors.InvalidRequestError),
        ("422-no-face", errors.FaceRejectedError),
        ("402-insufficient-credits", errors.PaymentRequiredError),
        ("403-access-forbidden", errors.PermissionDeniedError),
        ("404-person", errors.NotFoundError),
        ("404-collection", errors.NotFoundError),
    ],
)
def test_row_09_refusals_have_classes_and_are_never_resent(refuse, name, kind):
    """Validation, payment and permission are told apart, and sent once."""
    error = refuse(name)
    assert type(error) is kind
    assert judge(error) is Verdict.RAISE


@pytest.mark.parametrize(
    "name", ["403-token-expired", "403-expired-token", "401-authentication-required"]
)
def test_row_09_an_expired_token_is_like_401(refuse, name):
    """403 that speaks of an expired token asks for another one."""
    error = refuse(name)
    assert type(error) is errors.AuthenticationError
    assert judge(error) is Verdict.RENEW_TOKEN


def test_row_09_insufficient_credits_whatever_the_status(refuse):
    """The words of 402 count under the validation status too."""
    error = refuse("402-insufficient-credits", status=409)
    assert type(error) is errors.PaymentRequiredError
    assert error.status == 409


def test_row_09_the_person_of_a_412_is_not_kept(refuse, shown):
    """An existing person in a refusal stays out of the error."""
    assert "Ada" not in shown(refuse("412-with-person"))


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_row_10_server_errors_are_resent(refuse, status):
    """5xx of the policy are sent again, until the attempts are used up."""
    error = refuse("500-internal", status=status)
    assert judge(error) is Verdict.RESEND
    assert judge(error, attempts=POLICY.attempts) is Verdict.RAISE


@pytest.mark.parametrize(("status", "asked"), [(429, None), (429, "3"), (503, "3")])
def test_row_10_throttles_wait_their_turn(refuse, status, asked):
    """A throttle is queued again, with the service's seconds if it names them."""
    headers = {} if asked is None else {"Retry-After": asked}
    error = refuse("503-unavailable", status=status, headers=headers)
    assert error.retry_after == (None if asked is None else 3.0)
    assert judge(error, attempts=99) is Verdict.THROTTLED


def test_row_10_connection_errors_are_resent():
    """What never arrived costs nothing."""
    assert judge(errors.ConnectError()) is Verdict.RESEND


def test_row_10_a_timed_out_search_is_resent_on_demand_only():
    """What may have been charged is sent again only if the caller says so."""
    error = errors.AttemptTimeoutError(charge="maybe_charged")
    assert judge(error) is Verdict.RAISE
    assert (
        judge(error, policy=_config.RetryPolicy(retry_maybe_charged=True))
        is Verdict.RESEND
    )


async def test_row_11_raw_base64_is_sent():
    """Prefix and white space of a data URI stay here."""
    text = base64.b64encode(bytes(range(90))).decode()
    given = "data:image/jpeg;base64," + "\r\n".join((text[:76], text[76:])) + "\n"
    picture = await _images.image_source(Masked(given), 1000).open()
    assert b"".join(await picture.piece(0)) == text.encode()


@pytest.mark.parametrize(
    "image",
    ["", "QUJD", "https://pictures.example/" + "a" * 100, pathlib.Path("no-such.jpg")],
)
async def test_row_11_unusable_pictures_are_refused_here(image):
    """Tiny text, URLs and missing files do not go over the wire."""
    with pytest.raises(errors.ImageError):
        await _images.image_source(Masked(image), 1000).open()


@pytest.mark.parametrize(
    "wrong",
    [
        {"os": "WINDOWS"},
        {"os": "ios"},
        {"search_mode": "SLOW"},
        {"min_score": 0.49},
        {"min_score": 1.01},
    ],
)
def test_row_12_local_validation(wrong):
    """Values out of range are refused, by the name of their argument."""
    with pytest.raises(errors.ConfigurationError, match=next(iter(wrong))):
        _config.SearchOptions(**wrong)


@pytest.mark.parametrize("missing", ["os", "min_score", "search_mode"])
def test_row_12_the_api_has_no_defaults(missing):
    """What is missing is named, with the remedy."""
    given = {"os": "IOS", "min_score": 0.7, "search_mode": "FAST"}
    del given[missing]
    with pytest.raises(errors.ConfigurationError) as caught:
        _config.check_complete(_config.SearchOptions(**given))
    assert str(caught.value) == (
        f"{missing} is required: pass it or set "
        "VerifikClient(defaults=SearchOptions(...))"
    )


def test_row_12_escape_hatch_for_undocumented_fields():
    """Further fields are sent as they are."""
    extra = {"liveness_min_score": 0.65, "includeCost": True}
    options = _config.SearchOptions(
        os="IOS", min_score=0.7, search_mode="FAST", extra=extra
    )
    sent = json.loads(_wire.body_start(options) + _wire.BODY_END)
    assert {name: sent[name] for name in extra} == extra


@pytest.mark.parametrize(
    "url", ["https://staging-api.verifik.co", "https://proxy.example/verifik/"]
)
def test_row_13_base_url_is_configurable(url, monkeypatch):
    """Argument first, then the variable, then the API's own host."""
    monkeypatch.setenv("VERIFIK_BASE_URL", url)
    found = _config.base_url_from_environment(None)
    assert _config.check_base_url(found, allow_insecure_http=False).base == url.rstrip(
        "/"
    )
    assert _config.base_url_from_environment(ORIGIN) == ORIGIN
    monkeypatch.delenv("VERIFIK_BASE_URL")
    assert _config.base_url_from_environment(None) == ORIGIN


async def test_row_13_token_refreshable_at_run_time():
    """A callable gives another token when the first is refused."""
    answers = iter([{"accessToken": "first"}, {"token": "second"}])

    async def flat():
        answer = next(answers)
        return answer.get("accessToken") or answer["token"]

    source = TokenSource(Masked(flat))
    first = await source.get()
    second = await source.renew(first)
    assert (first.reveal(), second.reveal()) == ("first", "second")
    assert await source.get() is second


@pytest.mark.parametrize("name", ["empty-array", "empty-object", "null-data"])
def test_row_14_an_empty_match_list_is_normal(decode, name):
    """Nobody found is an answer."""
    result = decode(name)
    assert result.matches == ()
    assert result.best is None
