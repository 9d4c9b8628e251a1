"""From a picture to the slices of a body."""

import base64
from collections.abc import Callable

import pytest

from benchmarks._job import make_picture
from benchmarks.micro._common import Benchmark, check, finish
from verifik_async import _images
from verifik_async._types import Masked
from verifik_async.models import ImageInput

_LIMIT = 20 * 1024 * 1024
_SIZES = (20_000, 200_000, 2_000_000)


@pytest.fixture
def encode() -> Callable[[ImageInput], int]:
    """Return what checks a picture, encodes it and counts the characters."""

    def encode(image: ImageInput) -> int:
        source = _images.image_source(Masked(image), _LIMIT)
        picture = finish(source.open())
        return sum(map(len, finish(picture.piece(0))))

    return encode


@pytest.mark.parametrize("size", _SIZES)
def test_bytes(
    benchmark: Benchmark, encode: Callable[[ImageInput], int], size: int
) -> None:
    """A picture in memory is encoded, slice by slice."""
    check(benchmark(encode, make_picture(size)), len(_text(size)))


@pytest.mark.parametrize("size", _SIZES)
def test_text(
    benchmark: Benchmark, encode: Callable[[ImageInput], int], size: int
) -> None:
    """Base64 text is looked through and cut into slices."""
    check(benchmark(encode, _text(size)), len(_text(size)))


def _text(size: int) -> str:
    return base64.b64encode(make_picture(size)).decode()
