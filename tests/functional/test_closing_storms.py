"""Closing while hundreds of searches are under way: each has its end, and tells it."""

import asyncio
import contextlib
import gc
import hashlib
import socket
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field

import aiohttp
import pytest
from support import client_of, complaints

from verifik_async import Charge, ClientClosedError, Timeouts, VerifikError
from verifik_async.errors import BatchStoppedError
from verifik_async.testing import Fault, MockVerifik

SEARCHES, PROBES = 300, 500
LATENCY = (0.005, 0.03)
# Of requests that may end in the middle of a storm, two in a hundred.
FAULTS = {
    Fault.status(500): 0.01,
    Fault.drop_after_headers(): 0.005,
    Fault.drop_reused(): 0.005,
}
# Nothing takes as long as that; it would hang.
HANGS = 30.0

Told = VerifikError | None  # None: there was a result


def picture(number):
    return number.to_bytes(4, "big") * 100


def digest(number):
    return hashlib.sha256(picture(number)).hexdigest()


@dataclass
class Storm:
    """What became of the searches of a storm, by number; those of a batch go last."""

    ends: dict[int, Told] = field(default_factory=dict)
    stopped: VerifikError | None = None

    async def search(self, client, number):
        try:
            await client.search_active_user(picture(number))
        except VerifikError as error:
            self.ends[number] = error
        else:
            self.ends[number] = None

    async def search_many(self, client):
        numbers = range(SEARCHES, SEARCHES + PROBES)
        async with client.search_many(map(picture, numbers)) as batch:
            try:
                async for outcome in batch:
                    assert SEARCHES + outcome.index not in self.ends
                    self.ends[SEARCHES + outcome.index] = outcome.error
            except BatchStoppedError as error:
                self.stopped = error.cause

    def begin(self, tasks, client):
        for number in range(SEARCHES):
            tasks.create_task(self.search(client, number))
        tasks.create_task(self.search_many(client))

    @property
    def singles(self):
        return [self.ends[number] for number in range(SEARCHES)]

    @property
    def cut_off(self):
        return [e for e in self.ends.values() if isinstance(e, ClientClosedError)]


async def check_books(storm, client, mock):
    """Compare what searches tell, what the client counts, and what the server saw."""
    stats = client.stats()
    assert (stats.in_flight, stats.waiting) == (0, 0)
    assert len(storm.singles) == SEARCHES
    await asyncio.sleep(0.05)  # for what may still arrive there, and must not
    answered = [n for n, error in storm.ends.items() if error is None]
    assert stats.answered == len(answered)
    seen = {request.image_sha256: request.status for request in mock.requests}
    assert {seen[digest(number)] for number in answered} <= {200}
    for number, error in storm.ends.items():
        if error is not None and error.charge is Charge.NOT_SENT:
            assert digest(number) not in seen


@contextlib.asynccontextmanager
async def nothing_left():
    """Check that no task outlives the block, and nothing is left unclosed."""
    before = asyncio.all_tasks()
    async with asyncio.timeout(HANGS):
        yield
        while asyncio.all_tasks() - before:
            await asyncio.sleep(0.01)
    gc.collect()  # what is unclosed warns now, and a warning is an error


async def until_answered(client, number):
    while client.stats().answered < number:
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("grace", [0, 0.05, HANGS])
async def test_closing_in_a_storm(grace):
    """Within the grace searches are answered; those cut off know their charge."""
    async with nothing_left(), MockVerifik(latency=LATENCY, faults=FAULTS) as mock:
        client, storm = client_of(mock.url, close_grace=grace), Storm()
        if grace < HANGS:
            mock.script(*[Fault.stall()] * 4)  # on the wire, whenever it is closed
        async with asyncio.TaskGroup() as tasks:
            storm.begin(tasks, client)
            await until_answered(client, 20)
            await client.aclose()
            stats = client.stats()
            assert (stats.in_flight, stats.waiting) == (0, 0)
        assert isinstance(storm.stopped, ClientClosedError)
        await check_books(storm, client, mock)
        closed = [error for error in storm.singles if error in storm.cut_off]
        charges = Counter(error.charge for error in closed)
        if grace == HANGS:
            assert not closed
        else:
            assert charges[Charge.MAYBE_CHARGED] >= 4
            assert charges[Charge.NOT_SENT]


async def test_closing_at_the_same_time_in_a_storm():
    """One who closes gives up; another, and a third that comes late, see it done."""
    async with nothing_left(), MockVerifik(latency=LATENCY, faults=FAULTS) as mock:
        client, storm = client_of(mock.url, close_grace=HANGS), Storm()
        async with asyncio.TaskGroup() as tasks:
            storm.begin(tasks, client)
            await until_answered(client, 20)
            first, second = (tasks.create_task(client.aclose()) for _ in range(2))
            await until_answered(client, 40)
            assert not first.done()
            first.cancel()
            await second
            await client.aclose()
            stats = client.stats()
            assert (stats.in_flight, stats.waiting) == (0, 0)
        assert first.cancelled()
        await check_books(storm, client, mock)


