"""Who may send: slots in order, one pause for all, permits in time, the outage."""

import asyncio
import itertools
import math

import pytest

from verifik_async._config import RateLimit
from verifik_async._gate import (
    OUTAGE_AFTER,
    Gate,
    Patience,
    Rank,
    Refused,
    Ticket,
)
from verifik_async.errors import ConnectError, QueueFullError, ServerError

ENDLESS = Patience(until=None, max_pause=120.0, max_outage=1e6)
DOWN = ConnectError("nobody listens")


class Room:
    """A gate on the running loop, and who came in when."""

    def __init__(self, tasks, slots=1, max_waiting=None, limit=None):
        self.loop = asyncio.get_running_loop()
        self.gate = Gate(slots, max_waiting, self.loop, limit)
        self.tasks = tasks
        self.began = self.loop.time()
        self.entered = []
        self.refused = []

    def now(self):
        """Return the seconds since the beginning."""
        return round(self.loop.time() - self.began, 6)

    def ticket(self, patience=ENDLESS, rank=Rank.SINGLE):
        """Return the ticket of a search that comes now."""
        return Ticket(rank, patience, self.loop.time())

    def admit(self):
        """Let a search in that is served at once; return its ticket."""
        ticket = self.ticket()
        assert self.gate.try_enter(ticket)
        return ticket

    def send(self, name, patience=ENDLESS, rank=Rank.SINGLE, **how):
        """Let a search of this name ask for a slot and hold it for some seconds."""
        return self.resume(name, self.ticket(patience, rank), **how)

    def resume(self, name, ticket, *, hold=1.0, end=None):
        """Let a search that has a ticket do so; `end` tells what became of it."""
        return self.tasks.create_task(self._search(name, ticket, hold, end))

    async def _search(self, name, ticket, hold, end):
        refused = await self.gate.enter(ticket)
        if refused is not None:
            told = refused.error and str(refused.error)  # it is a copy of the error
            self.refused.append((name, self.now(), refused._replace(error=told)))
            return
        self.entered.append((name, self.now()))
        try:
            await asyncio.sleep(hold)
            if end is not None:
                end(ticket)
        finally:
            self.gate.leave(ticket)

    def throttle(self, ticket=None, *, asked=None, backoff=0.0):
        """Let a search, one that is served at once by default, be throttled."""
        ticket = ticket or self.admit()
        self.gate.throttled(ticket, DOWN, asked, lambda _: backoff)
        self.gate.leave(ticket)

    def fail(self, ticket, *, delays=(1.0,), error=DOWN):
        """Tell that the service failed a search; the last delay goes on."""
        endless = itertools.chain(delays, itertools.repeat(delays[-1]))
        return self.gate.failed(ticket, error, lambda: endless)

    def break_down(self, **how):
        """Let as many requests fail as make an outage."""
        for _ in range(OUTAGE_AFTER):
            ticket = self.admit()
            self.fail(ticket, **how)
            self.gate.leave(ticket)
        assert self.gate.outage is not None


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


# -- slots and the queue ---------------------------------------------------------


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
    assert max(most) == slots == made.gate.window
    assert [name for name, _ in made.entered] == list(range(20))


def test_nobody_overtakes_the_queue(virtual):
    """A slot that is free for a moment is not for who comes just then."""

    async def scene(room):
        room.send("a")
        room.send("b")
        await asyncio.sleep(0.5)
        assert not room.gate.try_enter(room.ticket())
        assert room.gate.waiting == 1

    room(virtual, scene)


def test_nobody_overtakes_the_queue_when_a_pause_ends(virtual):
    """Who comes at its end, before the loop has served the queue, is not first."""

    async def scene(room):
        room.throttle(backoff=10)
        room.send("first")
        await asyncio.sleep(0)
        room.loop.now += 11  # the loop was busy, its timers are late
        assert room.gate.pause_left() == 0
        assert not room.gate.try_enter(room.ticket())

    assert room(virtual, scene).entered == [("first", 11)]


def test_try_enter_takes_a_free_slot(virtual):
    """Without a queue nothing is awaited."""

    async def scene(room):
        first = room.admit()
        second = room.admit()
        assert not room.gate.try_enter(room.ticket())
        room.gate.leave(first)
        third = room.admit()
        room.gate.leave(second)
        room.gate.leave(third)

    room(virtual, scene, slots=2)


