"""From an answer's bytes to a result."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.micro._common import Benchmark, check
from verifik_async._convert import Decoder
from verifik_async.models import CallInfo, SearchResult

_MANY = 20


@pytest.fixture
def decode() -> Callable[[bytes], SearchResult]:
    """Return what decodes an answer, as a client does that has done so before."""
    decoder, call = Decoder(), CallInfo()

    def decode(body: bytes) -> SearchResult:
        found = decoder.decode(body, call)
        if not isinstance(found, SearchResult):
            pytest.fail(f"no result: {found}")
        return found

    return decode


@pytest.mark.parametrize("count", [0, 1, _MANY])
def test_documented(
    benchmark: Benchmark, decode: Callable[[bytes], SearchResult], count: int
) -> None:
    """The documented shape: ids and scores."""
    people = [{"id": f"person-{n}", "score": n / _MANY} for n in range(count)]
    check(len(benchmark(decode, _answer(people)).matches), count)


def test_full(benchmark: Benchmark, decode: Callable[[bytes], SearchResult]) -> None:
    """The larger shape: persons with all that is known of them."""
    people = [_person(number) for number in range(_MANY)]
    check(len(benchmark(decode, _answer({"persons": people})).matches), _MANY)


def _person(number: int) -> dict[str, Any]:
    return {
        "id": f"person-{number}",
        "name": "A. N. Example",
        "gender": "F",
        "date_of_birth": "1990-01-16",
        "nationality": "Colombia",
        "score": number / _MANY,
        "collections": [{"id": "collection-1", "name": "Visitors"}],
        "thumbnails": [{"id": "thumbnail-1", "thumbnail": "dGh1bWJuYWls"}],
    }


def _answer(data: object) -> bytes:
    return json.dumps(
        {
            "id": "AbCdE",
            "data": data,
            "signature": {
                "message": "Certified by Verifik.co",
                "dateTime": "January 16, 2024 3:44 PM",
            },
        }
    ).encode()
