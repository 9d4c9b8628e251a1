"""What a search is made with."""

from collections.abc import Callable

import pytest

from benchmarks._job import OPTIONS, TOKEN, make_picture
from benchmarks.micro._common import Benchmark
from verifik_async import Probe, VerifikClient

_PICTURE = 20_000


@pytest.fixture
def plan() -> Callable[[Probe], object]:
    """Return what plans a search of a client."""
    client = VerifikClient(TOKEN, base_url="http://127.0.0.1:1", defaults=OPTIONS)
    return client._template.plan_of  # noqa: SLF001 - that alone is measured


def test_plain(benchmark: Benchmark, plan: Callable[[Probe], object]) -> None:
    """A picture, searched for with the client's defaults."""
    benchmark(plan, Probe(make_picture(_PICTURE)))


def test_own_options(benchmark: Benchmark, plan: Callable[[Probe], object]) -> None:
    """A probe that brings a pass mark of its own."""
    benchmark(plan, Probe(make_picture(_PICTURE), min_score=0.9))
