"""What searches leave behind, however they end: nothing.

VERIFIK_LEAK_SCALE multiplies their number; with 100 it is 10,000 that are cancelled,
10,000 that fail and 100,000 that are answered.
"""

import asyncio
import contextlib
import gc
import os
import pathlib
import random
import socket
import subprocess
import sys
import tracemalloc
from collections import Counter
from dataclasses import dataclass, field

import pytest
from support import client_of

from verifik_async import RetryPolicy, Timeouts, VerifikError

SCALE = int(os.environ.get("VERIFIK_LEAK_SCALE", "1"))
DESCRIPTORS = pathlib.Path("/proc/self/fd")
SLOTS = 16
# Of whatever number of searches: one for each connection, the gate's last error.
MOST_OBJECTS = SLOTS + 5
# The client's, and one of aiohttp's for idle connections.
MOST_TIMERS = 3
# The latencies of the latest answers, tables that have grown.
MOST_BYTES = 300_000
SOON = 10.0
# A process of its own: its sockets and tasks must not be counted.
SERVERS = """
import asyncio, sys
from verifik_async.testing import Fault, MockVerifik

KINDS = [
    Fault.status(500), Fault.status(501), Fault.status(404),
    Fault.status(409, before_body=True), Fault.html(502), Fault.redirect(),
    Fault.empty(), Fault.body({"data": 5}),
    Fault.gzip_bomb(1), Fault.garbage(), Fault.drop_before_body_read(),
    Fault.drop_before_headers(), Fault.drop_after_headers(), Fault.reset(),
    Fault.truncate(20), Fault.stall(), Fault.stall_after_headers(),
    Fault.stall_before_body_read(),
]


async def main():
    failing = dict.fromkeys(KINDS, 1 / (len(KINDS) + 1))
    async with (
        MockVerifik(max_recorded=0) as good,
        MockVerifik(max_recorded=0, latency=60) as slow,
        MockVerifik(max_recorded=0, faults=failing) as bad,
    ):
        bad.script(*KINDS)
        print(good.url, slow.url, bad.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)


asyncio.run(main())
"""
# A large answer may take longer than an attempt.
ERRORS = {
    "AttemptTimeoutError",
    "ConnectionLostError",
    "MissingParameterError",
    "NotFoundError",
    "RedirectError",
    "ResponseShapeError",
    "ServerError",
}

pytestmark = pytest.mark.skipif(
    not DESCRIPTORS.exists(), reason="no list of descriptors here"
)


