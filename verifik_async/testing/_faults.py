"""What can go wrong with an answer, as values."""

import enum
import functools
import json
import math
import zlib
from collections.abc import Mapping
from typing import Any, Literal, Self, TypeAlias

import attrs

from ._answers import JSON_HEADERS, JSON_TYPE, Headers, Reply, refusal
from ._rules import Refusal

# Bytes to write, seconds to wait, or how the connection ends: its writing half only,
# the bytes before once more until nobody is there, or never.
Step: TypeAlias = (
    bytes | float | Literal["close", "reset", "half_close", "repeat", "stall"]
)

_ENDS = ("close", "reset", "half_close", "repeat", "stall")
_MEGABYTE = 1024 * 1024
_BOMB_HEADERS = (*JSON_HEADERS, ("Content-Encoding", "gzip"))

# Message and code by status, as far as the API's documents and front ends tell.
_KNOWN = {
    400: ("Invalid request", "BadRequest"),
    401: ("Authentication required", "UNAUTHORIZED"),
    402: ("insufficient_credits", "PaymentRequired"),
    403: ("Access forbidden", "Forbidden"),
    404: ("Record not found.", "NotFound"),
    409: ('"os" is required', "MissingParameter"),
    412: ("only_images_in_base64", "ERROR"),
    413: ("request entity too large", "PayloadTooLarge"),
    422: ("no_face_detected", "UnprocessableEntity"),
    423: ("locked", "Locked"),
    429: ("too_many_requests", "TooManyRequests"),
    500: ("internal_error", "ERROR"),
    502: ("bad_gateway", "BadGateway"),
    503: ("This endpoint is temporarily unavailable.", "ServiceUnavailable"),
    504: ("timeout", "Timeout"),
}


class Kind(enum.Enum):
    """Where a fault strikes."""

    REPLY = enum.auto()
    DROP_BEFORE_BODY_READ = enum.auto()
    STALL_BEFORE_BODY_READ = enum.auto()
    DROP_BEFORE_HEADERS = enum.auto()
    DROP_REUSED = enum.auto()
    RESET = enum.auto()
    RAW = enum.auto()
    GZIP_BOMB = enum.auto()
    STALL = enum.auto()
    STALL_AFTER_HEADERS = enum.auto()
    DROP_AFTER_HEADERS = enum.auto()
    TRUNCATE = enum.auto()
    SLOW_DRIP = enum.auto()


# What stands in for the normal answer, so that none is made.
REPLACING = frozenset(
    {
        Kind.REPLY,
        Kind.DROP_BEFORE_BODY_READ,
        Kind.DROP_BEFORE_HEADERS,
        Kind.RESET,
        Kind.RAW,
        Kind.GZIP_BOMB,
    }
)
AFTER_HEADERS = frozenset(
    {
        Kind.STALL_AFTER_HEADERS,
        Kind.DROP_AFTER_HEADERS,
        Kind.TRUNCATE,
        Kind.SLOW_DRIP,
    }
)


