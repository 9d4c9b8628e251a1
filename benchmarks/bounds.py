"""What the largest answers cost: `python -m benchmarks.bounds`.

A client in a process of its own gets answers at its limits and far beyond them, one
after the other. For each: what the search ends in, how much its memory grows at its
peak, and how long everybody else on its event loop has to wait at worst.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Sequence

import attrs

from verifik_async import RetryPolicy, Timeouts, VerifikClient, VerifikError
from verifik_async._convert import MAX_MATCHES, MAX_VALUES
from verifik_async.testing import Fault, MockVerifik

from . import _machine, _resident
from ._child import in_child
from ._job import OPTIONS, TOKEN, make_picture
from ._show import Board, flags, parser, run
from ._ticker import ticking

_CAP = 8 * 1024 * 1024  # the default of max_response_bytes
_MB = 1_000_000
# Of the cap, for answers that are refused.
_MOST_TIMES = 3
_CHILD_LIMIT = 60.0
_LIMIT = 300.0
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
_CHUNKED = _HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
_MATCH = b'{"id":"person","score":0.9%b}'


@attrs.frozen(kw_only=True)
class _Came:
    """What came of one answer.

    Attributes:
        ended_in: The class of the error, or of the result.
        seconds: That it took.
        grown_mb: At the peak; None where the system does not tell.
        late_s: The longest that others waited.
    """

    ended_in: str
    seconds: float
    grown_mb: float | None
    late_s: float


def _refused() -> dict[str, Fault]:
    """Return answers beyond a bound; none may fill the memory."""
    return {
        "gzip of 300 MB in 300 KB": Fault.gzip_bomb(300),
        "a body without an end": Fault.raw(_HEAD + b"\r\n", bytes(9_999), "repeat"),
        "headers without an end": Fault.raw(_HEAD, b"X-Header: a\r\n", "repeat"),
        "trailers without an end": Fault.raw(
            _CHUNKED + b'b\r\n{"data":[]}\r\n0\r\n', b"X-Trailer: a\r\n", "repeat"
        ),
        "a chunk's extension without an end": Fault.raw(
            _CHUNKED + b"1;", bytes(9_999), "repeat"
        ),
        "8 MB of brackets": Fault.body(b'{"data":' + b"[" * (_CAP - 8)),
        "8 MB of matches": Fault.body(_matches(_CAP // 30)),
        "8 MB of numbers": Fault.body(b'{"data":[' + b"1," * (_CAP // 2 - 9) + b"1]}"),
    }


def _taken() -> dict[str, Fault]:
    """Return answers just within the bounds."""
    values = b",".join([b"1"] * (MAX_VALUES - 10))
    fill = b',"x":[%b]' % b",".join([b"0"] * (MAX_VALUES // MAX_MATCHES - 5))
    return {
        "nobody found": Fault.body({"data": []}),
        "8 MB in one text": Fault.body(b'{"data":[],"x":"%b"}' % (b"a" * (_CAP - 20))),
        f"{MAX_MATCHES:,} matches": Fault.body(_matches(MAX_MATCHES)),
        f"{MAX_MATCHES:,} matches with more fields": Fault.body(
            _matches(MAX_MATCHES, fill)
        ),
        f"{MAX_VALUES:,} values": Fault.body(b'{"data":[],"x":[%b]}' % values),
    }


def _matches(count: int, more: bytes = b"") -> bytes:
    return b'{"data":[%b]}' % b",".join([_MATCH % more] * count)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures; fail if memory is not bounded."""
    given = flags(parser("bounds", __doc__)).parse_args(arguments)
    run(lambda board: _measure(board, given), _LIMIT)


async def _measure(board: Board, given: argparse.Namespace) -> None:
    kept = []
    for kind, faults in (("refused", _refused()), ("taken", _taken())):
        board.head(f"{kind}; the cap is {_CAP / _MB:.2f} MB")
        for name, fault in [*faults.items()][: 1 if given.quick else None]:
            came = await _play(fault)
            _show(board, name, came, refused=kind == "refused")
            kept.append({"kind": kind, "what": name} | attrs.asdict(came))
    if given.json is not None:
        text = json.dumps({"about": _machine.here(), "rows": kept}, indent=1)
        given.json.write_text(text + "\n", encoding="utf-8")


def _show(board: Board, name: str, came: _Came, *, refused: bool) -> None:
    if refused:
        board.fact(f"{name}: ends in", came.ended_in)
    else:
        board.exactly(f"{name}: ends in", came.ended_in, "SearchResult")
    if came.grown_mb is not None and refused:
        most = _MOST_TIMES * _CAP / _MB
        board.at_most(f"{name}: memory", came.grown_mb, most, "MB")
    elif came.grown_mb is not None:
        board.fact(f"{name}: memory", came.grown_mb, "MB")
    board.fact(f"{name}: took", came.seconds * 1000, "ms")
    board.fact(f"{name}: others waited at most", came.late_s * 1000, "ms")


async def _play(fault: Fault) -> _Came:
    async with MockVerifik() as mock:
        mock.script(None, fault)
        return await in_child(_search, mock.url, _CHILD_LIMIT)


# -- in a process of its own -----------------------------------------------------------


def _search(url: str) -> _Came:
    return asyncio.run(_searched(url))


async def _searched(url: str) -> _Came:
    async with VerifikClient(
        TOKEN,
        base_url=url,
        defaults=OPTIONS,
        retry=RetryPolicy(attempts=1),
        timeouts=Timeouts(attempt=30),
    ) as client:
        picture = make_picture(2_000)
        await client.search_active_user(picture)  # all is imported by then
        before = _resident.now()
        async with ticking() as late, _resident.peak() as peak:
            began = time.perf_counter()
            try:
                ended_in = type(await client.search_active_user(picture)).__name__
            except VerifikError as error:
                ended_in = type(error).__name__
            seconds = time.perf_counter() - began
        grown = None if before is None or peak.mb is None else peak.mb - before
        return _Came(
            ended_in=ended_in, seconds=seconds, grown_mb=grown, late_s=max(late)
        )


if __name__ == "__main__":
    main()
