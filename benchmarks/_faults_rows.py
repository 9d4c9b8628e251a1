"""What can go wrong between a client and the service, phase by phase."""

import functools
import gzip
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Final, TypeAlias

import attrs

from verifik_async import Charge
from verifik_async.testing import Fault
from verifik_async.testing._faults import Step

from ._faults_places import (
    Place,
    accepting,
    answering,
    kept,
    over_tls,
    redirecting,
    refusing,
    talking_tls,
)

NOT_SENT, MAYBE, ANSWERED = Charge.NOT_SENT, Charge.MAYBE_CHARGED, Charge.ANSWERED
RESULT = "a result"
LOST, TIMEOUT = "ConnectionLostError", "AttemptTimeoutError"
CONNECT, SHAPE = "ConnectError", "ResponseShapeError"
TOO_LARGE, SERVER = "ResponseTooLargeError", "ServerError"

# Requests of a search that is sent again as often as the policy lets it.
ALL: Final = 2
MB: Final = 1_000_000
# Longer than an attempt may take here.
LONG: Final = 30.0

_JSON: Final = b"Content-Type: application/json\r\n"
_BODY: Final = b'{"id":"A0001","data":[]}'
_STATUS: Final = b"HTTP/1.1 200 OK\r\n" + _JSON
_LENGTH: Final = b"Content-Length: %d\r\n\r\n"
_OK: Final = _STATUS + _LENGTH % len(_BODY) + _BODY
_CHUNKED: Final = _STATUS + b"Transfer-Encoding: chunked\r\n\r\n"
_CHUNK: Final = b"%x\r\n%b\r\n" % (len(_BODY), _BODY)
_HALF: Final = _STATUS + _LENGTH % 1_000 + _BODY[:10]
_ENDS: Final[tuple[Step, ...]] = ("reset", "close", "half_close", "stall")
_WAYS: Final[dict[Step, str]] = {
    "reset": "reset",
    "close": "closed",
    "half_close": "half-closed",
    "stall": "silence",
}

MakePlace: TypeAlias = Callable[[], AbstractAsyncContextManager[Place]]


@attrs.frozen(kw_only=True)
class Row:
    """One fault, and what is promised of it.

    Attributes:
        phase: When it strikes.
        what: What goes wrong.
        place: Makes the server that does it.
        ends_in: What a single search ends in, an error's class or a result.
        charge: What it says that it may have cost.
        requests: That the server sees of it.
        in_batch: What two probes of a batch end in, and then the batch if it stops.
        of_two: Requests that the server sees of both.
        large: Whether the picture does not fit into the buffers on the way.
    """

    phase: str
    what: str
    place: MakePlace
    ends_in: str
    charge: Charge
    requests: int
    in_batch: tuple[str, ...]
    of_two: int
    large: bool


def _row(  # noqa: PLR0917 - a line of a table
    phase: str,
    what: str,
    place: MakePlace,
    ends_in: str,
    charge: Charge,
    requests: int = 1,
    *,
    in_batch: tuple[str, ...] = (),
    of_two: int | None = None,
    large: bool = False,
) -> Row:
    return Row(
        phase=phase,
        what=what,
        place=place,
        ends_in=ends_in,
        charge=charge,
        requests=requests,
        in_batch=in_batch or (ends_in, ends_in),
        of_two=2 * requests if of_two is None else of_two,
        large=large,
    )


def rows() -> list[Row]:
    """Return all rows, in the order in which a search goes."""
    return [
        *_connecting(),
        *_tls(),
        *_sending(),
        *_waiting(),
        *_on_a_kept_connection(),
        *_in_the_head(),
        *_in_the_body(),
        *_body_as_a_whole(),
        *_redirects(),
        *_statuses(),
    ]


def _connecting() -> Iterator[Row]:
    phase = "connecting"
    yield _row(phase, "refused", refusing, CONNECT, NOT_SENT, 0)
    # A moment later, or it would be luck whether the client has written by then.
    for end in _ENDS:
        ending = TIMEOUT if end == "stall" else LOST
        what = f"accepted, nothing read, then {_WAYS[end]}"
        yield _row(phase, what, accepting(0.05, end), ending, MAYBE, 0)
    what = "accepted, then what is no HTTP"
    steps = (0.05, b"220 ready\r\n", "stall")
    yield _row(phase, what, accepting(*steps), LOST, MAYBE, 0)


