"""Ctrl-C, as an event where something is under way, as an exception before."""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C end a block that holds up the event loop, with KeyboardInterrupt.

    For what comes first and reads a lot: a thread could not be interrupted.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def on_signals(act: Callable[[], None]) -> Iterator[None]:
    """Call a function on the event loop for each SIGINT and SIGTERM."""
    loop = asyncio.get_running_loop()

    def handle(*_: object) -> None:
        loop.call_soon_threadsafe(act)

    # Not the event loop's own handlers: Windows has none.
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [(number, signal.signal(number, handle)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)
