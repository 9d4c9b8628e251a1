"""Run the stand-in as a process: `python -m verifik_async.testing`."""

import argparse
import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Sequence

from ._chance import Latency
from ._control import ControlledMock

_STDIN = 0


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the stand-in's URL and serve until told to end.

    SIGTERM and SIGINT end it, and with --die-with-parent the end of its standard input.
    """
    parser = _parser()
    options = vars(parser.parse_args(arguments))
    die_with_parent = options.pop("die_with_parent")
    # A process of its own is there for speed; nobody could read its records.
    try:
        mock = ControlledMock(max_recorded=0, **options)
    except ValueError as exc:
        parser.error(str(exc))
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(mock, die_with_parent=die_with_parent))


async def _serve(mock: ControlledMock, *, die_with_parent: bool) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        # Windows has no handlers of this kind; it ends processes without asking.
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, stop.set)
    if die_with_parent:
        threading.Thread(
            target=_await_end_of_input, args=(loop, stop), daemon=True
        ).start()
    async with mock:
        print(mock.url, flush=True)  # noqa: T201 - the parent reads it
        await stop.wait()


def _await_end_of_input(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    # A thread, since event loops cannot watch every kind of standard input; os.read,
    # since a buffered reader's lock would be in the way when the interpreter ends.
    with contextlib.suppress(OSError):
        while os.read(_STDIN, 4096):
            pass
    with contextlib.suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(stop.set)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m verifik_async.testing",
        description="A local stand-in of the face search API, on loopback only.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--port", type=int, default=0, help="0 for a free one")
    add("--latency", type=_latency, default=0.0, help="seconds: 0.05, or 0.02,0.1")
    add("--rate", type=float, help="requests a second; more get 429")
    add("--burst", type=float, help="requests at once; a second's worth by default")
    add("--retry-after", type=_header, default="1", help='of 429s, verbatim; or "none"')
    add("--data-shape", choices=("array", "object"), default="array")
    add("--seed", type=int, default=0, help="start of the random decisions")
    add("--die-with-parent", action="store_true", help="end when stdin is closed")
    return parser


def _latency(text: str) -> Latency:
    low, comma, high = text.partition(",")
    return (float(low), float(high)) if comma else float(low)


def _header(text: str) -> str | None:
    return None if text == "none" else text


if __name__ == "__main__":
    main()
