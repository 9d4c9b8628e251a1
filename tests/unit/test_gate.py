"""Who may send: slots in order, one pause for all, permits in time."""

import asyncio
import contextlib

import pytest

from verifik_async._config import Limiter, RateLimit
from verifik_async._gate import Gate, Patience, TokenBucket, build_limiter
from verifik_async.errors import QueueFullError

ENDLESS = Patience(until=None, max_pause=120.0)


class Room:
    """A gate on the running loop, and who came in when."""

    def __init__(self, tasks, slots=1, max_waiting=None):
        self.loop = asyncio.get_running_loop()
        self.gate = Gate(slots, max_waiting, self.loop)
        self.tasks = tasks
        self.began = self.loop.time()
        self.entered = []
        self.refused = []

    def now(self):
        """Return the seconds since the beginning."""
        return round(self.loop.time() - self.began, 6)

    def send(self, name, patience=ENDLESS, *, hold=1.0):
        """Let a search of this name ask for a slot and hold it for some seconds."""
        return self.tasks.create_task(self._search(name, patience, hold))

    async def _search(self, name, patience, hold):
        if not await self.gate.enter(patience):
            self.refused.append((name, self.now()))
            return
        self.entered.append((name, self.now()))
        try:
            await asyncio.sleep(hold)
        finally:
            self.gate.leave()


def room(virtual, scene, *, resolution=None, **arguments):
    """Play a scene in a room on a clock without waiting; return the room."""

    async def play():
        async with asyncio.TaskGroup() as tasks:
            made = Room(tasks, **arguments)
            await scene(made)
        assert made.gate.in_flight == 0
        assert made.gate.waiting == 0
        made.gate.close()
        return made

    return virtual(play, resolution=resolution)


def test_slots_are_given_in_the_order_of_asking(virtual):
    """First come, first served."""

    async def scene(room):
        for name in "abcde":
            room.send(name)

    made = room(virtual, scene)
    assert made.entered == [("a", 0), ("b", 1), ("c", 2), ("d", 3), ("e", 4)]


@pytest.mark.parametrize("slots", [1, 2, 7])
def test_no_more_than_the_slots_are_in_flight(virtual, slots):
    """The gate is as wide as it was made, and no narrower."""
    most = []

    async def scene(room):
        for name in range(20):
            room.send(name)
        for _ in range(20):
            await asyncio.sleep(0.5)
            most.append(room.gate.in_flight)

    made = room(virtual, scene, slots=slots)
    assert max(most) == slots
    assert [name for name, _ in made.entered] == list(range(20))


def test_nobody_overtakes_the_queue(virtual):
    """A slot that is free for a moment is not for who comes just then."""

    async def scene(room):
        room.send("a")
        room.send("b")
        await asyncio.sleep(0.5)
        assert not room.gate.try_enter(ENDLESS)
        assert room.gate.waiting == 1

    room(virtual, scene)


def test_nobody_overtakes_the_queue_when_a_pause_ends(virtual):
    """Who comes at its end, before the loop has served the queue, is not first."""

    async def scene(room):
        room.gate.pause(10)
        room.send("first")
        await asyncio.sleep(0)
        room.loop.now += 11  # the loop was busy, its timers are late
        assert not room.gate.paused
        assert not room.gate.try_enter(ENDLESS)

    assert room(virtual, scene).entered == [("first", 11)]


def test_try_enter_takes_a_free_slot():
    """Without a queue nothing is awaited."""
    loop = asyncio.new_event_loop()
    try:
        gate = Gate(2, None, loop)
        assert [gate.try_enter(ENDLESS) for _ in range(3)] == [True, True, False]
        gate.leave()
        assert gate.try_enter(ENDLESS)
    finally:
        loop.close()


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_max_waiting(virtual, limit):
    """One more than may wait is told at once, the others are served."""
    full, remedy = [], "try again later or raise it"

    async def scene(room):
        room.send("first")
        await asyncio.sleep(0)
        for name in range(limit):
            room.send(name)
        await asyncio.sleep(0)
        try:
            await room.gate.enter(ENDLESS)
        except QueueFullError as error:
            full.append((str(error), room.now()))

    made = room(virtual, scene, max_waiting=limit)
    assert full == [
        (f"{limit} searches wait already, as many as max_waiting allows: {remedy}", 0)
    ]
    assert len(made.entered) == limit + 1


