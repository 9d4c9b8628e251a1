"""Work in a process of its own, whose memory holds nothing of others."""

import asyncio
import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

T = TypeVar("T")


async def in_child(work: Callable[[Any], T], task: object, seconds: float) -> T:
    """Return what a function of a module returns for a task; both are pickled.

    Raises:
        TimeoutError: it took longer than that; it was ended.
        EOFError: the process ended without a result; standard error tells why.
    """
    # A fork would begin with all that this process has in memory.
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_report, args=(sender, work, task), daemon=True)
    process.start()
    sender.close()
    try:
        if not await asyncio.to_thread(receiver.poll, seconds):
            raise TimeoutError
        result: T = receiver.recv()
        return result
    finally:
        # Its result is here, or nobody waits for it any more. Closed after the end, for
        # the thread may still look.
        process.kill()
        process.join()
        receiver.close()


def _report(sender: Connection, work: Callable[[Any], object], task: object) -> None:
    sender.send(work(task))
