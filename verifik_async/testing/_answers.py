"""The bodies of the stand-in's answers, as functions of plain values."""

import functools
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import attrs

from ._gallery import Match
from ._rules import Refusal, Search

try:
    import orjson
except ImportError:  # pragma: no cover - depends on what is installed
    orjson = None  # type: ignore[assignment]

NO_JSON = Refusal(status=400, message="invalid JSON", code="BadRequest")
TOO_LARGE = Refusal(
    status=413, message="request entity too large", code="PayloadTooLarge"
)
TOO_MANY = Refusal(status=429, message="too_many_requests", code="TooManyRequests")

DataShape = Literal["array", "object"]
Headers = tuple[tuple[str, str], ...]

JSON_TYPE = "application/json; charset=utf-8"
JSON_HEADERS: Headers = (("Content-Type", JSON_TYPE),)
FEATURE_CODE = "face_recognition_search_active_user"
# strftime would follow the locale; the service's text is English everywhere.
_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
_LIVENESS_SCORE = 0.97


@attrs.frozen(kw_only=True)
class Reply:
    """One HTTP answer."""

    status: int = 200
    body: bytes = attrs.field(default=b"", repr=lambda body: f"<{len(body)} bytes>")
    headers: Headers = JSON_HEADERS


def load_json(body: bytes) -> Any:
    """Decode JSON; NaN and Infinity are no JSON.

    Raises:
        ValueError: The body is no JSON.
    """
    if orjson is not None:
        return orjson.loads(body)
    try:
        return json.loads(body, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def dump_json(value: Any) -> bytes:
    """Encode JSON without white space."""
    if orjson is not None:
        return orjson.dumps(value)
    return json.dumps(value, separators=(",", ":")).encode()


def refusal(cause: Refusal, headers: Headers = ()) -> Reply:
    """Return an error answer in the API's envelope."""
    body: dict[str, Any] = {"message": cause.message, "code": cause.code}
    if cause.data:
        body["data"] = dict(cause.data)
    return Reply(
        status=cause.status,
        body=dump_json(body),
        headers=JSON_HEADERS + cause.headers + headers,
    )


def found(
    request_id: str, matches: Sequence[Match], search: Search, shape: DataShape
) -> Reply:
    """Return the answer to a search that was carried out."""
    data: Any
    if shape == "array":
        data = [match.brief() for match in matches]
    else:
        data = {
            "persons": [match.full() for match in matches],
            "liveness": _liveness(search.liveness_min_score),
        }
    envelope: dict[str, Any] = {
        "id": request_id,
        "data": data,
        "signature": {
            "message": "Certified by Verifik.co",
            "dateTime": english_time(int(time.time()) // 60),
        },
    }
    if search.include_cost:
        envelope |= _cost()
    return Reply(body=dump_json(envelope))


@functools.lru_cache(maxsize=1)
def english_time(minute: int) -> str:
    """Write a time, in minutes since 1970, the service's way, in UTC."""
    now = time.gmtime(minute * 60)
    half = "AM" if now.tm_hour < 12 else "PM"  # noqa: PLR2004 - noon
    clock = f"{now.tm_hour % 12 or 12}:{now.tm_min:02d} {half}"
    return f"{_MONTHS[now.tm_mon - 1]} {now.tm_mday}, {now.tm_year} {clock}"


def _liveness(min_score: float | None) -> Mapping[str, Any]:
    passed = min_score is None or min_score < _LIVENESS_SCORE
    return {
        "score": _LIVENESS_SCORE,
        "passed": passed,
        "status": "success" if passed else "failed",
    }


def _cost() -> Mapping[str, Any]:
    # The price of a search is not published; the amount is invented.
    return {
        "credits": {"amount": 1, "code": FEATURE_CODE},
        "creditsCharged": 1,
        "charged": True,
        "featureCode": FEATURE_CODE,
    }


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