def test_a_single_call_goes_before_a_batch(virtual):
    """However long the batch's searches have waited."""

    async def scene(room):
        room.send("first", rank=Rank.BATCH)
        room.send("batch", rank=Rank.BATCH)
        await asyncio.sleep(0.5)
        room.send("single")

    made = room(virtual, scene)
    assert made.entered == [("first", 0), ("single", 1), ("batch", 2)]


def test_who_was_throttled_goes_first_in_its_rank(virtual):
    """It has waited its turn once; a batch's search stays behind the single calls."""

    async def scene(room):
        single, batch = room.admit(), room.ticket(rank=Rank.BATCH)
        assert room.gate.try_enter(batch)
        for rank in Rank:
            room.send(f"new {rank.name}", rank=rank)
        await asyncio.sleep(0)
        room.throttle(single, backoff=10)
        room.throttle(batch)
        room.resume("batch again", batch)
        room.resume("single again", single)

    made = room(virtual, scene, slots=2)
    assert made.entered == [
        ("single again", 10),
        ("new SINGLE", 11),
        ("batch again", 12),
        ("new BATCH", 13),
    ]


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
            await room.gate.enter(room.ticket())
        except QueueFullError as error:
            full.append((str(error), room.now()))

    made = room(virtual, scene, max_waiting=limit)
    assert full == [
        (f"{limit} searches wait already, as many as max_waiting allows: {remedy}", 0)
    ]
    assert len(made.entered) == limit + 1


def test_max_waiting_is_for_single_calls(virtual):
    """Searches of a batch may always wait, and do not count."""

    async def scene(room):
        room.send("first")
        for name in range(5):
            room.send(name, rank=Rank.BATCH)
        await asyncio.sleep(0)
        room.send("single")
        await asyncio.sleep(0)
        room.send("late", rank=Rank.BATCH)
        with pytest.raises(QueueFullError, match="1 searches wait"):
            await room.gate.enter(room.ticket())

    made = room(virtual, scene, max_waiting=1)
    names = [name for name, _ in made.entered]
    assert names == ["first", "single", *range(5), "late"]


def test_who_was_on_the_wire_may_always_wait(virtual):
    """A throttled search goes back to the queue, full or not."""

    async def scene(room):
        throttled = room.admit()
        room.throttle(throttled, backoff=5)
        room.resume("again", throttled)

    assert room(virtual, scene, max_waiting=0).entered == [("again", 5)]


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


# -- cancellation ------------------------------------------------------------------


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


@pytest.mark.parametrize("granted", [True, False])
def test_cancelled_in_the_moment_of_the_grant(virtual, granted):
    """The slot goes to the next in the queue, whichever of the two came first."""

    async def scene(room):
        first = room.admit()
        doomed = room.send("doomed")
        room.send("next")
        await asyncio.sleep(1)
        if granted:
            room.gate.leave(first)
            assert room.gate.in_flight == 1
            doomed.cancel()
        else:
            doomed.cancel()
            room.gate.leave(first)

    assert room(virtual, scene).entered == [("next", 1)]


def test_a_grant_that_was_cancelled_costs_no_permit(virtual):
    """Nothing was sent: the next one need not wait for another permit."""

    async def scene(room):
        first = room.admit()
        doomed = room.send("doomed")
        room.send("next")
        await asyncio.sleep(5)
        room.gate.leave(first)
        doomed.cancel()

    made = room(virtual, scene, limit=RateLimit(per_second=1))
    assert made.entered == [("next", 5)]


def test_cancelled_with_a_refusal(virtual):
    """A refusal is no slot: none is given back for it."""

    async def scene(room):
        first, second = room.admit(), room.admit()
        doomed = room.send("doomed")
        await asyncio.sleep(1)
        room.throttle(first, asked=500)
        doomed.cancel()
        await asyncio.sleep(0)
        assert room.gate.in_flight == 1
        room.gate.leave(second)

    made = room(virtual, scene, slots=2)
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


# -- pauses ------------------------------------------------------------------------


