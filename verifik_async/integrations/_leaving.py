"""Searches whose visitors may leave before they are answered."""

import asyncio
import logging
from collections.abc import Awaitable
from types import TracebackType
from typing import Generic, Self, TypeVar, cast

import attrs

T = TypeVar("T")

_logger = logging.getLogger("verifik_async.integrations")


@attrs.define
class Settled(Generic[T]):
    """What a search has come to: raised in a task group, an error would end others.

    Attributes:
        result: What came of it, if there is no error.
        error: Why there is none, or None.
    """

    result: T | None = attrs.field(default=None, repr=False)
    error: Exception | None = None

    def unwrap(self) -> T:
        """Return the result, or raise the error."""
        if self.error is None:
            return cast("T", self.result)
        try:
            raise self.error
        finally:
            # Its traceback holds this frame: together they would hold the picture
            # until the garbage collector comes by.
            self.error = None


async def settled(search: Awaitable[T]) -> Settled[T]:
    """Return what a search comes to, an error as well."""
    try:
        return Settled(await search)
    except Exception as error:  # noqa: BLE001 - the caller raises it
        return Settled(error=error)


class Finisher:
    """Lets searches go on to their end when those who asked for them are gone.

    An asynchronous context: leaving it waits for what still runs, so close the client
    within it: that bounds the wait.
    """

    def __init__(self) -> None:
        self._group = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._group.__aexit__(kind, error, traceback)

    async def finish(self, search: Awaitable[T]) -> T:
        """Return what a search comes to; it goes on if the caller is cancelled."""
        task = self._group.create_task(settled(search))
        try:
            outcome = await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_tell)
            raise
        return outcome.unwrap()


def _tell(task: asyncio.Task[Settled[T]]) -> None:
    """Log an error that nobody is there to see."""
    if not task.cancelled() and (error := task.result().error) is not None:
        charge = getattr(error, "charge", "unknown")
        kind = type(error).__name__
        _logger.warning("a search whose visitor left ended in %s (%s)", kind, charge)
