"""Request out, verdict in: pure functions of plain values, without a single await.

The body is `{"os":...,"image":"` + base64 + `"}`: base64 never needs escaping, so
the picture is spliced in while it is sent instead of passing through `json.dumps`.
"""

import datetime as dt
import email.utils
import hashlib
import json
import math
import re
import urllib.parse
import zlib
from collections.abc import Mapping
from typing import Any, Final

import attrs

from verifik_async._config import SearchOptions
from verifik_async._convert import Decoder, ShapeFault, parse_answer
from verifik_async._sanitize import clean, enough
from verifik_async._types import Masked
from verifik_async.errors import (
    APIStatusError,
    AuthenticationError,
    FaceRejectedError,
    InvalidRequestError,
    MissingParameterError,
    PaymentRequiredError,
    RedirectError,
    ResponseShapeError,
    ResponseTooLargeError,
    VerifikError,
)
from verifik_async.models import CallInfo, SearchResult
from verifik_async.rules import rule_of_status

SEARCH_PATH: Final = "/v2/face-recognition/search-active-user"
BODY_END: Final = b'"}'

# Each member of a gzip stream copies what follows it; nobody sends many.
_MAX_MEMBERS: Final = 16

# https://docs.verifik.co names the reasons; the engine behind it has its own words.
_FACE_REASONS: Final = frozenset(
    {
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
    }
)
_ENGINE_WORDS: Final = {
    "err_no_face_detected": "no_face_detected",
    "err_multiple_faces_detected": "multiple_faces_detected",
    "err_liveness_face_too_small": "face_too_far",
    "err_liveness_face_close_to_border": "face_close_to_border",
    "err_liveness_face_angle_too_large": "face_rotation_too_large",
    "err_liveness_failed": "liveness_failed",
    "liveness_check_failed": "liveness_failed",
    "the image has more than one face": "multiple_faces_detected",
    "image is invalid for checking liveness": "liveness_error",
}
# ASCII escapes keep even a lone surrogate valid JSON.
_encode: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_UNPAID: Final = re.compile(
    r"payment_?\s?required|insufficient_?\s?(credit|balance|fund)"
)
_TOKEN: Final = re.compile(
    r"(?:\d{3}:\s*)?(?P<token>[A-Za-z][\w.-]*)(?:@(?P<detail>.*)|\s*\((?P<note>.*)\))?",
    re.DOTALL,
)
_STATUS_PREFIX: Final = re.compile(r"\d{3}:\s*")
_PARAMETER: Final = re.compile(r'"([\w.\[\]-]+)"|(\w+) is required')
# A digest or a UUID is an id and no echo of a picture, however long.
_HEXADECIMAL: Final = re.compile(r"[0-9a-fA-F-]{1,64}")
_EXPIRED: Final = re.compile(r"(token|jwt).*expired|expired.*(token|jwt)", re.DOTALL)
_SECONDS: Final = re.compile(r"\d+(\.\d*)?|\.\d+", re.ASCII)
_TITLE: Final = re.compile(r"<title[^>]*>([^<]*)", re.IGNORECASE)


@attrs.define  # frozen would cost every answer a microsecond
class Reply:
    """An HTTP answer, read to its end.

    Attributes:
        status: HTTP status.
        headers: Header fields; a case-insensitive mapping.
        body: The body, inflated. Out of repr.
    """

    status: int
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)


def body_start(options: SearchOptions) -> bytes:
    """Return the request's body up to where the picture's base64 begins."""
    fields: dict[str, Any] = {
        "os": options.os,
        "min_score": None if options.min_score is None else float(options.min_score),
        "search_mode": options.search_mode,
    }
    if options.collection_id is not None:
        fields["collection_id"] = options.collection_id
    if options.extra:
        fields.update(options.extra)
    return f'{_encode(fields)[:-1]},"image":"'.encode("ascii")


def parameters_digest(start: bytes) -> str:
    """Return the SHA-256 of what a body says besides its picture, in hexadecimal.

    Args:
        start: What `body_start` returned.
    """
    fields = json.dumps(json.loads(start + b'"}'), sort_keys=True)
    return hashlib.sha256(fields.encode("ascii")).hexdigest()