def test_who_was_on_the_wire_may_always_wait(virtual):
    """A throttled search goes back to the queue, full or not."""

    async def scene(room):
        room.send("first")
        await asyncio.sleep(0)
        assert await room.gate.enter(ENDLESS, again=True)
        room.gate.leave()

    room(virtual, scene, max_waiting=0)


def test_a_place_in_the_queue_becomes_free(virtual):
    """Who is served or gives up makes room for another."""

    async def scene(room):
        room.send("first", hold=5)
        await asyncio.sleep(0)
        waiting = room.send("second")
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0)
        room.send("third")

    made = room(virtual, scene, max_waiting=1)
    assert made.entered == [("first", 0), ("third", 5)]


def test_cancelled_while_waiting(virtual):
    """Who gives up leaves the queue and takes no slot."""

    async def scene(room):
        room.send("a")
        doomed = room.send("b")
        room.send("c")
        await asyncio.sleep(0.5)
        doomed.cancel()

    made = room(virtual, scene)
    assert made.entered == [("a", 0), ("c", 1)]


def test_cancelled_between_the_grant_and_the_waking(virtual):
    """A slot that was granted already goes to the next in the queue."""

    async def scene(room):
        assert room.gate.try_enter(ENDLESS)
        doomed = room.send("doomed")
        room.send("next")
        await asyncio.sleep(1)
        room.gate.leave()
        assert room.gate.in_flight == 1
        doomed.cancel()

    made = room(virtual, scene)
    assert made.entered == [("next", 1)]


def test_cancelled_before_the_grant_in_the_same_moment(virtual):
    """A search that is already being cancelled gets no slot."""

    async def scene(room):
        assert room.gate.try_enter(ENDLESS)
        doomed = room.send("doomed")
        room.send("next")
        await asyncio.sleep(1)
        doomed.cancel()
        room.gate.leave()

    made = room(virtual, scene)
    assert made.entered == [("next", 1)]


def test_cancelled_with_a_refusal(virtual):
    """A refusal is no slot: none is given back for it."""

    async def scene(room):
        assert room.gate.try_enter(ENDLESS)
        doomed = room.send("doomed")
        await asyncio.sleep(1)
        room.gate.pause(500, asked=True)
        doomed.cancel()
        await asyncio.sleep(0)
        assert room.gate.in_flight == 1
        room.gate.leave()

    made = room(virtual, scene)
    assert (made.entered, made.refused) == ([], [])


def test_a_storm_of_cancellations(virtual):
    """However many give up, the slots are all there in the end."""

    async def scene(room):
        doomed = [room.send(n, hold=0.01 * (n % 5 + 1)) for n in range(200)]
        for number, task in enumerate(doomed):
            if number % 3 == 0:
                task.cancel()
            if number % 7 == 0:
                await asyncio.sleep(0.005)

    made = room(virtual, scene, slots=3)
    names = [name for name, _ in made.entered]
    assert names == sorted(names)
    assert len(names) >= 130


def test_a_pause_holds_everybody(virtual):
    """Nobody enters while it lasts; then all that fit, in order."""

    async def scene(room):
        room.gate.pause(10)
        assert room.gate.paused
        assert not room.gate.try_enter(ENDLESS)
        for name in "abc":
            room.send(name)

    made = room(virtual, scene, slots=2)
    assert made.entered == [("a", 10), ("b", 10), ("c", 11)]


def test_a_pause_leaves_who_is_in_alone(virtual):
    """A slot given back while it lasts is granted at its end."""

    async def scene(room):
        room.send("a")
        room.send("b")
        await asyncio.sleep(0.5)
        room.gate.pause(10)

    made = room(virtual, scene)
    assert made.entered == [("a", 0), ("b", 10.5)]


