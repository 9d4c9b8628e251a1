"""Searches of a batch that are equal go over the wire once."""

import asyncio
from collections.abc import Awaitable, Callable

from verifik_async.models import SearchResult


class Shared:
    """Results of a batch by parameters and picture, and who is searching for them."""

    def __init__(self) -> None:
        self._known: dict[object, SearchResult | asyncio.Future[None]] = {}

    async def search(
        self,
        key: object,
        search: Callable[[], Awaitable[SearchResult]],
        wait: Callable[[Awaitable[None]], Awaitable[None]],
    ) -> tuple[SearchResult, bool]:
        """Return the result, and whether it is another's; errors are not shared."""
        while (known := self._known.get(key)) is not None:
            if isinstance(known, SearchResult):
                return known, True
            await wait(asyncio.shield(known))
        done = self._known[key] = asyncio.get_running_loop().create_future()
        try:
            result = self._known[key] = await search()
        except BaseException:
            del self._known[key]
            raise
        finally:
            done.set_result(None)
        return result, False