def _tls() -> Iterator[Row]:
    phase = "TLS"
    for what, place in {
        "certificate expired": talking_tls(expired=True),
        "certificate of another host": talking_tls(name="elsewhere.example"),
        "certificate of an unknown authority": talking_tls(trusted=False),
        "TLS 1.1 at most": talking_tls(old=True),
        "handshake never answered": over_tls("stall"),
        "handshake reset": over_tls(0.05, "reset"),
        "handshake closed": over_tls(0.05, "close"),
        "plain HTTP instead": over_tls(0.05, b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    }.items():
        yield _row(phase, what, place, CONNECT, NOT_SENT, 0)
    yield _row(phase, "sound", talking_tls(), RESULT, ANSWERED)
    cut = Fault.raw(_HALF, "close")
    yield _row(phase, "cut off in the body", talking_tls(cut), LOST, MAYBE)


def _sending() -> Iterator[Row]:
    row = functools.partial(_row, "sending the request", large=True)
    unread = Fault.drop_before_body_read()
    yield row("reset, body unread", answering(unread), LOST, NOT_SENT, ALL)
    for end in ("close", "half_close"):
        fault = Fault.raw(end, before_body=True)
        what = f"{_WAYS[end]}, body unread"
        yield row(what, answering(fault), LOST, NOT_SENT, ALL)
    stalled = Fault.stall_before_body_read(LONG)
    yield row("body never read", answering(stalled), TIMEOUT, NOT_SENT, ALL)
    early = Fault.status(413, before_body=True)
    yield row("413 in mid-way", answering(early), "APIStatusError", ANSWERED)


def _waiting() -> Iterator[Row]:
    phase = "waiting for the answer"
    for end in _ENDS:
        ending = TIMEOUT if end == "stall" else LOST
        fault = Fault.raw(end)
        yield _row(phase, _WAYS[end], answering(fault), ending, MAYBE)


def _on_a_kept_connection() -> Iterator[Row]:
    phase = "on a kept connection"
    once = functools.partial(_row, phase, of_two=3)
    for end in ("reset", "close", "half_close"):
        fault = Fault.raw(end)
        what = f"{_WAYS[end]} once, no byte of an answer"
        yield once(what, kept(fault), RESULT, MAYBE, 2)
    each = kept(Fault.raw(), always=True)
    yield once("closed each time", each, LOST, MAYBE, 2)
    part = kept(Fault.raw(_STATUS, 0.05, "close"))
    yield _row(
        phase, "closed in the answer's head", part, LOST, MAYBE, in_batch=(LOST, RESULT)
    )
    unasked = kept(before=Fault.raw(_OK, 0.02, _OK, "stall"))
    yield _row(phase, "an answer that nobody asked for", unasked, RESULT, ANSWERED)
    both = kept(before=Fault.raw(_OK + _OK, "stall"))
    yield _row(phase, "two answers to the search before", both, RESULT, ANSWERED)
    lie = kept(before=Fault.raw(_OK, "close"))
    yield _row(phase, "said to be kept, and closed", lie, RESULT, ANSWERED)
    closing = b"Connection: close\r\nContent-Length: "
    told = kept(before=Fault.raw(_OK.replace(b"Content-Length: ", closing), "stall"))
    yield _row(phase, "said to be closed, and kept", told, RESULT, ANSWERED)


def _in_the_head() -> Iterator[Row]:
    phase = "in the answer's head"
    for where, part in {"status line": b"HTTP/1.1 20", "headers": _STATUS}.items():
        for end in _ENDS:
            ending = TIMEOUT if end == "stall" else LOST
            place = answering(Fault.raw(part, 0.05, end))
            yield _row(phase, f"{_WAYS[end]}, {where}", place, ending, MAYBE)
    drip = [step for byte in _STATUS for step in (bytes([byte]), 0.05)]
    yield _row(phase, "slow drip", answering(Fault.raw(*drip)), TIMEOUT, MAYBE)
    for what, data in {
        "no HTTP": b"\x00\x01 no HTTP\r\n\r\n",
        "HTTP/0.9: a body alone": _BODY,
        "HTTP/2 frames": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + bytes(18),
        "a status that is no number": _OK.replace(b"200", b"2OO"),
        "a header without a colon": _OK.replace(_JSON, b"Content-Type\r\n"),
        "a length that is no number": _OK.replace(b"Length: ", b"Length: x"),
        "a negative length": _OK.replace(b"Length: ", b"Length: -"),
        "two lengths": _OK.replace(_JSON, b"Content-Length: 3\r\n"),
        "a header of 20 KB": _STATUS + b"X: " + b"a" * 20_000 + b"\r\n\r\n",
    }.items():
        yield _row(phase, what, answering(Fault.raw(data)), LOST, MAYBE)
    for what, data in {
        "headers without an end": b"X-Header: a\r\n",
        "one header without an end": b"a" * 5_000,
    }.items():
        fault = Fault.raw(_STATUS + b"X: ", data, "repeat")
        yield _row(phase, what, answering(fault), LOST, MAYBE)
    continues = b"HTTP/1.1 100 Continue\r\n\r\n"
    for what, data in {
        "100 Continue first": continues + _OK,
        "103 Early Hints first": b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + _OK,
        "HTTP/1.0": _OK.replace(b"HTTP/1.1", b"HTTP/1.0"),
        "HTTP/1.0, no length": _STATUS.replace(b"1.1", b"1.0") + b"\r\n" + _BODY,
    }.items():
        yield _row(phase, what, answering(Fault.raw(data)), RESULT, ANSWERED)
    endless = answering(Fault.raw(continues, "repeat"))
    yield _row(phase, "100 Continue without an end", endless, LOST, MAYBE)
    switching = Fault.raw(b"HTTP/1.1 101 Switching Protocols\r\n\r\n", 0.02)
    yield _row(
        phase,
        "101 Switching Protocols",
        answering(switching),
        "APIStatusError",
        ANSWERED,
    )


def _in_the_body() -> Iterator[Row]:
    phase = "in the answer's body"
    for end in _ENDS:
        ending = TIMEOUT if end == "stall" else LOST
        place = answering(Fault.raw(_HALF, 0.05, end))
        yield _row(phase, _WAYS[end], place, ending, MAYBE)
    half = _CHUNKED + _CHUNK[:12]
    for what, data in {
        "chunks that break off": half,
        "chunks without the last": _CHUNKED + _CHUNK,
        "a chunk's size that is none": _CHUNKED + b"zz\r\n",
        "shorter than was sent": _OK.replace(b"Length: %d" % len(_BODY), b"Length: 9"),
        "longer than was sent": _OK.replace(b"Length: ", b"Length: 1"),
    }.items():
        yield _row(phase, what, answering(Fault.raw(data, 0.05)), LOST, MAYBE)
    for what, start, data in (
        ("trailers without an end", _CHUNKED + _CHUNK + b"0\r\n", b"X-Trailer: a\r\n"),
        ("a chunk's extension without an end", _CHUNKED + b"1;", b"a" * 5_000),
        ("chunks of a byte without an end", _CHUNKED, b"1\r\n \r\n"),
    ):
        fault = Fault.raw(start, data, "repeat")
        yield _row(phase, what, answering(fault), LOST, MAYBE)
    yield _row(phase, "slow drip", answering(Fault.slow_drip(20)), TIMEOUT, MAYBE)
    quick = answering(Fault.slow_drip(1_000))
    yield _row(phase, "slow drip that ends in time", quick, RESULT, ANSWERED)


def _body_as_a_whole() -> Iterator[Row]:
    phase = "the answer's body"
    large = _OK.replace(b"Length: %d" % len(_BODY), b"Length: %d" % (9 * MB))
    for what, fault in {
        "gzip of 300 MB in 300 KB": Fault.gzip_bomb(300),
        "9 MB announced": Fault.raw(large, "stall"),
        "larger than 8 MiB, no length": Fault.raw(
            _STATUS + b"\r\n", bytes(5_000), "repeat"
        ),
    }.items():
        yield _row(phase, what, answering(fault), TOO_LARGE, ANSWERED)
    packed = gzip.compress(_BODY)
    gzipped = functools.partial(Fault.body, headers={"Content-Encoding": "gzip"})
    yield _row(phase, "gzip", answering(gzipped(packed)), RESULT, ANSWERED)
    for what, fault in {
        "gzip that breaks off": gzipped(packed[:-20]),
        "gzip that is none": gzipped(_BODY),
        "an encoding that nobody asked for": Fault.body(
            b"\x1b\x17\x00", headers={"Content-Encoding": "br"}
        ),
        "empty": Fault.empty(),
        "204": Fault.raw(b"HTTP/1.1 204 No Content\r\n\r\n"),
        "a web page": Fault.html(200),
        "not UTF-8": Fault.body('{"data":[],"x":"é"}'.encode("latin-1")),
        "null": Fault.body(None),
        "NaN": Fault.body({"data": [{"id": "p", "score": float("nan")}]}),
        "a score of text": Fault.body({"data": [{"id": "p", "score": "high"}]}),
        "JSON of 100,000 levels": Fault.body(b'{"data":' + b"[" * 100_000),
        "21,000 matches": Fault.body({"data": [{"id": "p"}] * 21_000}),
        "300,000 values": Fault.body({"data": [], "x": [0] * 300_000}),
    }.items():
        yield _row(phase, what, answering(fault), SHAPE, ANSWERED)


def _redirects() -> Iterator[Row]:
    for status in (301, 302, 303, 307, 308):
        place = redirecting(status)
        what = f"{status} to another origin"
        yield _row("redirects", what, place, "RedirectError", ANSWERED)
    to_http = redirecting(307, from_tls=True)
    yield _row(
        "redirects", "307 from https to http", to_http, "RedirectError", ANSWERED
    )
    itself = answering(Fault.redirect(302, "/elsewhere"))
    yield _row("redirects", "302 to itself", itself, "RedirectError", ANSWERED)


def _statuses() -> Iterator[Row]:
    row = functools.partial(_row, "statuses")
    for status, ending in {
        400: "InvalidRequestError",
        404: "NotFoundError",
        409: "MissingParameterError",
        412: "InvalidRequestError",
        422: "FaceRejectedError",
        418: "APIStatusError",
        501: SERVER,
    }.items():
        yield row(str(status), answering(Fault.status(status)), ending, ANSWERED)
    for what, fault, ending in (
        ("401", Fault.status(401), "AuthenticationError"),
        ("402", Fault.status(402), "PaymentRequiredError"),
        ("403", Fault.status(403), "PermissionDeniedError"),
        (
            "429, come back in 9,999 s",
            Fault.status(429, retry_after=9_999),
            "RateLimitedError",
        ),
    ):  # it would meet every other search, too
        ends = (ending, "BatchStoppedError")
        yield row(what, answering(fault), ending, ANSWERED, in_batch=ends, of_two=1)
    for status, charge in {
        500: ANSWERED,
        503: ANSWERED,
        502: MAYBE,
        504: MAYBE,
    }.items():
        place = answering(Fault.status(status))
        yield row(str(status), place, SERVER, charge, ALL)
    page = answering(Fault.html(502))
    yield row("502, a web page", page, SERVER, MAYBE, ALL)
    once = functools.partial(answering, always=False)
    for status in (429, 503):
        place = once(Fault.status(status, retry_after=0.05))
        what = f"{status} once, come back in 0.05 s"
        yield row(what, place, RESULT, ANSWERED, 2, of_two=3)
    yield row("500 once", once(Fault.status(500)), RESULT, ANSWERED, 2, of_two=3)
    yield row("502 once", once(Fault.status(502)), RESULT, MAYBE, 2, of_two=3)
