"""A slot taken and given back, where nobody has to wait."""

import asyncio
from collections.abc import Callable, Iterator

import pytest

from benchmarks.micro._common import Benchmark, check
from verifik_async._gate import Gate, Patience, Rank, Ticket

_SLOTS = 32


@pytest.fixture
def pass_gate() -> Iterator[Callable[[], bool]]:
    """Yield what takes one search in, through and out."""
    loop = asyncio.new_event_loop()
    gate = Gate(_SLOTS, None, loop)
    patience = Patience(until=None, max_pause=60.0)

    def pass_gate() -> bool:
        ticket = Ticket(Rank.SINGLE, patience, loop.time())
        entered = gate.try_enter(ticket)
        gate.answered(ticket)
        gate.leave(ticket)
        return entered

    yield pass_gate
    gate.close()
    loop.close()


def test_free_slot(benchmark: Benchmark, pass_gate: Callable[[], bool]) -> None:
    """Ticket, entry, answer and exit."""
    check(benchmark(pass_gate), expected=True)