def test_a_pause_holds_everybody(virtual):
    """Nobody enters while it lasts; then all that fit, in order."""

    async def scene(room):
        room.throttle(backoff=10)
        assert room.gate.pause_left() > 0
        assert not room.gate.try_enter(room.ticket())
        for name in "abc":
            room.send(name)

    made = room(virtual, scene, slots=4)
    assert made.gate.window == 2
    assert made.entered == [("a", 10), ("b", 10), ("c", 11)]


def test_a_pause_leaves_who_is_in_alone(virtual):
    """A slot given back while it lasts is granted at its end."""

    async def scene(room):
        doomed = room.admit()
        room.send("a")
        room.send("b")
        await asyncio.sleep(0.5)
        room.throttle(doomed, backoff=10)

    made = room(virtual, scene, slots=2)
    assert made.entered == [("a", 0), ("b", 10.5)]


@pytest.mark.parametrize("pauses", [(10, 3), (3, 10), (10, 10), (10, 0), (10, None)])
def test_the_longest_pause_counts(virtual, pauses):
    """A shorter one neither shortens nor prolongs it."""

    async def scene(room):
        for ticket, seconds in zip([room.admit(), room.admit()], pauses, strict=True):
            room.throttle(ticket, asked=seconds)
        room.send("a")

    assert room(virtual, scene, slots=2).entered == [("a", 10)]


def test_a_longer_pause_later(virtual):
    """What is left of one pause is overtaken by the next."""

    async def scene(room):
        first, second = room.admit(), room.admit()
        room.throttle(first, asked=10)
        room.send("a")
        await asyncio.sleep(5)
        assert room.gate.pause_left() == 5
        room.throttle(second, asked=20)
        assert room.gate.pause_left() == 20

    assert room(virtual, scene, slots=2).entered == [("a", 25)]


def test_a_pause_that_is_over(virtual):
    """It leaves nothing behind."""

    async def scene(room):
        room.throttle(asked=1)
        await asyncio.sleep(1.5)
        assert room.gate.pause_left() == 0
        room.send("a")

    assert room(virtual, scene).entered == [("a", 1.5)]


@pytest.mark.parametrize(
    "begin",
    [lambda room: room.throttle(backoff=1), lambda room: room.break_down(delays=(1,))],
    ids=["pause", "outage"],
)
def test_a_timer_that_fires_early(virtual, begin):
    """A loop may call a timer before its time, by its clock's resolution.

    Loops do so where the clock is coarse: 15.6 ms on Windows, 1 ms on uvloop.
    """

    async def scene(room):
        begin(room)
        room.send("a")
        await asyncio.sleep(0.99)

    made = room(virtual, scene, resolution=0.0156)
    assert [name for name, _ in made.entered] == ["a"]


def test_a_slot_that_a_pause_has_overtaken_is_taken_back(virtual):
    """Granted but not sent: it is not sent into the quiet that was asked for."""

    async def scene(room):
        first, second = room.admit(), room.admit()
        room.send("a")
        room.send("b")
        await asyncio.sleep(1)
        room.gate.leave(first)
        room.throttle(second, backoff=10)  # before `a` wakes up

    made = room(virtual, scene, slots=2, max_waiting=2)
    assert made.entered == [("a", 11), ("b", 12)]


def test_a_recall_gives_the_permit_back(virtual):
    """What was not sent took nothing from the limit."""

    async def scene(room):
        first = room.admit()
        assert not room.gate.recalled(first)
        room.gate.take_back(first)
        room.gate.leave(room.admit())

    room(virtual, scene, limit=RateLimit(per_second=1))


def test_a_recall_takes_nothing_from_the_learned_pace(virtual):
    """What it has saved up by then is there for the next ones."""

    async def scene(room):
        passed, refused = [room.admit() for _ in range(3)], room.admit()
        room.throttle(refused, asked=2)
        for ticket in passed:
            room.gate.leave(ticket)
        await asyncio.sleep(2)
        room.gate.take_back(room.admit())
        for _ in range(2):
            room.gate.leave(room.admit())
        assert not room.gate.try_enter(room.ticket())

    room(virtual, scene, slots=8)


