"""What the stand-in remembers of the requests it got."""

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import attrs

from ._base64 import decode

_NAMED = ("os", "min_score", "search_mode", "collection_id")
# Never Authorization: a record may be printed.
_HEADERS = (
    "Accept",
    "Accept-Encoding",
    "Content-Length",
    "Content-Type",
    "Transfer-Encoding",
    "User-Agent",
)
_MAX_TEXT = 200
_NOTHING: Mapping[str, Any] = MappingProxyType({})


@attrs.frozen(kw_only=True)
class RecordedRequest:
    """One request, without its picture and its token.

    Attributes:
        method: The HTTP method.
        path: The path, without a query.
        at: When its headers were read, on the event loop's clock.
        reused: Whether its connection had brought a request before.
        token_ok: Whether it carried a token that is good.
        headers: Those that say how the body was sent, and by whom.
        image_sha256: Hexadecimal digest of the decoded picture; None when there is no
            picture or it is not base64.
        image_bytes: Size of the decoded picture, or None.
        os: What was sent, whatever its type; None when it was not. So are min_score,
            search_mode and collection_id.
        extra: All other fields of the body. Long values are shortened to their size.
        status: The status sent; None when none was, or not yet.
    """

    method: str
    path: str
    at: float = 0.0
    reused: bool = False
    token_ok: bool = False
    headers: Mapping[str, str] = _NOTHING
    image_sha256: str | None = None
    image_bytes: int | None = None
    os: object = None
    min_score: object = None
    search_mode: object = None
    collection_id: object = None
    extra: Mapping[str, object] = _NOTHING
    status: int | None = None


class RequestLog:
    """The newest requests, in the order in which they came in."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._next = 0
        self._records: dict[int, RecordedRequest] = {}

    def snapshot(self) -> tuple[RecordedRequest, ...]:
        """Return all of them, while a server's thread may add more."""
        return tuple(self._records.values())

    def clear(self) -> None:
        """Forget all; requests that are under way stay forgotten."""
        self._records.clear()

    def add(self, record: RecordedRequest) -> int:
        """Remember a request and return its number."""
        self._next += 1
        self._records[self._next] = record
        if len(self._records) > self._size:
            del self._records[next(iter(self._records))]
        return self._next

    def amend(self, number: int, **facts: Any) -> None:
        """Add facts to a request, if it is still remembered."""
        record = self._records.get(number)
        if record is not None:
            self._records[number] = attrs.evolve(record, **facts)


def known_headers(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return the headers that are worth keeping and safe to keep."""
    return {name: headers[name] for name in _HEADERS if name in headers}


def describe_body(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a record says of a decoded body, by the record's field names."""
    image = fields.get("image")
    raw = decode(image) if isinstance(image, str) else None
    described = {name: _short(fields[name]) for name in _NAMED if name in fields}
    described["extra"] = {
        name: _short(value)
        for name, value in fields.items()
        if name not in _NAMED and name != "image"
    }
    if raw is not None:
        described["image_sha256"] = hashlib.sha256(raw).hexdigest()
        described["image_bytes"] = len(raw)
    return described


def _short(value: object) -> object:
    # Pictures may come in unexpected fields too.
    if value is None or isinstance(value, bool | int | float):
        return value
    size = len(value if isinstance(value, str) else repr(value))
    return value if size <= _MAX_TEXT else f"<{size} characters>"
