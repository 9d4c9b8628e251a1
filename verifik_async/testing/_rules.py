"""What the documents say about a search request, as functions of plain values."""

from collections.abc import Collection, Mapping
from typing import Any

import attrs

from ._base64 import is_base64
from ._jwt import expiry

SEARCH_PATH = "/v2/face-recognition/search-active-user"
OPERATING_SYSTEMS = ("ANDROID", "IOS", "DESKTOP")
SEARCH_MODES = ("FAST", "ACCURATE")
MIN_SCORE_RANGE = (0.5, 1)
# "Strings under about 100 characters are rejected."
MIN_IMAGE_CHARACTERS = 100


@attrs.frozen(kw_only=True)
class Refusal:
    """An error answer: its status, the fields of its body, headers of its own."""

    status: int
    message: str
    code: str
    data: tuple[tuple[str, str], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()


@attrs.frozen(kw_only=True)
class Search:
    """The parameters of an acceptable search."""

    image: str = attrs.field(repr=False)
    min_score: float
    collection_id: str | None
    liveness_min_score: float | None
    include_cost: bool


def check_token(
    authorization: str | None,
    tokens: Collection[str] | None,
    expired: Collection[str],
    now: float,
) -> Refusal | None:
    """Judge the Authorization header; None when the caller may search.

    A JWT whose `exp` has passed is expired by itself, whoever lists it as good.

    Args:
        authorization: The header's text, None without one.
        tokens: Those that are good; None when every token is.
        expired: Those that were good once.
        now: Seconds since 1970.
    """
    scheme, _, token = (authorization or "").strip().partition(" ")
    token = token.strip()
    if scheme.lower() == "bearer" and token:
        if token in expired or _has_expired(token, now):
            return Refusal(status=403, message="token_expired", code="FORBIDDEN")
        if tokens is None or token in tokens:
            return None
    return Refusal(status=401, message="Authentication required", code="UNAUTHORIZED")


def _has_expired(token: str, now: float) -> bool:
    end = expiry(token)
    return end is not None and end <= now


def check_route(method: str, path: str) -> Refusal | None:
    """Judge where a request went; None when it is the search."""
    if path != SEARCH_PATH:
        return Refusal(status=404, message=f"Cannot {method} {path}", code="NotFound")
    if method != "POST":
        return Refusal(
            status=405,
            message=f"{method} is not allowed",
            code="MethodNotAllowed",
            headers=(("Allow", "POST"),),
        )
    return None


def check_search(
    fields: Mapping[str, Any], collections: Collection[str]
) -> Search | Refusal:
    """Judge the fields of a search: the first fault found, or its parameters.

    Args:
        fields: The decoded body. Unknown fields are let through.
        collections: The codes of the collections that exist.
    """
    message = (
        _text_fault("image", fields)
        or _choice_fault("os", fields, OPERATING_SYSTEMS)
        or _score_fault("min_score", fields)
        or _choice_fault("search_mode", fields, SEARCH_MODES)
    )
    # Joi takes null for an optional text only where it was told to.
    if message is None and "collection_id" in fields:
        message = _text_fault("collection_id", fields)
    if message is not None:
        # Validation is status 409 in this API, not 400 or 422.
        return Refusal(status=409, message=message, code="MissingParameter")
    image = fields["image"]
    # A data-URI prefix has characters that are not base64's.
    if len(image) < MIN_IMAGE_CHARACTERS or not is_base64(image):
        return Refusal(status=412, message="only_images_in_base64", code="ERROR")
    collection_id = fields.get("collection_id")
    if collection_id is not None and collection_id not in collections:
        return _unknown_collection()
    return _search(fields)


def _search(fields: Mapping[str, Any]) -> Search:
    threshold = fields.get("liveness_min_score")
    return Search(
        image=fields["image"],
        min_score=fields["min_score"],
        collection_id=fields.get("collection_id"),
        liveness_min_score=threshold if _is_number(threshold) else None,
        include_cost=fields.get("includeCost") is True,
    )


def _unknown_collection() -> Refusal:
    # The code is documented, the status is not; 404 is what its siblings use.
    text = "collection or person id was not found"
    return Refusal(
        status=404,
        message=text,
        code="ERROR",
        data=(("code", "ERR_ENTITY_NOT_FOUND"), ("message", text)),
    )


def _text_fault(name: str, fields: Mapping[str, Any]) -> str | None:
    if name not in fields:
        return f'"{name}" is required'
    if not isinstance(fields[name], str):
        return f'"{name}" must be a string'
    return None if fields[name] else f'"{name}" is not allowed to be empty'


def _choice_fault(
    name: str, fields: Mapping[str, Any], choices: tuple[str, ...]
) -> str | None:
    if name not in fields:
        return f'"{name}" is required'
    if fields[name] in choices:
        return None
    return f'"{name}" must be one of [{", ".join(choices)}]'


def _score_fault(name: str, fields: Mapping[str, Any]) -> str | None:
    low, high = MIN_SCORE_RANGE
    if name not in fields:
        return f'"{name}" is required'
    # Joi may turn "0.7" into a number. Refusing it finds clients that send text.
    if not _is_number(fields[name]):
        return f'"{name}" must be a number'
    if fields[name] < low:
        return f'"{name}" must be greater than or equal to {low}'
    if fields[name] > high:
        return f'"{name}" must be less than or equal to {high}'
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