def test_a_pause_recalls_who_was_let_through_before(virtual):
    """Who waits for a limiter of its own with a slot in hand has to ask again."""

    async def scene(room):
        ticket = room.admit()
        room.throttle(backoff=10)
        assert room.gate.recalled(ticket)
        assert room.gate.in_flight == 0

    room(virtual, scene, slots=2)


def test_what_the_service_asks_for_refuses_who_comes(virtual):
    """A pause beyond a search's patience ends it at once, without sending."""

    async def scene(room):
        room.throttle(asked=50)
        assert room.gate.pause_left() == 50
        room.send("impatient", Patience(until=None, max_pause=49.9))
        room.send("late", Patience(until=room.loop.time() + 50, max_pause=120))
        room.send("patient", Patience(until=None, max_pause=50))
        room.send("early", Patience(until=room.loop.time() + 50.1, max_pause=120))

    made = room(virtual, scene, slots=9)
    refused = Refused(asked=50)
    assert made.refused == [("impatient", 0, refused), ("late", 0, refused)]
    assert made.entered == [("patient", 50), ("early", 50)]


def test_what_the_service_asks_for_refuses_who_waits(virtual):
    """Those who can't outwait it are told when it comes, not at their deadline."""

    async def scene(room):
        first = room.admit()
        room.send("a", hold=100)
        room.send("impatient", Patience(until=None, max_pause=10))
        room.send("patient")
        await asyncio.sleep(5)
        room.throttle(first, asked=20)

    made = room(virtual, scene, slots=2)
    assert made.refused == [("impatient", 5, Refused(asked=20))]
    assert made.entered == [("a", 0), ("patient", 100)]


def test_a_pause_of_our_own_refuses_nobody(virtual):
    """Backoff is not what the service asked for: only deadlines bound it."""

    async def scene(room):
        room.throttle(backoff=50)
        room.send("a", Patience(until=None, max_pause=1))

    assert room(virtual, scene).entered == [("a", 50)]


def test_the_part_that_was_asked_for_counts(virtual):
    """Our own longer pause does not make an asked one longer."""

    async def scene(room):
        first, second = room.admit(), room.admit()
        room.throttle(first, backoff=50)
        room.throttle(second, asked=5)
        room.send("a", Patience(until=None, max_pause=6))

    made = room(virtual, scene, slots=2)
    assert made.entered == [("a", 50)]
    assert made.refused == []


def test_a_refusal_goes_before_a_full_queue(virtual):
    """Who could not wait anyway is told about the pause."""

    async def scene(room):
        room.throttle(asked=50)
        ticket = room.ticket(Patience(until=None, max_pause=1))
        assert await room.gate.enter(ticket) == Refused(asked=50)

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
    """Requests that were on their way together are one sign, with one pause."""
    paused = []

    def backoff(in_a_row):
        paused.append(in_a_row)
        return 0.0

    async def scene(room):
        burst = [room.admit() for _ in range(3)]
        await asyncio.sleep(1)
        for ticket in burst:
            room.gate.throttled(ticket, DOWN, None, backoff)
            room.gate.leave(ticket)
        later = [room.admit() for _ in range(2)]
        room.gate.throttled(later[0], DOWN, None, backoff)
        room.gate.answered(later[1])
        assert room.gate.throttles_in_a_row == 0
        for ticket in later:
            room.gate.leave(ticket)

    room(virtual, scene, slots=4)
    assert paused == [1, 2]


def test_after_the_first_answer_of_all_the_gate_looks_around(virtual):
    """What was sent with it may be refused: nobody is sent into that."""

    async def scene(room):
        answered, refused = room.admit(), room.admit()
        room.send("a")
        await asyncio.sleep(1)
        room.gate.answered(answered)
        room.gate.leave(answered)
        await asyncio.sleep(0.001)
        room.throttle(refused, backoff=10)

    assert room(virtual, scene, slots=2).entered == [("a", 11.001)]


@pytest.mark.parametrize("together", [True, False])
def test_the_look_around_is_short(virtual, together):
    """It is taken once, and not at all where the first was sent alone."""

    async def scene(room):
        if together:
            room.send("other", hold=100)
        await asyncio.sleep(0)
        for name in "abc":
            room.send(name, end=room.gate.answered)

    made = room(virtual, scene, slots=1 + together)
    times = [time for name, time in made.entered if name != "other"]
    assert times[0] == 0
    assert (0 < times[1] - 1 < 0.1) if together else times[1] == 1
    assert times[2] == pytest.approx(times[1] + 1)


