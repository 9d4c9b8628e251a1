"""Searches whose visitors may leave before they are answered."""

import asyncio
from collections.abc import Awaitable
from types import TracebackType
from typing import Self, TypeVar

from verifik_async import VerifikError

T = TypeVar("T")


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
        task = self._group.create_task(_settled(search))
        outcome = await asyncio.shield(task)
        if isinstance(outcome, VerifikError):
            raise outcome
        return outcome


async def _settled(search: Awaitable[T]) -> T | VerifikError:
    """Return the error instead of raising it: in a group it would end the others."""
    try:
        return await search
    except VerifikError as error:
        return error