@pytest.mark.parametrize("pauses", [(10, 3), (3, 10), (10, 10), (10, 0), (10, -5)])
def test_the_longest_pause_counts(virtual, pauses):
    """A shorter one neither shortens nor prolongs it."""

    async def scene(room):
        for seconds in pauses:
            room.gate.pause(seconds)
        room.send("a")

    assert room(virtual, scene).entered == [("a", 10)]


def test_a_longer_pause_later(virtual):
    """What is left of one pause is overtaken by the next."""

    async def scene(room):
        room.gate.pause(10)
        room.send("a")
        await asyncio.sleep(5)
        assert room.gate.pause_left() == 5
        room.gate.pause(20)
        assert room.gate.pause_left() == 20

    assert room(virtual, scene).entered == [("a", 25)]


def test_a_pause_that_is_over(virtual):
    """It leaves nothing behind."""

    async def scene(room):
        room.gate.pause(1, asked=True)
        await asyncio.sleep(1.5)
        assert not room.gate.paused
        assert (room.gate.pause_left(), room.gate.asked_pause()) == (0, 0)
        room.send("a")

    assert room(virtual, scene).entered == [("a", 1.5)]


def test_a_timer_that_fires_early(virtual):
    """A loop may call a timer before its time, by its clock's resolution.

    Loops do so where the clock is coarse: 15.6 ms on Windows, 1 ms on uvloop.
    """

    async def scene(room):
        room.gate.pause(1)
        room.send("a")
        await asyncio.sleep(0.99)

    made = room(virtual, scene, resolution=0.0156)
    assert [name for name, _ in made.entered] == ["a"]


def test_what_the_service_asks_for_refuses_who_comes(virtual):
    """A pause beyond a search's patience ends it at once, without sending."""

    async def scene(room):
        room.gate.pause(50, asked=True)
        assert room.gate.asked_pause() == 50
        room.send("impatient", Patience(until=None, max_pause=49.9))
        room.send("late", Patience(until=room.loop.time() + 50, max_pause=120))
        room.send("patient", Patience(until=None, max_pause=50))
        room.send("early", Patience(until=room.loop.time() + 50.1, max_pause=120))

    made = room(virtual, scene, slots=9)
    assert made.refused == [("impatient", 0), ("late", 0)]
    assert made.entered == [("patient", 50), ("early", 50)]


def test_what_the_service_asks_for_refuses_who_waits(virtual):
    """Those who can't outwait it are told when it comes, not at their deadline."""

    async def scene(room):
        room.send("a", hold=100)
        room.send("impatient", Patience(until=None, max_pause=10))
        room.send("patient")
        await asyncio.sleep(5)
        room.gate.pause(20, asked=True)

    made = room(virtual, scene)
    assert made.refused == [("impatient", 5)]
    assert made.entered == [("a", 0), ("patient", 100)]


def test_a_pause_of_our_own_refuses_nobody(virtual):
    """Backoff is not what the service asked for: only deadlines bound it."""

    async def scene(room):
        room.gate.pause(50)
        room.send("a", Patience(until=None, max_pause=1))

    assert room(virtual, scene).entered == [("a", 50)]


def test_the_part_that_was_asked_for_counts(virtual):
    """Our own longer pause does not make an asked one longer."""

    async def scene(room):
        room.gate.pause(5, asked=True)
        room.gate.pause(50)
        room.send("a", Patience(until=None, max_pause=6))

    made = room(virtual, scene)
    assert made.entered == [("a", 50)]
    assert made.refused == []


def test_a_refusal_goes_before_a_full_queue(virtual):
    """Who could not wait anyway is told about the pause."""

    async def scene(room):
        room.gate.pause(50, asked=True)
        assert not await room.gate.enter(Patience(until=None, max_pause=1))

    room(virtual, scene, max_waiting=0)