class Inflater:
    """Undoes gzip, the one encoding asked for, within a limit of bytes."""

    def __init__(self, encoding: str | None, limit: int) -> None:
        self._gzip = (encoding or "").strip().lower() in ("gzip", "x-gzip")
        self._member: Any = _gzip_member() if self._gzip else None
        self._members = 1
        self._left = limit

    def feed(self, data: bytes) -> bytes | None:
        """Return what `data` inflates to, or None once it is over the limit.

        Damaged data ends the body where the damage begins.
        """
        if self._gzip:
            data = self._inflate(data)
        self._left -= len(data)
        return None if self._left < 0 else data

    def _inflate(self, data: bytes) -> bytes:
        """Inflate one byte more than is left at most, over all members."""
        parts: list[bytes] = []
        room = self._left + 1
        while data and room > 0 and self._members < _MAX_MEMBERS:
            if self._member.eof:
                self._member = _gzip_member()
                self._members += 1
            try:
                parts.append(self._member.decompress(data, room))
            except zlib.error:
                break
            room -= len(parts[-1])
            data = self._member.unused_data
        return b"".join(parts)


def _gzip_member() -> Any:
    return zlib.decompressobj(zlib.MAX_WBITS | 16)


def too_large(status: int, limit: int) -> ResponseTooLargeError:
    """Return the error for an answer over the limit."""
    return ResponseTooLargeError(
        f"the answer is larger than max_response_bytes ({limit}): "
        "raise it if answers may be that large",
        status=status,
        limit=limit,
    )


def interpret(
    reply: Reply,
    decoder: Decoder,
    *,
    call: CallInfo,
    origin: str,
    secret: Masked[str],
) -> SearchResult | VerifikError:
    """Return what an answer means; errors are returned, for the caller to judge.

    Args:
        reply: The answer.
        decoder: Of the client.
        call: What the search took, for its result.
        origin: Scheme, host and port that were asked.
        secret: The request's token, masked wherever the answer echoes it.
    """
    if 200 <= reply.status < 300:  # noqa: PLR2004
        found = decoder.decode(reply.body, call)
        if isinstance(found, SearchResult):
            return found
        return _shape_error(found, reply, secret)
    if 300 <= reply.status < 400:  # noqa: PLR2004
        return _redirect(reply, origin, secret)
    return _refusal(reply, secret)


def _shape_error(
    fault: ShapeFault, reply: Reply, secret: Masked[str]
) -> ResponseShapeError:
    return ResponseShapeError(
        f"expected {fault.expected} @ {fault.path}",
        path=fault.path,
        status=reply.status,
        request_id=_request_id(fault.request_id, reply.headers, secret),
    )


def _redirect(reply: Reply, origin: str, secret: Masked[str]) -> RedirectError:
    try:
        parts = urllib.parse.urlsplit(reply.headers.get("Location", ""))
        scheme = parts.scheme or origin.partition(":")[0]
        # Without user and path, which may hold secrets of whoever redirects.
        host = f"{scheme}://{parts.netloc.rpartition('@')[2]}"
        target = clean(host, secret.reveal()) if parts.netloc else None
    except ValueError:
        target = None
    return RedirectError(
        f"{reply.status} from {origin} to {target or 'itself or nowhere'}: redirects "
        "are never followed, they would take token and face along; mend base_url",
        status=reply.status,
        origin=origin,
        target=target,
    )


def _request_id(
    found: object, headers: Mapping[str, str], secret: Masked[str]
) -> str | None:
    if not isinstance(found, str) or not found:
        found = headers.get("X-Request-Id")
    if not found:
        return None
    echoed = secret.reveal() in found
    plain = _HEXADECIMAL.fullmatch(found) is not None and not echoed
    return found if plain else clean(found, secret.reveal())


def parse_retry_after(text: str | None, now: dt.datetime) -> float | None:
    """Return the seconds to wait; None for none, junk, zero, the past.

    Args:
        text: Seconds, with decimals too, or an HTTP date.
        now: What a date is counted from, with a time zone.
    """
    if text is None:
        return None
    text = text.strip()
    if _SECONDS.fullmatch(text):
        seconds = float(text)
    else:
        try:
            then = email.utils.parsedate_to_datetime(text)
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
        if then.tzinfo is None:  # "-0000": it is UTC all the same
            then = then.replace(tzinfo=dt.UTC)
        seconds = (then - now).total_seconds()
    return seconds if 0 < seconds < math.inf else None


