"""What is decided when a search has failed."""

from collections.abc import Callable

import pytest

from benchmarks.micro._common import Benchmark, check
from verifik_async import Charge, RetryPolicy, _retry
from verifik_async.errors import ConnectionLostError, ServerError, VerifikError

_ERRORS = {
    "status": ServerError("unavailable", status=503),
    "lost": ConnectionLostError("lost", charge=Charge.NOT_SENT),
}
_RESENDS = 10


@pytest.fixture
def judge() -> Callable[[VerifikError], str]:
    """Return what judges the first attempt of a search."""
    policy = RetryPolicy()

    def judge(error: VerifikError) -> str:
        return _retry.judge(error, policy, attempts=1, renewable=False).name

    return judge


@pytest.fixture
def delays() -> Callable[[], int]:
    """Return what draws the delays of some resends in a row, and counts them."""
    policy = RetryPolicy()

    def delays() -> int:
        drawn = zip(range(_RESENDS), _retry.delays(policy), strict=False)
        return sum(delay >= 0 for _, delay in drawn)

    return delays


@pytest.mark.parametrize("kind", _ERRORS)
def test_judge(
    benchmark: Benchmark, judge: Callable[[VerifikError], str], kind: str
) -> None:
    """Whether an error is worth another attempt."""
    check(benchmark(judge, _ERRORS[kind]), "RESEND")


def test_delays(benchmark: Benchmark, delays: Callable[[], int]) -> None:
    """How long to wait before each."""
    check(benchmark(delays), _RESENDS)