def test_close_forgets_the_timer(virtual):
    """A closed gate does not keep its loop awake."""

    async def scene(room):
        room.gate.close()
        room.throttle(asked=1000)
        room.gate.close()

    made = room(virtual, scene)
    assert made.now() == 0


# -- a limit of the user's -----------------------------------------------------------


def paced(virtual, limit, count, *, before=None, rest=0.0):
    """Return the times at which searches, asking all at once, are let through."""

    async def scene(room):
        await asyncio.sleep(rest)
        if before is not None:
            before(room)
        for name in range(count):
            room.send(name, hold=0)

    made = room(virtual, scene, slots=1000, limit=limit)
    assert [name for name, _ in made.entered] == list(range(count))
    return [time for _, time in made.entered]


@pytest.mark.parametrize(
    ("limit", "rest", "times"),
    [
        (RateLimit(4), 0, [0, 0.25, 0.5, 0.75, 1.0]),
        (RateLimit(4, 3), 0, [0, 0, 0, 0.25, 0.5, 0.75]),
        (RateLimit(0.5), 0, [0, 2, 4]),
        # Permits that nobody took are lost.
        (RateLimit(4, 3), 1000, [1000, 1000, 1000, 1000.25, 1000.5]),
    ],
    ids=["rate", "burst", "slow", "rested"],
)
def test_permits(virtual, limit, rest, times):
    """A burst at once, then one every interval."""
    assert paced(virtual, limit, len(times), rest=rest) == times


def test_no_window_holds_more_than_rate_and_burst(virtual):
    """Whatever second one looks at: the rate, and one burst on top."""
    times = paced(virtual, RateLimit(20, 5), 200)
    for start in times:
        assert sum(start <= time < start + 1 for time in times) <= 20 + 5


@pytest.mark.parametrize("pause", [0, 10])
@pytest.mark.parametrize("burst", [1, 5])
def test_a_throttle_takes_the_saved_permits(virtual, burst, pause):
    """The service is full: it is not met with a burst, nor with one saved meanwhile."""
    times = paced(
        virtual,
        RateLimit(4, burst),
        3,
        before=lambda room: room.throttle(backoff=pause),
    )
    assert times == [pause + 0.25, pause + 0.5, pause + 0.75]


def test_a_recall_gives_back_what_no_throttle_has_taken(virtual):
    """Permits of before a throttle are lost, whoever had them."""

    async def scene(room):
        tickets = [room.admit() for _ in range(4)]
        room.throttle(tickets[0], backoff=0.1)
        for ticket in tickets[1:]:
            assert room.gate.recalled(ticket)
        for name in range(3):
            room.send(name, hold=0)

    made = room(virtual, scene, slots=9, limit=RateLimit(4, 5))
    times = [time for _, time in made.entered]
    assert times == pytest.approx([0.35, 0.6, 0.85])


def test_who_gives_up_takes_no_permit(virtual):
    """It neither blocks the others nor lets them through sooner."""

    async def scene(room):
        room.send("a")
        doomed = room.send("b")
        room.send("c")
        await asyncio.sleep(0.5)
        doomed.cancel()

    made = room(virtual, scene, slots=9, limit=RateLimit(1))
    assert made.entered == [("a", 0), ("c", 1)]


def test_a_single_call_gets_the_next_permit(virtual):
    """Permits follow the order of the queue."""

    async def scene(room):
        for name in "ab":
            room.send(name, rank=Rank.BATCH)
        await asyncio.sleep(0.5)
        room.send("single")

    made = room(virtual, scene, slots=9, limit=RateLimit(1))
    assert made.entered == [("a", 0), ("single", 1), ("b", 2)]


# -- the outage ----------------------------------------------------------------------


def test_ten_failures_in_a_row_are_an_outage(virtual):
    """Of whatever searches; the tenth is told that it began."""

    async def scene(room):
        tickets = [room.admit() for _ in range(10)]
        assert [room.fail(ticket) for ticket in tickets] == [False] * 9 + [True]
        for ticket in tickets:
            room.gate.leave(ticket)
        assert not room.gate.try_enter(room.ticket())

    room(virtual, scene, slots=10)