def test_patience():
    """Seconds of pause and the deadline, whichever is less."""
    assert Patience(until=None, max_pause=5).outlasts(100, 105)
    assert not Patience(until=None, max_pause=5).outlasts(100, 105.1)
    assert Patience(until=103, max_pause=5).outlasts(100, 102.9)
    assert not Patience(until=103, max_pause=5).outlasts(100, 103)
    assert Patience(until=None, max_pause=0).outlasts(100, 0)
    assert not Patience(until=None, max_pause=0).outlasts(100, 100.1)


def test_a_burst_of_throttles_counts_once(virtual):
    """Requests that were on their way together are one sign."""

    async def scene(room):
        sent_at = room.loop.time()
        await asyncio.sleep(1)
        assert room.gate.throttled(sent_at)
        assert not room.gate.throttled(sent_at)
        await asyncio.sleep(0.2)
        assert not room.gate.throttled(sent_at + 0.5)
        assert room.gate.throttles_in_a_row == 1
        assert room.gate.throttled(room.loop.time())
        assert room.gate.throttles_in_a_row == 2
        room.gate.answered()
        assert room.gate.throttles_in_a_row == 0

    room(virtual, scene)


def test_close_forgets_the_timer(virtual):
    """A closed gate does not keep its loop awake."""

    async def scene(room):
        room.gate.close()
        room.gate.pause(1000)
        room.gate.close()

    made = room(virtual, scene)
    assert made.now() == 0


def paced(virtual, limit, count, *, pause=None, rest=0.0):
    """Return the times at which searches, asking all at once, get their permits."""

    async def play():
        bucket = TokenBucket(limit)
        loop = asyncio.get_running_loop()
        began = loop.time()
        times = []

        async def search():
            await bucket.acquire()
            times.append(round(loop.time() - began, 6))

        await asyncio.sleep(rest)
        if pause is not None:
            bucket.pause(pause)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(count):
                tasks.create_task(search())
        return times

    return virtual(play)


def test_permits_at_a_rate(virtual):
    """One permit every interval."""
    assert paced(virtual, RateLimit(4), 5) == [0, 0.25, 0.5, 0.75, 1.0]


def test_permits_in_a_burst(virtual):
    """A burst at once, then one every interval."""
    assert paced(virtual, RateLimit(4, 3), 6) == [0, 0, 0, 0.25, 0.5, 0.75]


def test_a_quiet_time_saves_no_more_than_a_burst(virtual):
    """Permits that nobody took are lost."""
    times = paced(virtual, RateLimit(4, 3), 5, rest=1000)
    assert times == [1000, 1000, 1000, 1000.25, 1000.5]


@pytest.mark.parametrize("burst", [1, 5])
def test_no_permit_during_a_pause_and_no_burst_after_it(virtual, burst):
    """A throttle means that the service is full: it is not met with a burst."""
    assert paced(virtual, RateLimit(4, burst), 3, pause=10) == [10, 10.25, 10.5]


def test_no_window_holds_more_than_rate_and_burst(virtual):
    """Whatever second one looks at: the rate, and one burst on top."""
    times = paced(virtual, RateLimit(20, 5), 200)
    for start in times:
        assert sum(start <= time < start + 1 for time in times) <= 20 + 5


def test_a_cancelled_wait(virtual):
    """Who gives up neither blocks the others nor lets them through sooner."""

    async def play():
        bucket, loop = TokenBucket(RateLimit(1)), asyncio.get_running_loop()
        await bucket.acquire()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await bucket.acquire()
        began = loop.time()
        await bucket.acquire()
        return loop.time() - began

    assert virtual(play) == pytest.approx(1.5)


def test_limiters_are_built_from_limits():
    """A limit makes a bucket for each loop; a limiter serves as it is."""

    class Mine:
        async def acquire(self):
            """Give a permit."""

        def pause(self, seconds):
            """Take note."""

    mine = Mine()
    assert build_limiter(mine) is mine
    assert build_limiter(None) is None
    one, two = build_limiter(RateLimit(5)), build_limiter(RateLimit(5))
    assert isinstance(one, TokenBucket)
    assert isinstance(one, Limiter)
    assert one is not two