@attrs.frozen(kw_only=True)
class Fault:
    """One way to treat one request badly.

    Make it with the constructors below. Equal faults are equal and hashable, so they
    can be keys of `MockVerifik(faults={fault: probability})`.
    """

    kind: Kind
    amount: float = 0.0
    reply: Reply | None = None
    steps: tuple[Step, ...] = attrs.field(
        default=(), repr=lambda steps: ", ".join(map(_shown, steps))
    )
    before_body: bool = False

    @property
    def replaces_answer(self) -> bool:
        """Whether no normal answer is made."""
        return self.kind in REPLACING

    @property
    def after_headers(self) -> bool:
        """Whether the answer's headers arrive in order."""
        return self.kind in AFTER_HEADERS

    @classmethod
    def status(
        cls,
        status: int,
        *,
        retry_after: str | float | None = None,
        message: str | None = None,
        code: str | None = None,
        before_body: bool = False,
    ) -> Self:
        """Answer with a status and the API's usual body for it.

        Args:
            status: The HTTP status.
            retry_after: The header's text, verbatim, or seconds; None for no header.
            message: Instead of the usual message.
            code: Instead of the usual code.
            before_body: Answer as soon as the request's headers are there.
        """
        usual = _KNOWN.get(status, ("error", "ERROR"))
        cause = Refusal(
            status=status, message=message or usual[0], code=code or usual[1]
        )
        reply = refusal(cause, retry_after_header(retry_after))
        return cls(kind=Kind.REPLY, reply=reply, before_body=before_body)

    @classmethod
    def body(
        cls,
        content: Any,
        status: int = 200,
        *,
        content_type: str | None = JSON_TYPE,
        headers: Mapping[str, str] | None = None,
    ) -> Self:
        """Answer with any body: bytes as they are, anything else as JSON."""
        # The standard library's encoder, since it writes NaN, as broken servers do.
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        kind = () if content_type is None else (("Content-Type", content_type),)
        extra = tuple((headers or {}).items())
        reply = Reply(status=status, body=raw, headers=kind + extra)
        return cls(kind=Kind.REPLY, reply=reply)

    @classmethod
    def html(cls, status: int = 502) -> Self:
        """Answer as a proxy in front of the service would, with a web page."""
        page = (
            f"<!DOCTYPE html>\n<html><head><title>{status}</title></head>\n"
            f"<body><h1>{status}</h1><p>The gateway has no answer.</p></body></html>\n"
        )
        return cls.body(page.encode(), status, content_type="text/html")

    @classmethod
    def empty(cls, status: int = 200) -> Self:
        """Answer with a JSON content type and no body."""
        return cls.body(b"", status)

    @classmethod
    def redirect(cls, status: int = 307, location: str = "/elsewhere") -> Self:
        """Answer with a redirect to this location, verbatim."""
        return cls.body(b"", status, content_type=None, headers={"Location": location})

    @classmethod
    def gzip_bomb(cls, megabytes: int = 100) -> Self:
        """Answer with a small gzip body that inflates to this size; valid JSON."""
        return cls(kind=Kind.GZIP_BOMB, amount=megabytes)

    @classmethod
    def garbage(cls, data: bytes = b"\x00\x01 no HTTP at all\r\n\r\n") -> Self:
        """Write these bytes to the connection as they are and close it."""
        return cls.raw(data)

    @classmethod
    def raw(cls, *steps: Step, before_body: bool = False) -> Self:
        """Do these things to the connection, one after the other; then close it.

        Args:
            steps: Bytes are written as they are, a number is a pause in seconds, and
                the last one may say how it ends: "close", "reset", "half_close" (no
                more is sent, the rest is read), "repeat" (the bytes before it, without
                an end) or "stall" (it stays open, and silent).
            before_body: Begin as soon as the request's headers are there.

        Raises:
            ValueError: An end is not the last step, or unknown, or there is nothing
                to repeat.
        """
        ends = [step for step in steps if isinstance(step, str)]
        if any(end not in _ENDS for end in ends) or ends != [*ends[:1]]:
            raise ValueError(f"steps may end in one of {', '.join(_ENDS)}")
        if ends and steps[-1] != ends[0]:
            raise ValueError(f"{ends[0]!r} must be the last step")
        if ends == ["repeat"] and not isinstance(steps[-2:][0], bytes):
            raise ValueError("before 'repeat' there must be bytes")
        return cls(kind=Kind.RAW, steps=steps, before_body=before_body)

    @classmethod
    def drop_before_body_read(cls) -> Self:
        """Reset the connection before the request's body is read."""
        return cls(kind=Kind.DROP_BEFORE_BODY_READ)

    @classmethod
    def drop_before_headers(cls) -> Self:
        """Read the request, then close the connection without a byte."""
        return cls(kind=Kind.DROP_BEFORE_HEADERS)

    @classmethod
    def drop_after_headers(cls) -> Self:
        """Close the connection after the headers and half of the body."""
        return cls(kind=Kind.DROP_AFTER_HEADERS)

    @classmethod
    def drop_reused(cls) -> Self:
        """Read the request and close the connection, if it has served before.

        On a fresh connection the answer is the normal one.
        """
        return cls(kind=Kind.DROP_REUSED)

    @classmethod
    def reset(cls) -> Self:
        """Read the request, then send a TCP reset."""
        return cls(kind=Kind.RESET)

    @classmethod
    def stall_before_body_read(cls, seconds: float = math.inf) -> Self:
        """Leave the request's body unread for a time, then answer normally."""
        return cls(kind=Kind.STALL_BEFORE_BODY_READ, amount=seconds)

    @classmethod
    def stall(cls, seconds: float = math.inf) -> Self:
        """Read the request, send nothing for a time, then answer normally."""
        return cls(kind=Kind.STALL, amount=seconds)

    @classmethod
    def stall_after_headers(cls, seconds: float = math.inf) -> Self:
        """Send the headers, nothing for a time, then the body."""
        return cls(kind=Kind.STALL_AFTER_HEADERS, amount=seconds)

    @classmethod
    def truncate(cls, size: int) -> Self:
        """Close after this many bytes of a body that was announced as longer."""
        return cls(kind=Kind.TRUNCATE, amount=size)

    @classmethod
    def slow_drip(cls, bytes_per_second: float) -> Self:
        """Send the body in small pieces at this speed."""
        if not bytes_per_second > 0:
            raise ValueError("bytes_per_second must be above 0")
        return cls(kind=Kind.SLOW_DRIP, amount=bytes_per_second)


def _shown(step: Step) -> str:
    return f"<{len(step)} bytes>" if isinstance(step, bytes) else repr(step)


def retry_after_header(value: str | float | None) -> Headers:
    """Return the header for a text, verbatim, or for seconds; nothing for None."""
    if value is None:
        return ()
    text = value if isinstance(value, str) else f"{value:.3f}".rstrip("0").rstrip(".")
    return (("Retry-After", text),)


@functools.lru_cache(maxsize=4)
def gzip_bomb_reply(megabytes: int) -> Reply:
    """Return an answer whose gzip body inflates to this many megabytes of JSON."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    blank = b" " * _MEGABYTE
    parts = [packer.compress(b'{"id":"B0MB0","data":[]')]
    parts += [packer.compress(blank) for _ in range(megabytes)]
    parts += [packer.compress(b"}"), packer.flush()]
    return Reply(body=b"".join(parts), headers=_BOMB_HEADERS)
