"""A million searches through faults of all kinds: `python -m benchmarks.soak`.

Single calls, batches and views of several clients search for pictures from tiny to
20 KB, each time for another of 64 persons. One request in twenty meets a fault. At the
end the books must balance: each search has one end, each request that was sent is
accounted for on both sides, and what the service may bill is known here. Memory, file
descriptors and tasks must be where they were.
"""

import argparse
import asyncio
import gc
import pathlib
import time
from collections import Counter
from collections.abc import Iterator, Sequence

import attrs

from verifik_async import Charge

from . import _machine, _resident
from ._show import Board, flags, parser, positive, run
from ._soak_load import CONNECTIONS, Load, Tally, load
from ._soak_service import FAULTS, Seen, SoakService

_SEARCHES, _QUICK_SEARCHES = 1_000_000, 1000
_PART = 50_000
_QUARTERS = 4
_MOST_GROWTH = 1.15
# A quarter of that on a quiet machine of two cores.
_LIMIT = 3600.0
_OK = 200
_DESCRIPTORS = pathlib.Path("/proc/self/fd")
# What was cancelled or closed has gone by then, on a slow machine as well.
_TO_SETTLE = 10.0


@attrs.frozen
class _Held:
    """What this process holds.

    Attributes:
        mb: Resident memory, or None where the system does not tell.
        descriptors: Open files and sockets; 0 where it does not tell.
        tasks: Of the event loop.
    """

    mb: float | None
    descriptors: int
    tasks: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures; fail if one was missed."""
    options = flags(parser("soak", __doc__))
    options.add_argument("--searches", type=positive, help="in all")
    given = options.parse_args(arguments)
    run(lambda board: _measure(board, given), _LIMIT, given.json)


async def _measure(board: Board, given: argparse.Namespace) -> None:
    count = given.searches or (_QUICK_SEARCHES if given.quick else _SEARCHES)
    tally = Tally(bytearray(count))
    async with SoakService() as service:
        with _machine.pinned(service.pid) as pinning:
            board.head(f"{count:,} searches, {sum(FAULTS.values()):.1%} faults")
            print(f"  {pinning}")
            before = await _settled()
            began = time.perf_counter()
            async with load(service.url, tally) as clients:
                held = await _search(board, clients, count)
            wall = time.perf_counter() - began
            after = await _settled(before)
            seen = await service.seen()
    board.fact("wall", wall, "s")
    board.fact("searches a second", count / wall)
    _show_searches(board, tally, count)
    _show_requests(board, tally, seen)
    _show_money(board, tally, seen)
    _show_held(board, before, held, after)


async def _search(board: Board, clients: Load, count: int) -> list[_Held]:
    """Search for all; what is held after a part to warm up and after each quarter."""
    warm = min(_PART, count // (2 * _QUARTERS))
    await clients.search(range(warm))
    held = [await _settled()]
    board.fact("after warming up: resident", held[0].mb or 0.0, "MB")
    for quarter in range(_QUARTERS):
        first = warm if quarter == 0 else count * quarter // _QUARTERS
        for part in _parts(first, count * (quarter + 1) // _QUARTERS):
            await clients.search(part)
        held.append(await _settled())
        board.fact(f"after quarter {quarter + 1}: resident", held[-1].mb or 0.0, "MB")
    return held


def _parts(first: int, end: int) -> Iterator[range]:
    for start in range(first, end, _PART):
        yield range(start, min(start + _PART, end))


async def _settled(goal: _Held | None = None) -> _Held:
    """Return what is held when nothing is under way, or what is left after a wait."""
    end = time.monotonic() + _TO_SETTLE
    while True:
        gc.collect()
        held = _Held(_resident.now(), _descriptors(), len(asyncio.all_tasks()))
        reached = held.tasks == 1 and (
            goal is None or held.descriptors <= goal.descriptors
        )
        if reached or time.monotonic() >= end:
            return held
        await asyncio.sleep(0.05)


def _descriptors() -> int:
    return len(list(_DESCRIPTORS.iterdir())) if _DESCRIPTORS.exists() else 0


# -- the books -------------------------------------------------------------------------


def _show_searches(board: Board, tally: Tally, count: int) -> None:
    board.head("searches: each begun has one end")
    failed = tally.failures.total()
    board.exactly("begun", tally.begun, count)
    board.exactly("without an end", tally.ends.count(0), 0)
    board.exactly("with one end", tally.ends.count(1), count)
    board.exactly("answered + failed", tally.answered + failed, count)
    board.exactly("answered with another person", tally.wrong, 0)
    board.exactly("answered", tally.answered, tally.stats["answered"])
    board.exactly("failed", failed, tally.stats["failed"])
    for (name, charge), number in sorted(tally.failures.items()):
        board.fact(f"failed: {name}, {charge}", number)
    board.exactly("in slots or queues of closed clients", tally.stats["left"], 0)


def _show_requests(board: Board, tally: Tally, seen: Seen) -> None:
    """Show the requests that were sent beside those that the service saw."""
    board.head("requests: sent beside seen")
    sent = tally.requests.total()
    stats = tally.stats
    board.exactly("sent, by on_attempt", sent, stats["attempts"] + stats["throttled"])
    lost = Counter({key: n for key, n in tally.requests.items() if key.status is None})
    # A request may end before the service has read its head: on a kept connection that
    # had ended, or when its time was up.
    board.at_most("seen, by the service", seen.hits, sent)
    board.at_least("seen, with what was lost here", seen.hits, sent - lost.total())
    board.fact("sent and not seen", sent - seen.hits)
    for key, number in sorted(lost.items(), key=str):
        board.fact(f"sent, no status: {key.error}, {key.charge}", number)
    for fate, number in sorted(seen.without_answer().items()):
        board.fact(f"seen, no answer begun: {fate}", number)
    cut = {fate: n for (fate, status), n in seen.begun.items() if fate in _CUT_SHORT}
    for fate, number in sorted(cut.items()):
        board.fact(f"seen, 200 broken or slow: {fate}", number)
    _show_statuses(board, tally, seen, lost.total())


_CUT_SHORT = ("DROP_AFTER_HEADERS", "SLOW_DRIP", "STALL_AFTER_HEADERS", "TRUNCATE")


def _show_statuses(board: Board, tally: Tally, seen: Seen, lost: int) -> None:
    board.head("statuses: got here beside begun there")
    got: Counter[int] = Counter()
    for key, number in tally.requests.items():
        if key.status is not None:
            got[key.status] += number
    begun = seen.statuses
    for status in sorted(got | begun):
        board.at_most(f"{status}: got", got[status], begun[status])
    missing = begun.total() - got.total()
    board.at_most("begun and not got, of those lost here", missing, lost)


def _show_money(board: Board, tally: Tally, seen: Seen) -> None:
    board.head("money: what the service may bill")
    paid = seen.statuses[_OK]
    strange = _count(tally, Charge.ANSWERED, _OK)
    maybe = _count(tally, Charge.MAYBE_CHARGED, None)
    board.fact("requests that it answered with 200", paid)
    board.at_least("at least as many as results", paid, tally.answered)
    board.at_least("and as 200s that were got, odd ones too", paid, strange)
    board.at_most("no more than these and what may be charged", paid, strange + maybe)


def _count(tally: Tally, charge: Charge, status: int | None) -> int:
    return sum(
        number
        for key, number in tally.requests.items()
        if (key.charge, key.status) == (charge, status)
    )


def _show_held(
    board: Board, before: _Held, held: Sequence[_Held], after: _Held
) -> None:
    board.head("held: before, while the clients live, after")
    row = " ".join(str(one.descriptors) for one in held)
    print(f"  file descriptors: {before.descriptors}, then {row}")
    kept = max(one.descriptors for one in held) - before.descriptors
    board.at_most("most of them that were kept", kept, CONNECTIONS)
    board.exactly("file descriptors at the end", after.descriptors, before.descriptors)
    board.exactly("tasks between the parts", max(h.tasks for h in held), before.tasks)
    board.exactly("tasks at the end", after.tasks, before.tasks)
    first, last = held[1].mb, held[-1].mb
    if first is None or last is None:
        print("  resident memory: this system does not tell")
        return
    most = max(h.mb or 0.0 for h in held)
    board.at_most("most resident over that after a quarter", most / first, _MOST_GROWTH)
    board.at_most("at the end over that", last / first, _MOST_GROWTH)


if __name__ == "__main__":
    main()
