"""Where the answer of a probe comes from: the journal, an equal probe, or a search."""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeAlias, TypeVar

import attrs

from verifik_async._call import Company, Plan, Search
from verifik_async._coalesce import Shared
from verifik_async._deadline import Deadline
from verifik_async._images import image_source
from verifik_async._journal import Answered, Searched
from verifik_async._journal_file import JournalWriter
from verifik_async._order import Order, Prepare
from verifik_async._source import check_key, key_of
from verifik_async._state import LoopState
from verifik_async._types import Masked
from verifik_async._wire import parameters_digest
from verifik_async.errors import ConfigurationError
from verifik_async.models import CallInfo, ImageInput, Outcome, Probe, SearchResult

Answer: TypeAlias = tuple[SearchResult, CallInfo]
T = TypeVar("T")
# What readers of JSON take for a whole number.
_LEAST, _MOST = -(2**63), 2**64 - 1


@attrs.define
class Item:
    """A probe on its way.

    Attributes:
        index: Its position in the input.
        probe: The probe; never shown.
        key: Its own, or its index.
        search: What it has come to, once it can be searched.
        claimed: Whether the journal has taken note of its key: only then is it kept.
        before: What the journal has the answer of under its key.
        searched: What it is kept with.
    """

    index: int
    probe: Probe = attrs.field(repr=False)
    key: str | int = attrs.field(init=False)
    search: Search | None = None
    claimed: bool = False
    before: bytes | None = None
    searched: Searched = attrs.field(factory=Searched)

    def __attrs_post_init__(self) -> None:
        key = key_of(self.probe)
        self.key = self.index if key is None else key

    def outcome(self, **what: Any) -> Outcome:
        """Return what became of it."""
        return Outcome(
            index=self.index, key=self.key, context=self.probe.context, **what
        )


class Finder:
    """Finds the answers of a batch.

    Attributes:
        coalesced: How many were those of equal probes.
    """

    def __init__(
        self, order: Order, company: Company, journal: JournalWriter | None
    ) -> None:
        self.coalesced = 0
        self._order = order
        self._company = company
        self._journal = journal
        self._shared = Shared()

    def forget(self) -> None:
        """Keep the count only."""
        self._shared = Shared()

    async def find(self, item: Item) -> Answer | None:
        """Return what was found and what it took; None: the journal has it already.

        Raises:
            VerifikError: there is no answer.
        """
        order = self._order
        check_key(item.probe)
        if self._journal is not None:
            _claim(self._journal.answered, item)
        plan = order.plan_of(item.probe)
        state = await order.state()
        item.search = search = Search(plan, state, self._company)
        if order.is_plain:
            result = await search.run()
            return result, result.call
        return await self._find(item, plan, _Waits(search, state, self._company))

    async def _find(self, item: Item, plan: Plan, waits: "_Waits") -> Answer | None:
        order, digest = self._order, ""
        if order.journal is not None or order.coalesce:
            digest = await waits.within(_digest(plan))
        if order.journal is not None:
            parameters = parameters_digest(plan.start)
            own = None if parameters == order.journal.parameters else parameters
            item.searched = Searched(digest, own)
            if Answered.covers(item.before, item.searched):
                await asyncio.sleep(0)  # many in a row must not hold up others
                return None
        if order.prepare is not None:
            work = _prepare(plan, order.prepare, order.max_image_bytes)
            await waits.within(work)
        if not order.coalesce:
            result = await waits.search.run()
            return result, result.call
        return await self._find_once((plan.start, digest), waits)

    async def _find_once(self, key: object, waits: "_Waits") -> Answer:
        result, shared = await self._shared.search(key, waits.search.run, waits.within)
        self.coalesced += shared
        return result, CallInfo() if shared else result.call


class _Waits:
    """What a search waits for before it is one: no longer than its batch lasts."""

    def __init__(self, search: Search, state: LoopState, company: Company) -> None:
        self.search = search
        cuts = (state.cut, company.cut)
        self._deadline = Deadline(state.loop, None, cuts, company.until)

    async def within(self, work: Awaitable[T]) -> T:
        return await self._deadline.within(work, self.search.tally)


def _claim(answered: Answered, item: Item) -> None:
    """Let the journal take note of a probe's key.

    Raises:
        ConfigurationError: it has none, or it was there before.
    """
    if key_of(item.probe) is None:
        raise ConfigurationError(
            "key is missing: with a journal each probe must be a path or a "
            "Probe(image, key=...)"
        )
    if isinstance(item.key, int) and not _LEAST <= item.key <= _MOST:
        raise ConfigurationError(
            "key is a number of more than 64 bits: with a journal, pass it as text"
        )
    item.before = answered.claim(item.key)
    item.claimed = True


async def _digest(plan: Plan) -> str:
    """Open the picture of a plan, once and for all, and return its digest."""
    plan.source = picture = await plan.source.open()
    return await picture.digest()


async def _prepare(plan: Plan, prepare: Prepare, max_bytes: int) -> None:
    """Put the picture that is sent in the place of the one that was given."""
    picture = await plan.source.open()
    prepared: Masked[ImageInput] = Masked(await prepare(await picture.content()))
    plan.source = image_source(prepared, max_bytes)