async def test_closing_while_all_are_throttled():
    """Those who wait for the service's pause to end are not waited for."""
    pause = Fault.status(429, retry_after=100)
    async with nothing_left(), MockVerifik(faults={pause: 1.0}) as mock:
        client, storm = (
            client_of(mock.url, close_grace=0.1, timeouts=Timeouts(deadline=None)),
            Storm(),
        )
        async with asyncio.TaskGroup() as tasks:
            storm.begin(tasks, client)
            while client.stats().waiting < SEARCHES or client.stats().in_flight:
                await asyncio.sleep(0.005)
            await client.aclose()
        throttled = client.stats().throttled
        assert 0 < throttled == mock.hits
        await check_books(storm, client, mock)
        assert len(storm.cut_off) >= SEARCHES
        charges = Counter(error.charge for error in storm.cut_off)
        # A throttle is an answer; all others have not been sent.
        assert charges.keys() == {Charge.ANSWERED, Charge.NOT_SENT}
        assert charges[Charge.ANSWERED] == throttled


async def test_closing_while_connections_are_being_made():
    """What has no connection yet was not sent."""
    beginning = []

    async def count(*_):
        beginning.append(1)

    trace = aiohttp.TraceConfig()
    trace.on_connection_create_start.append(count)
    # Nobody accepts, and the system does so for a few only: the others hang.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        async with nothing_left():
            client, storm = (
                client_of(url, close_grace=0.1, trace_configs=[trace]),
                Storm(),
            )
            async with asyncio.TaskGroup() as tasks:
                storm.begin(tasks, client)
                while len(beginning) < 32:
                    await asyncio.sleep(0.005)
                await client.aclose()
    assert storm.cut_off == list(storm.ends.values())
    tried = [error.charge for error in storm.cut_off if error.attempts]
    assert len(tried) == 32
    assert Charge.NOT_SENT in tried
    assert {e.charge for e in storm.cut_off if not e.attempts} == {Charge.NOT_SENT}


async def test_leaving_the_client_by_an_error():
    """The error goes on as it is, once all searches have their end."""
    async with nothing_left(), MockVerifik(latency=LATENCY, faults=FAULTS) as mock:
        client, storm = client_of(mock.url, close_grace=0.05), Storm()
        async with asyncio.TaskGroup() as tasks:
            with pytest.raises(KeyError) as caught:
                async with client:
                    storm.begin(tasks, client)
                    await until_answered(client, 20)
                    raise KeyError("mine")
            stats = client.stats()
            assert (stats.in_flight, stats.waiting) == (0, 0)
        assert caught.value.__context__ is None
        await check_books(storm, client, mock)
        assert storm.cut_off


LOUD = """
import asyncio, sys
from verifik_async import SearchOptions, VerifikClient, VerifikError
from verifik_async.errors import BatchStoppedError

OPTIONS = SearchOptions(os="IOS", min_score=0.5, search_mode="FAST")


def client_of(grace):
    return VerifikClient(
        "t", base_url=sys.argv[1], defaults=OPTIONS, close_grace=grace
    )


async def search(client, ends, number):
    try:
        await client.search_active_user(number.to_bytes(4, "big") * 100)
    except VerifikError as error:
        ends.append(error.charge)
    else:
        ends.append("result")


async def search_many(client, ends):
    pictures = (number.to_bytes(4, "big") * 100 for number in range(1000))
    async with client.search_many(pictures) as batch:
        try:
            async for outcome in batch:
                pass
        except BatchStoppedError as error:
            ends.append(type(error.cause).__name__)


async def begin(client, ends):
    loop = asyncio.get_running_loop()
    loop.slow_callback_duration = 10  # of a busy machine
    tasks = [loop.create_task(search(client, ends, n)) for n in range(300)]
    tasks.append(loop.create_task(search_many(client, ends)))
    while client.stats().answered < 20:
        await asyncio.sleep(0.005)
    return tasks


async def close(grace):
    client, ends = client_of(grace), []
    tasks = await begin(client, ends)
    async with asyncio.timeout(30):
        await client.aclose()
        await asyncio.wait(tasks)
    assert len(ends) == 301 and "ClientClosedError" in ends, ends
    assert ("not_sent" in ends) is (grace < 30), ends


async def leave():
    client, ends = client_of(0.05), []
    try:
        async with client:
            tasks = await begin(client, ends)
            raise KeyError
    except KeyError:
        await asyncio.wait(tasks)
    assert len(ends) == 301, ends


async def forget():
    # Without aclose(): the loop cancels what runs and closes what is open.
    tasks.extend(await begin(client_of(30), []))


if sys.argv[2] == "uvloop":
    from uvloop import run
else:
    from asyncio import run
for grace in (0, 0.05, 30):
    run(close(grace))
run(leave())
tasks = []
run(forget())
print(all(task.done() for task in tasks), any(task.cancelled() for task in tasks))
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_closing_warns_of_nothing(loop):
    """In a process that warns loudly, on this loop and on another."""
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    async with MockVerifik(latency=LATENCY) as mock:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-X", "dev", "-W", "error", "-c", LOUD, mock.url, loop),
            env={"PYTHONPATH": ":".join(sys.path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(2 * HANGS):
                out, err = await process.communicate()
        except TimeoutError:
            process.kill()
            raise
    assert complaints(err) == ""
    assert out.split() == [b"True", b"True"]
