"""What the measurements have in common."""

from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias, TypeVar

import pytest

T = TypeVar("T")

# The fixture of pytest-benchmark: calls a function again and again and returns what it
# returned.
Benchmark: TypeAlias = Callable[..., Any]


def finish(work: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine that finds nothing to wait for."""
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    work.close()
    pytest.fail("it waits")


def check(found: object, expected: object) -> None:
    """Fail the measurement of something that does not do what it should."""
    if found != expected:
        pytest.fail(f"{found!r}, not {expected!r}")
