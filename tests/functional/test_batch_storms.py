"""Batches that are left in mid-way, again and again, in a process that warns loudly."""

import asyncio
import subprocess
import sys

from support import complaints

from verifik_async.testing import MockVerifik

FIFTY_ROUNDS = """
import asyncio, random, sys, time
from verifik_async import SearchOptions, VerifikClient

OPTIONS = SearchOptions(os="IOS", min_score=0.5, search_mode="FAST")
chance = random.Random(7)


class MineError(Exception):
    pass


async def leave(client, how):
    pictures = (number.to_bytes(4, "big") * 100 for number in range(1000))
    end = time.monotonic() + chance.uniform(0, 0.2)
    async with client.search_many(pictures, ordered=chance.random() < 0.5) as batch:
        async for _ in batch:
            if time.monotonic() > end and how == "break":
                break
            if time.monotonic() > end and how == "raise":
                raise MineError


async def one_round(client, how):
    task = asyncio.get_running_loop().create_task(leave(client, how))
    if how == "cancel":
        await asyncio.sleep(chance.uniform(0, 0.2))
        task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        assert task.exception() is None or isinstance(task.exception(), MineError)
    left = time.monotonic()
    while ours := [t for t in asyncio.all_tasks() if "verifik-" in t.get_name()]:
        assert time.monotonic() - left < 0.2, ours
        await asyncio.sleep(0.01)
    stats = client.stats()
    assert (stats.in_flight, stats.waiting, stats.window) == (0, 0, 32), stats
    async with asyncio.timeout(10):
        await client.search_active_user(b"picture" * 50)


async def main():
    asyncio.get_running_loop().slow_callback_duration = 10  # of a busy machine
    async with VerifikClient("t", base_url=sys.argv[1], defaults=OPTIONS) as client:
        for number in range(50):
            await one_round(client, ("cancel", "break", "raise")[number % 3])
        print(client.stats().answered > 50)


asyncio.run(main())
"""


async def test_fifty_batches_left_at_random_moments():
    """Nothing of ours goes on, all slots come back, one more search works at once."""
    async with MockVerifik(latency=(0.0, 0.02)) as mock:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-X", "dev", "-W", "error", "-c", FIFTY_ROUNDS, mock.url),
            env={"PYTHONPATH": ":".join(sys.path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert complaints(err) == ""
        assert out == b"True\n"
        hits = mock.hits
        await asyncio.sleep(0.1)
        assert (mock.hits, mock.in_flight) == (hits, 0)