@pytest.mark.parametrize(
    "interlude",
    [
        lambda room, ticket: room.gate.answered(ticket),
        lambda room, ticket: room.gate.throttled(ticket, DOWN, None, lambda _: 0.0),
    ],
    ids=["answer", "throttle"],
)
def test_an_answer_between_failures(virtual, interlude):
    """The row begins anew: the service works."""

    async def scene(room):
        ticket = room.admit()
        began = [room.fail(ticket) for _ in range(9)]
        interlude(room, ticket)
        began += [room.fail(ticket) for _ in range(9)]
        assert not any(began)
        assert room.fail(ticket)
        room.gate.leave(ticket)

    room(virtual, scene)


def test_one_probe_at_a_time_with_backoff(virtual):
    """Each failed one lets the next wait longer; an answer opens the gate for all."""

    async def scene(room):
        room.break_down(delays=(1, 2, 4))
        room.send("a", hold=0.5, end=room.fail)
        room.send("b", hold=0.5, end=room.fail)
        room.send("c", hold=0.5, end=room.gate.answered)
        room.send("d")
        room.send("e")

    made = room(virtual, scene, slots=20)
    assert made.entered == [("a", 1), ("b", 3.5), ("c", 8), ("d", 8.5), ("e", 8.5)]
    assert made.gate.outage is None


def test_nobody_is_sent_while_a_probe_is_on_its_way(virtual):
    """Not even long after the backoff has passed."""

    async def scene(room):
        room.break_down()
        room.send("probe", hold=50)
        await asyncio.sleep(40)
        assert not room.gate.try_enter(room.ticket())
        assert room.gate.in_flight == 1

    room(virtual, scene, slots=20)


def test_a_lost_probe_does_not_end_an_outage(virtual):
    """No answer tells nothing: the next one waits longer."""

    async def scene(room):
        room.break_down(delays=(1, 5))
        room.send("a", hold=1, end=room.gate.lost)
        room.send("b", hold=1, end=room.gate.answered)

    assert room(virtual, scene).entered == [("a", 1), ("b", 7)]


def test_a_cancelled_probe_makes_room_for_another(virtual):
    """It has learned nothing, and blocks nobody."""

    async def scene(room):
        room.break_down()
        doomed = room.send("a", hold=100)
        room.send("b", end=room.gate.answered)
        await asyncio.sleep(3)
        doomed.cancel()

    assert room(virtual, scene).entered == [("a", 1), ("b", 3)]


@pytest.mark.parametrize("answer", ["answered", "throttled"])
def test_an_answer_to_an_older_request_ends_an_outage(virtual, answer):
    """Whoever was answered: the service works."""

    async def scene(room):
        older = room.admit()
        room.break_down(delays=(100,))
        room.send("a")
        await asyncio.sleep(5)
        if answer == "answered":
            room.gate.answered(older)
            room.gate.leave(older)
        else:
            room.throttle(older)

    assert room(virtual, scene, slots=2).entered == [("a", 5)]


def test_older_requests_fail_without_delaying_the_probe(virtual):
    """They were sent before: the next probe comes when it would."""

    async def scene(room):
        older = room.admit()
        room.break_down(delays=(10, 1000))
        room.send("a", end=room.gate.answered)
        await asyncio.sleep(5)
        assert not room.fail(older)
        room.gate.leave(older)

    assert room(virtual, scene, slots=2).entered == [("a", 10)]


def test_older_requests_do_not_hold_the_probe_back(virtual):
    """They may hang until their time is up."""

    async def scene(room):
        room.send("older", hold=100)
        await asyncio.sleep(0)
        room.break_down()
        room.send("a", end=room.gate.answered)

    assert room(virtual, scene, slots=2).entered == [("older", 0), ("a", 1)]


def test_an_outage_takes_back_what_was_granted(virtual):
    """Only its own probe is sent into it."""

    async def scene(room):
        before = room.admit()
        room.break_down()
        assert room.gate.recalled(before)
        await asyncio.sleep(1)
        probe = room.admit()
        assert not room.gate.recalled(probe)
        room.gate.leave(probe)

    room(virtual, scene, slots=2)


