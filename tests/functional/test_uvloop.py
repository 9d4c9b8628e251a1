"""The client on another event loop than the one of the standard library."""

import asyncio
import subprocess
import sys

import pytest
from support import complaints

from verifik_async.testing import Fault, MockVerifik

ON_UVLOOP = """
import sys, uvloop
from verifik_async import RateLimit, SearchOptions, VerifikClient

OPTIONS = SearchOptions(os="IOS", min_score=0.5, search_mode="FAST")


async def main():
    for limit in (None, RateLimit(2000, burst=5), RateLimit(400, burst=1)):
        async with VerifikClient(
            "t", base_url=sys.argv[1], defaults=OPTIONS, rate_limit=limit
        ) as client:
            pictures = (number.to_bytes(4, "big") * 100 for number in range(150))
            async with client.search_many(pictures, deadline=30) as batch:
                async for outcome in batch:
                    outcome.unwrap()
            assert batch.summary.answered == 150
            print(client.stats().throttled > 0)


uvloop.run(main())
"""


async def test_throttles_and_rates_on_uvloop():
    """Its clock counts in milliseconds, and what is due at once has no time there."""
    pytest.importorskip("uvloop")
    now_and_then = {Fault.status(429, retry_after="0.01"): 0.05}
    async with MockVerifik(faults=now_and_then) as mock:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-X", "dev", "-W", "error", "-c", ON_UVLOOP, mock.url),
            env={"PYTHONPATH": ":".join(sys.path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, err = await process.communicate()
    assert complaints(err) == ""
    assert out.split() == [b"True"] * 3
