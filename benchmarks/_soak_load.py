"""Searches of all kinds by several clients, and what became of each."""

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import NamedTuple

import attrs

from verifik_async import (
    Attempt,
    Outcome,
    Probe,
    RetryPolicy,
    SearchResult,
    Timeouts,
    VerifikClient,
    VerifikError,
)
from verifik_async.models import ClientStats

from ._job import OPTIONS, TOKEN
from ._soak_service import make_pictures, person_of

_SINGLES = 16
_BATCH = 32
# That clients may keep between searches.
CONNECTIONS = _SINGLES + _BATCH
# What stalls is cut off after that, so that the rate holds.
_TIMEOUTS = Timeouts(attempt=0.5, deadline=30.0)
_RETRY = RetryPolicy(base_delay=0.01, max_delay=0.05)
_OFTEN = attrs.evolve(_RETRY, retry_maybe_charged=True)
_MAX_RESPONSE_BYTES = 1_000_000
# What a part is split into; one share is for a client that lives no longer than it.
_SHARES = 10


class Request(NamedTuple):
    """How a request on the wire ended; equal ones are counted.

    Attributes:
        status: HTTP status, or None.
        error: Class of the error, or None.
        charge: What it may have cost.
    """

    status: int | None
    error: str | None
    charge: str


@attrs.define
class Tally:
    """What became of all searches.

    Attributes:
        ends: How many ends each search has, by its number.
        begun: Searches begun.
        answered: Those with a result.
        wrong: Of these, with another person than was searched for.
        failures: The others, by class and charge.
        requests: Requests on the wire, as `on_attempt` was told of them.
        stats: Of all clients that were closed.
    """

    ends: bytearray = attrs.field(repr=False)
    begun: int = 0
    answered: int = 0
    wrong: int = 0
    failures: Counter[tuple[str, str]] = attrs.field(factory=Counter)
    requests: Counter[Request] = attrs.field(factory=Counter)
    stats: Counter[str] = attrs.field(factory=Counter)

    def answer(self, number: int, result: SearchResult) -> None:
        """Take note of a result."""
        self.ends[number] += 1
        self.answered += 1
        best = result.best
        self.wrong += best is None or best.id != person_of(number)

    def fail(self, number: int, error: VerifikError) -> None:
        """Take note of an error."""
        self.ends[number] += 1
        self.failures[type(error).__name__, error.charge] += 1

    def note(self, attempt: Attempt) -> None:
        """Take note of a request."""
        key = Request(attempt.status, attempt.error, attempt.charge)
        self.requests[key] += 1

    def add(self, stats: ClientStats) -> None:
        """Add the counts of a client that is closed."""
        for name in ("attempts", "throttled", "answered", "failed"):
            self.stats[name] += getattr(stats, name)
        self.stats["left"] += stats.in_flight + stats.waiting


class Load:
    """Clients that search for pictures by their numbers; made by `load`."""

    def __init__(self, url: str, tally: Tally) -> None:
        self.tally = tally
        self._url = url
        self._pictures = make_pictures()
        self._single = self.client(_SINGLES)
        self._batch = self.client(_BATCH)
        # Views, each with settings of its own over the connections of another.
        self._often = self._single.with_options(retry=_OFTEN)
        self._other = self._batch.with_options(token="another")  # noqa: S106

    def client(self, concurrency: int) -> VerifikClient:
        """Return a new client."""
        return VerifikClient(
            TOKEN,
            base_url=self._url,
            defaults=OPTIONS,
            max_concurrency=concurrency,
            timeouts=_TIMEOUTS,
            retry=_RETRY,
            max_response_bytes=_MAX_RESPONSE_BYTES,
            on_attempt=self.tally.note,
        )

    @property
    def kept(self) -> tuple[VerifikClient, ...]:
        """The clients that live as long as the load."""
        return self._single, self._batch

    async def search(self, numbers: range) -> None:
        """Search for all of these pictures, in every way at once."""
        shares = _split(numbers, _SHARES)
        singles, often = shares[0:2], shares[2:4]
        batch, ordered, short = shares[4:8], shares[8:9], shares[9]
        async with asyncio.TaskGroup() as tasks:
            for client, share in ((self._single, singles), (self._often, often)):
                source = itertools.chain(*share)
                for _ in range(_SINGLES):
                    tasks.create_task(self._one_by_one(client, source))
            tasks.create_task(self._many(self._batch, batch, ordered=False))
            tasks.create_task(self._many(self._other, ordered, ordered=True))
            tasks.create_task(self._for_short(short))

    async def _one_by_one(self, client: VerifikClient, source: Iterator[int]) -> None:
        for number in source:
            self.tally.begun += 1
            try:
                result = await client.search_active_user(self._picture(number))
            except VerifikError as error:
                self.tally.fail(number, error)
            else:
                self.tally.answer(number, result)

    async def _many(
        self, client: VerifikClient, shares: Sequence[range], *, ordered: bool
    ) -> None:
        probes = map(self._probe, itertools.chain(*shares))
        async with client.search_many(probes, ordered=ordered, stop_on=()) as batch:
            async for outcome in batch:
                self._end(outcome)

    async def _for_short(self, share: range) -> None:
        async with self.client(_SINGLES) as client:
            for outcome in await client.search_all(map(self._probe, share), stop_on=()):
                self._end(outcome)
        self.tally.add(client.stats())

    def _end(self, outcome: Outcome) -> None:
        number = int(outcome.key)
        if outcome.error is not None:
            self.tally.fail(number, outcome.error)
        else:
            self.tally.answer(number, outcome.unwrap())

    def _probe(self, number: int) -> Probe:
        self.tally.begun += 1
        return Probe(self._picture(number), key=number)

    def _picture(self, number: int) -> bytes:
        return self._pictures[number % len(self._pictures)]


@contextlib.asynccontextmanager
async def load(url: str, tally: Tally) -> AsyncIterator[Load]:
    """Make a load; its clients are closed after the block, and counted."""
    made = Load(url, tally)
    async with contextlib.AsyncExitStack() as stack:
        for client in made.kept:
            await stack.enter_async_context(client)
        yield made
    for client in made.kept:
        tally.add(client.stats())


def _split(numbers: range, parts: int) -> list[range]:
    return [numbers[start::parts] for start in range(parts)]