def outlasting(seconds):
    """Return the patience for an outage of so many seconds."""
    return Patience(until=None, max_pause=120.0, max_outage=seconds)


def test_an_outage_that_lasts_too_long(virtual):
    """Who waits is told the error; who came later has as long as the others had."""

    async def scene(room):
        room.break_down(delays=(1000,))
        room.send("a", outlasting(5))
        await asyncio.sleep(2)
        room.send("b", outlasting(5))
        room.send("patient", outlasting(8), rank=Rank.BATCH)

    made = room(virtual, scene)
    refused = Refused(error=str(DOWN))
    assert made.refused == [
        ("a", 5, refused),
        ("b", 7, refused),
        ("patient", 10, refused),
    ]


def test_what_was_there_before_an_outage(virtual):
    """Its seconds count from the beginning of that; then it is refused at once."""

    async def scene(room):
        ticket = room.ticket(outlasting(5))
        await asyncio.sleep(2)
        room.break_down(delays=(1000,))
        room.resume("a", ticket)
        await asyncio.sleep(10)
        room.resume("a again", ticket)

    made = room(virtual, scene)
    refused = Refused(error=str(DOWN))
    assert made.refused == [("a", 7, refused), ("a again", 12, refused)]


def test_the_latest_error_of_an_outage_is_told(virtual):
    """Whether that was a probe's or not."""
    latest = ServerError("still down", status=500)

    async def scene(room):
        older = room.admit()
        room.break_down(delays=(1000,))
        room.send("a", outlasting(5))
        room.fail(older, error=latest)
        room.gate.leave(older)

    made = room(virtual, scene, slots=2)
    assert made.refused == [("a", 5, Refused(error=str(latest)))]


def test_a_probe_of_an_ended_outage_does_not_disturb_the_next(virtual):
    """Neither its end nor its leaving touches the new probe or its backoff."""

    async def scene(room):
        older = room.admit()
        room.break_down()
        await asyncio.sleep(1)
        stray = room.admit()
        room.gate.answered(older)
        room.gate.leave(older)
        await asyncio.sleep(1)
        room.break_down(delays=(1, 10))
        await asyncio.sleep(1)
        probe = room.admit()
        next_at = room.gate.outage.next_at
        room.fail(stray)
        room.gate.lost(stray)
        room.gate.leave(stray)
        assert room.gate.outage.next_at == next_at
        assert not room.gate.try_enter(room.ticket())
        room.gate.answered(probe)
        room.gate.leave(probe)

    room(virtual, scene, slots=3)


def test_an_endless_patience_waits_for_the_end_of_an_outage(virtual):
    """Without a limit only the probes end it."""

    async def scene(room):
        room.break_down(delays=(5000,))
        room.send("a", Patience(None, 1.0, math.inf), end=room.gate.answered)

    assert room(virtual, scene).entered == [("a", 5000)]


def test_endless_throttles_refuse_who_has_no_deadline(virtual):
    """As an outage does; whoever has one is bounded by that."""

    async def scene(room):
        tickets = [room.admit() for _ in range(4)]
        room.throttle(tickets.pop(), asked=100)
        room.send("unbound", outlasting(5))
        room.send("bound", Patience(room.loop.time() + 900, 120.0, max_outage=5.0))
        await asyncio.sleep(6)
        room.throttle(tickets.pop(), asked=100)
        room.gate.answered(tickets[0])  # the siege is over
        room.send("later", outlasting(5))
        await asyncio.sleep(6)
        room.throttle(tickets.pop(), asked=1)
        room.gate.leave(tickets.pop())

    made = room(virtual, scene, slots=4)
    assert made.refused == [("unbound", 6, Refused(error=str(DOWN)))]


def test_a_request_more_in_the_same_slot_counts_against_the_rate(virtual):
    """It does not wait; those that follow do."""

    async def scene(room):
        ticket = room.admit()
        room.gate.sent_again(ticket)
        room.gate.leave(ticket)
        room.send("a", hold=0)

    assert room(virtual, scene, limit=RateLimit(1)).entered == [("a", 2)]
