"""`verifik-async mock`: the stand-in in the foreground, with a log of requests."""

import asyncio
import contextlib
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from verifik_async.cli._app import Flag
from verifik_async.cli._exit import Exit, UsageError, printable
from verifik_async.cli._signals import on_signals
from verifik_async.testing import MockVerifik, RecordedRequest

_PICTURES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
_LOG_EVERY = 0.1
_REMEMBERED = 2_000


async def mock(
    *,
    port: Annotated[int, Parameter(validator=Number(gte=0, lte=65_535))] = 0,
    latency: str = "0",
    rate: float | None = None,
    burst: float | None = None,
    retry_after: str = "1",
    data_shape: Literal["array", "object"] = "array",
    seed: int = 0,
    enroll: Path | None = None,
    debug: Flag = False,
) -> int:
    """Run a local stand-in of the face search API until Ctrl-C.

    Args:
        port: Where to listen; 0 takes a free port.
        latency: Seconds that a search takes, or the lowest and the highest: 0.02,0.1
        rate: Requests a second that are let through; more get 429. No limit, if left
            out.
        burst: Requests that are let through at once; a second's worth, if left out.
        retry_after: The header of a 429, as it is; none leaves it out.
        data_shape: array, as the API is documented, or object, as front ends read it.
        seed: Start of all random decisions.
        enroll: A folder: each picture is enrolled, its name without ending as the
            person's id.
        debug: Show tracebacks.
    """
    del debug  # looked for by what catches errors
    try:
        server = MockVerifik(
            port=port,
            latency=_latency(latency),
            rate=rate,
            burst=burst,
            retry_after=None if retry_after == "none" else retry_after,
            data_shape=data_shape,
            seed=seed,
            max_recorded=_REMEMBERED,
        )
    except ValueError as error:
        raise UsageError(f"{error} (see --help)") from error
    persons = 0
    if enroll is not None:
        persons = await asyncio.to_thread(_enroll, server, enroll)
    await _serve(server, port, persons)
    return Exit.OK


async def _serve(server: MockVerifik, port: int, persons: int) -> None:
    stop = asyncio.Event()
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(on_signals(stop.set))
        try:
            await stack.enter_async_context(server)
        except OSError as error:
            raise UsageError(
                f"cannot listen on port {port}: {type(error).__name__} "
                "(choose another --port; 0 takes a free one)"
            ) from error
        _write(_welcome(server.url, persons))
        log = _RequestLog(server)
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOG_EVERY):
                    await stop.wait()
            _write(*log.lines())
        noun = "request" if server.hits == 1 else "requests"
        _write(f"\nended after {server.hits} {noun}")


class _RequestLog:
    """Tells each request once, as soon as it has its answer."""

    def __init__(self, server: MockVerifik) -> None:
        self._server = server
        self._open: set[int] = set()
        self._known = 0

    def lines(self) -> list[str]:
        """Return a line for every request answered since the last call."""
        if self._known == self._server.hits and not self._open:
            return []
        return [_line(record) for record in self._ended()]

    def _ended(self) -> Iterator[RecordedRequest]:
        hits, records = self._server.hits, self._server.requests
        oldest = hits - len(records)
        self._open.update(range(max(self._known, oldest), hits))
        self._known = hits
        for number in sorted(self._open):
            if number >= oldest:
                record = records[number - oldest]
                if record.status is None and self._server.in_flight:
                    continue
                yield record
            self._open.discard(number)


def _line(record: RecordedRequest) -> str:
    # No answer: the client has hung up.
    status = "---" if record.status is None else record.status
    size = "-" if record.image_bytes is None else f"{record.image_bytes:,} bytes"
    path = printable(record.path)[:80]
    return f"{time.strftime('%H:%M:%S')}  {status}  {record.method} {path}  {size}"


def _welcome(url: str, persons: int) -> str:
    enrolled = {0: "Nobody is", 1: "1 person is"}.get(persons, f"{persons} persons are")
    return f"""\
Stand-in of the face search API on {url}
{enrolled} enrolled; any token is good.

In another terminal:

  export VERIFIK_BASE_URL={url}
  export VERIFIK_TOKEN=anything
  verifik-async search PICTURE

Ctrl-C ends it. Requests:
"""


def _latency(text: str) -> tuple[float, float]:
    try:
        span = [float(part) for part in text.split(",")]
    except ValueError:
        span = []
    # The last comparison is false for NaN.
    if len(span) not in {1, 2} or not 0 <= span[0] <= span[-1] < math.inf:
        raise ValueError("--latency must be seconds, such as 0.05 or 0.02,0.1")
    return span[0], span[-1]


def _enroll(server: MockVerifik, folder: Path) -> int:
    """Enrol the pictures of a folder and return how many persons there are."""
    try:
        paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in _PICTURES)
        for path in paths:
            server.enroll(path.stem, path.read_bytes())
    except OSError as error:
        raise UsageError(
            f"--enroll: the folder cannot be read: {type(error).__name__} "
            "(give a folder of pictures)"
        ) from error
    if not paths:
        raise UsageError(
            f"--enroll: no pictures in the folder ({', '.join(sorted(_PICTURES))})"
        )
    return len({path.stem for path in paths})


def _write(*lines: str) -> None:
    for line in lines:
        sys.stdout.write(line + "\n")
    sys.stdout.flush()