@attrs.frozen
class _Words:
    """What an error body says, whichever of the known forms it has."""

    message: str = ""
    code: str | None = None
    hints: tuple[object, ...] = ()
    request_id: object = None


def _words(reply: Reply) -> _Words:
    try:
        root = parse_answer(reply.body)
    except ValueError:
        return _Words(message=_foreign(reply))
    if not isinstance(root, dict):
        return _Words()
    data = root.get("data")
    nested = data if isinstance(data, dict) else {}
    detail = nested.get("detail", root.get("detail"))
    first = detail[0] if isinstance(detail, list) and detail else None
    spoken = (
        root.get("message"),
        root.get("error"),
        root.get("validationError"),
        nested.get("message"),
        first.get("msg") if isinstance(first, dict) else detail,
    )
    codes = (root.get("code"), nested.get("code"))
    return _Words(
        message=next((text for text in spoken if isinstance(text, str) and text), ""),
        code=next((text for text in codes if isinstance(text, str) and text), None),
        hints=(nested.get("code"), root.get("failureReason")),
        request_id=root.get("id"),
    )


def _foreign(reply: Reply) -> str:
    """Describe a body that is not the API's: a proxy's page, or damaged.

    Its text stays out: it may be the half of an answer, with persons in it.
    """
    kind = reply.headers.get("Content-Type", "no content type").partition(";")[0]
    text = reply.body[:4096].decode("utf-8", "replace")
    title = _TITLE.search(text)
    about = f" titled {title[1].strip()!r}" if title else ""
    return f"not JSON but {kind}, {len(reply.body)} bytes{about}"


def _refusal(reply: Reply, secret: Masked[str]) -> APIStatusError:
    words = _words(reply)
    message = clean(words.message, secret.reveal())
    code = clean(words.code, secret.reveal()) if words.code else None
    reason, detail = _reason(message)
    facts: dict[str, Any] = {
        "charge": rule_of_status(reply.status).charge,
        "status": reply.status,
        "code": code,
        "reason": reason,
        "detail": detail,
        "request_id": _request_id(words.request_id, reply.headers, secret),
        "retry_after": _retry_after(reply),
    }
    # The words as they came: what is masked in a message is still to be judged.
    kind = _kind(reply.status, enough(f"{words.code} {words.message}").lower())
    if kind is InvalidRequestError:
        if face := _face_reason(reason, detail, code, *words.hints, _plain(message)):
            return FaceRejectedError(message, **{**facts, "reason": face})
        if (code or "").lower() == "missingparameter":
            named = _PARAMETER.search(message)
            parameter = named and (named[1] or named[2])
            return MissingParameterError(message, parameter=parameter, **facts)
    error: APIStatusError = kind(message, **facts)
    return error


def _retry_after(reply: Reply) -> float | None:
    asked = reply.headers.get("Retry-After")
    seconds = parse_retry_after(asked, dt.datetime.now(dt.UTC))
    if seconds is None and asked is not None and reply.status == 503:  # noqa: PLR2004
        return 0.0  # of no use as a number, but it makes this 503 a throttle
    return seconds


def _kind(status: int, text: str) -> Any:
    """Return the class for a status; the words only split what the status joins."""
    if _UNPAID.search(text):
        return PaymentRequiredError
    if status == 403 and _EXPIRED.search(text):  # noqa: PLR2004
        return AuthenticationError
    return rule_of_status(status).error


def _reason(message: str) -> tuple[str | None, str | None]:
    """Split `NNN:token@detail`; (None, None) where the message is a sentence."""
    found = _TOKEN.fullmatch(message)
    if not found:
        return None, None
    detail = found["detail"] if found["detail"] is not None else found["note"]
    return found["token"].lower(), detail


def _plain(message: str) -> str:
    return _STATUS_PREFIX.sub("", message, count=1)


def _face_reason(*words: object) -> str | None:
    """Return why the picture was refused, or None if that was not the fault.

    The API names the reason first; the engine's words may stand in any place.
    """
    for given in words:
        word = given.lower() if isinstance(given, str) else ""
        word = _ENGINE_WORDS.get(word, word)
        if word in _FACE_REASONS:
            return word
    return None
