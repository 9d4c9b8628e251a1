"""Fixtures for pytest: `pytest_plugins = ["verifik_async.testing.plugin"]`.

They need no plugin for asynchronous tests and work with any: the stand-in runs in a
thread of its own, and the client on whichever event loop awaits it.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from verifik_async import VerifikClient

    from ._server import MockVerifik

_TOKEN = "a-made-up-token"  # noqa: S105 - nobody else would take it
_GRACE = 0.1


@pytest.fixture
def mock_verifik() -> Iterator["MockVerifik"]:
    """A stand-in that serves; define a fixture of this name for other settings."""
    from ._server import MockVerifik  # noqa: PLC0415 - costs other runs nothing

    with MockVerifik() as mock:
        yield mock


@pytest.fixture
def verifik_client(mock_verifik: "MockVerifik") -> Iterator["VerifikClient"]:
    """A client of `mock_verifik`, closed after the test.

    It has a token that the stand-in takes, all search options, and short delays. No
    environment variable is read.
    """
    from verifik_async import (  # noqa: PLC0415
        RetryPolicy,
        SearchOptions,
        VerifikClient,
    )

    client = VerifikClient(
        min(mock_verifik.tokens or [_TOKEN]),
        base_url=mock_verifik.url,
        defaults=SearchOptions(os="DESKTOP", min_score=0.7, search_mode="FAST"),
        retry=RetryPolicy(base_delay=0.01, max_delay=0.02),
        close_grace=_GRACE,
    )
    yield client
    _close(client)


def _close(client: "VerifikClient") -> None:
    """Close the client from a thread that has no event loop, wherever it was used.

    The loop of the test may be closed, run in another thread, or stand still until the
    next test; this thread may have one that runs, or one that must stay its current.
    """
    import asyncio  # noqa: PLC0415
    import concurrent.futures  # noqa: PLC0415
    import contextlib  # noqa: PLC0415

    async def close() -> None:
        # A loop may run and wait for this very fixture: it closes when it goes on.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GRACE + 1):
                await client.aclose()

    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        for loop in list(client._core._states):  # noqa: SLF001 - nobody else asks
            if not (loop.is_closed() or loop.is_running()):
                thread.submit(loop.run_until_complete, close()).result()
        thread.submit(asyncio.run, close()).result()