@pytest.fixture
async def urls():
    """URLs of three stand-ins: all is well, nothing is answered, most of it fails."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SERVERS),
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        line = await process.stdout.readline()
        yield dict(zip(("good", "slow", "bad"), line.decode().split(), strict=True))
    finally:
        process.stdin.close()
        await process.wait()


@pytest.fixture
def traced():
    tracemalloc.start()
    yield
    tracemalloc.stop()


def counts(thing):
    """Tell whether it is of the package, or a future, a task, a timeout."""
    name = str(type(thing).__module__)  # of a class that is made in C it may be none
    return name.startswith(("verifik_async.", "_asyncio", "asyncio.timeouts"))


def live_timers():
    scheduled = asyncio.get_running_loop()._scheduled
    return [timer for timer in scheduled if not timer.cancelled()]


@dataclass
class Held:
    """What this process holds while nothing is under way."""

    descriptors: int = 0
    tasks: int = 0
    timers: int = 0
    traced: int = 0
    objects: Counter = field(default_factory=Counter)


def look():
    gc.collect()
    return Held(
        descriptors=len(list(DESCRIPTORS.iterdir())),
        tasks=len(asyncio.all_tasks()),
        timers=len(live_timers()),
        traced=tracemalloc.get_traced_memory()[0],
        objects=Counter(type(x).__name__ for x in gc.get_objects() if counts(x)),
    )


async def settled(is_settled):
    """Look until all is over that ends by itself; what is held then, settled or not."""
    end = asyncio.get_running_loop().time() + SOON
    while not is_settled(held := look()) and asyncio.get_running_loop().time() < end:
        await asyncio.sleep(0.02)
    return held


def share(count):
    """Split a number of searches over as many tasks as there are slots, and half more.

    So that some wait while others are on the wire.
    """
    tasks = SLOTS * 3 // 2
    return [count * (n + 1) // tasks - count * n // tasks for n in range(tasks)]


async def answered(client, image, count):
    """Search one by one, and as a batch."""

    async def one_by_one(number):
        for _ in range(number):
            await client.search_active_user(image)

    async with asyncio.TaskGroup() as tasks:
        for number in share(count // 2):
            tasks.create_task(one_by_one(number))
    async with client.search_many([image] * (count - count // 2)) as batch:
        async for outcome in batch:
            outcome.unwrap()


async def cancelled(client, image, count):
    """Cancel in the queue, on the wire, and what a batch has under way."""
    chance, loop = random.Random(count), asyncio.get_running_loop()
    for _ in range(count // 50):
        searches = [
            loop.create_task(client.search_active_user(image)) for _ in range(34)
        ]
        async with client.search_many([image] * 50):  # of which each slot pulls one
            for search in searches:
                if chance.random() < 0.3:
                    await asyncio.sleep(chance.uniform(0, 0.002))
                search.cancel()
            await asyncio.wait(searches)
            assert all(search.cancelled() for search in searches)
            await asyncio.sleep(chance.uniform(0, 0.01))


async def failed(client, image, count):
    """Fail in every way; what is answered in between does not count."""
    errors, left = Counter(), count

    async def fail():
        nonlocal left
        while left > 0:
            try:
                await client.search_active_user(image)
            except VerifikError as error:
                errors[type(error).__name__] += 1
                left -= 1

    async with asyncio.TaskGroup() as tasks:
        for _ in range(SLOTS):
            tasks.create_task(fail())
    assert errors.total() >= count
    return errors


def tell(count, *looks):
    """Print the figures, which `-rP` shows: outside, warmed up, at the end, closed."""
    print(f"{count:,} searches")  # noqa: T201
    for name in ("descriptors", "tasks", "timers", "traced"):
        print(f"  {name}:", *(getattr(held, name) for held in looks))  # noqa: T201
    print("  objects:", *(held.objects.total() for held in looks))  # noqa: T201


async def measure(url, image, work, count, **settings):
    """Do the work to warm up and once more: nothing is held that was not before."""
    outside = look()
    async with client_of(url, max_concurrency=SLOTS, **settings) as client:
        at_rest = outside.tasks

        def is_settled(held):
            return held.tasks == at_rest and held.timers <= MOST_TIMERS

        first = await work(client, image, max(100, count // 4))
        before = await settled(is_settled)
        then = await work(client, image, count)
        after = await settled(is_settled)
        stats = client.stats()
    assert (stats.in_flight, stats.waiting) == (0, 0)
    assert after.tasks == at_rest
    assert after.timers <= MOST_TIMERS
    assert after.descriptors <= outside.descriptors + SLOTS
    assert (after.objects - before.objects).total() <= MOST_OBJECTS
    assert after.traced - before.traced <= MOST_BYTES
    closed = await settled(lambda held: held.descriptors <= outside.descriptors)
    assert closed.descriptors == outside.descriptors
    assert closed.tasks == outside.tasks
    tell(count, outside, before, after, closed)
    return first, then


@pytest.mark.usefixtures("traced")
async def test_answered_searches_leave_nothing(urls, image):
    """One by one and as batches, over connections that are kept."""
    await measure(urls["good"], image, answered, 1000 * SCALE)


@pytest.mark.usefixtures("traced")
async def test_cancelled_searches_leave_nothing(urls, image):
    """Wherever it met them."""
    await measure(urls["slow"], image, cancelled, 100 * SCALE, close_grace=0)


@pytest.mark.usefixtures("traced")
async def test_failed_searches_leave_nothing(urls, image):
    """Statuses, answers of all odd kinds, lost connections, attempts cut off."""
    errors = await measure(
        urls["bad"],
        image,
        failed,
        80 * SCALE,
        timeouts=Timeouts(attempt=0.5),
        retry=RetryPolicy(attempts=2, base_delay=0.001),
        max_response_bytes=500_000,
    )
    assert set().union(*errors) >= ERRORS


@pytest.mark.usefixtures("traced")
async def test_refused_connections_leave_nothing(image):
    """Where nobody listens."""
    with contextlib.closing(socket.socket()) as deaf:
        deaf.bind(("127.0.0.1", 0))
        errors = await measure(
            f"http://127.0.0.1:{deaf.getsockname()[1]}",
            image,
            failed,
            20 * SCALE,
            retry=RetryPolicy(base_delay=0.001, max_delay=0.002, outage_limit=0.02),
            timeouts=Timeouts(deadline=None),
        )
    assert set().union(*errors) == {"ConnectError"}
