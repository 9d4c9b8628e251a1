"""What all tests share."""

import random
from collections.abc import AsyncIterator, Iterator

import pytest
from blockbuster import blockbuster_ctx
from support import OPTIONS, QUICK, TOKEN

from verifik_async import VerifikClient
from verifik_async.testing import MockVerifik


@pytest.fixture(autouse=True)
def _no_blocking_call_on_the_loop(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.node.get_closest_marker("asyncio") is None:
        yield  # to watch thousands of tests without a loop takes its time
        return
    with blockbuster_ctx("verifik_async"):
        yield


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VERIFIK_TOKEN", "VERIFIK_CLIENT_JWT", "VERIFIK_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def image() -> bytes:
    """Bytes that stand for an encoded picture; the stand-in does not decode them."""
    return random.Random(1).randbytes(20_000)


@pytest.fixture
async def mock() -> AsyncIterator[MockVerifik]:
    async with MockVerifik() as mock:
        yield mock


@pytest.fixture
async def client(mock: MockVerifik) -> AsyncIterator[VerifikClient]:
    async with VerifikClient(
        TOKEN, base_url=mock.url, defaults=OPTIONS, retry=QUICK
    ) as client:
        yield client
