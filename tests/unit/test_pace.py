"""What throttles teach: the window, the pace, and what both are worth in a storm."""

import asyncio
import itertools
import math
import random
import statistics

import attrs
import pytest

from verifik_async._gate import Gate, Patience, Rank, Ticket
from verifik_async._pace import _HOLD_LEAST, _HOLD_MOST, Bucket, Pace
from verifik_async.errors import RateLimitedError

BUSY = RateLimitedError("busy", status=429)

# -- a bucket of permits ---------------------------------------------------------


def test_a_bucket_gives_what_is_saved_and_then_a_rate():
    """The time of the next permit is told before it is there."""
    bucket = Bucket(rate=4.0, burst=2.0, level=2.0, now=10.0)
    assert bucket.ready_at(10.0) == 10.0
    assert bucket.take(10.0) == 1.0
    assert bucket.take(10.0) == 0.0
    assert bucket.ready_at(10.0) == pytest.approx(10.25)
    assert bucket.ready_at(10.1) == pytest.approx(10.25)
    assert bucket.ready_at(10.25) == 10.25


def test_a_bucket_saves_no_more_than_a_burst():
    """Permits that nobody took are lost."""
    bucket = Bucket(rate=4.0, burst=3.0, level=0.0, now=0.0)
    assert [bucket.take(1000.0) for _ in range(3)] == [2.0, 1.0, 0.0]
    assert bucket.ready_at(1000.0) > 1000.0


def test_a_permit_may_be_owed():
    """The next one waits for both."""
    bucket = Bucket(rate=2.0, burst=1.0, level=0.0, now=0.0)
    assert bucket.take(0.0) == -1.0
    assert bucket.ready_at(0.0) == pytest.approx(1.0)


def test_a_permit_that_is_given_back():
    """It is there again, within the burst."""
    bucket = Bucket(rate=1.0, burst=1.0, level=1.0, now=0.0)
    bucket.take(0.0)
    bucket.give_back()
    bucket.give_back()
    assert bucket.take(0.0) == 0.0


@pytest.mark.parametrize(("level", "ready_at"), [(5.0, 1.0), (-1.0, 2.0)])
def test_an_emptied_bucket(level, ready_at):
    """What was saved is lost, what is owed is not forgiven."""
    bucket = Bucket(rate=1.0, burst=5.0, level=level, now=0.0)
    bucket.empty(until=0.0)
    assert bucket.ready_at(0.0) == pytest.approx(ready_at)
    bucket.empty(until=10.0)
    assert bucket.ready_at(10.0) == pytest.approx(10.0 + ready_at)


def test_a_clock_that_was_ahead():
    """Time by decree, a little ahead of the clock, is not counted twice."""
    bucket = Bucket(rate=1.0, burst=9.0, level=0.0, now=0.0)
    assert bucket.take(5.0) == 4.0
    assert bucket.take(4.9) == 3.0
    assert bucket.take(6.0) == 3.0


def test_what_was_waited_for_is_there():
    """At any rate and time of day, but for rounding: no waiter spins."""
    dice = random.Random(1)
    for _ in range(2000):
        began = dice.uniform(0.0, 1e7)
        bucket = Bucket(10 ** dice.uniform(-3, 4), 1.0, dice.uniform(-5, 1), began)
        times = [began]
        while (ready := bucket.ready_at(times[-1])) > times[-1]:
            times.append(ready)
        assert len(times) <= 3


# -- the window ----------------------------------------------------------------------


def send(pace, count, now=0.0):
    """Send searches, and return their grants."""
    return [pace.send(now) for _ in range(count)]


def throttle(pace, grants, now=0.0, asked=None):
    """Let searches that were sent together be throttled; whether one was news."""
    return [pace.throttled(grant, now, asked) for grant in grants]


def answer(pace, count, now=0.0):
    """Let searches be sent and answered at once."""
    for _ in range(count):
        pace.answered(pace.send(now), now)


def test_without_throttles_there_is_no_pace():
    """All slots may be used at once, whatever is answered."""
    pace = Pace(32)
    answer(pace, 100)
    assert (pace.window, pace.per_second) == (32, None)
    assert pace.ready_at(0.0) == 0.0


def test_a_burst_of_throttles_halves_the_window_once():
    """What was on its way together is refused together."""
    pace = Pace(32)
    assert throttle(pace, send(pace, 5)) == [True, False, False, False, False]
    assert (pace.window, pace.epoch) == (16, 1)
    assert throttle(pace, send(pace, 2)) == [True, False]
    assert (pace.window, pace.epoch) == (8, 2)


def test_the_window_never_closes():
    """One search may always be on the wire."""
    pace = Pace(3)
    for _ in range(5):
        throttle(pace, send(pace, 1))
    assert pace.window == 1


def test_the_window_grows_back_to_most_of_what_it_was():
    """One for each answer, at once."""
    pace = Pace(20)
    answer(pace, 1)
    throttle(pace, send(pace, 1))
    windows = []
    for _ in range(8):
        answer(pace, 1)
        windows.append(pace.window)
    assert windows == [11, 12, 13, 14, 15, 16, 16, 16]


def test_beyond_that_the_window_grows_slowly():
    """After the hold only, and up to the slots."""
    pace = Pace(20)
    answer(pace, 1)
    throttle(pace, send(pace, 1))
    answer(pace, 50, now=_HOLD_LEAST - 0.1)
    assert pace.window == 16
    answer(pace, 16, now=_HOLD_LEAST)
    assert 16 < pace.window < 17
    answer(pace, 2000, now=_HOLD_LEAST)
    assert pace.window == 20


def test_a_service_that_has_not_recovered():
    """Throttles without an answer between them are one: only the window halves."""
    pace = Pace(20)
    answer(pace, 1)
    throttle(pace, send(pace, 1))
    throttle(pace, send(pace, 1))
    assert pace.window == 5
    answer(pace, 50)
    assert pace.window == 16


def test_answers_to_what_was_sent_before_a_throttle():
    """They tell nothing of the time after it."""
    pace = Pace(20)
    old, refused = send(pace, 10), send(pace, 1)
    throttle(pace, refused)
    for grant in old:
        pace.answered(grant, 0.1)
    assert pace.window == 10


@pytest.mark.parametrize(
    ("since", "hold"),
    [
        (1.0, _HOLD_LEAST),
        (_HOLD_LEAST, _HOLD_LEAST),
        (20.0, 20.0),
        (_HOLD_MOST * 5, _HOLD_MOST),
    ],
)
def test_the_hold(since, hold):
    """As long as there was quiet before the throttle, within bounds."""
    pace = Pace(20)
    for now in (0.0, since):
        pace.ready_at(now)
        answer(pace, 20, now)
        throttle(pace, send(pace, 1, now), now)
    answer(pace, 20, since + hold - 0.1)
    held = pace.window
    answer(pace, 20, since + hold)
    assert held < pace.window


# -- the pace --------------------------------------------------------------------------


def first_throttle(asked=None, *, passed=5, slots=32):
    """Return a pace that has met a throttle after so many, and has learned from it."""
    pace = Pace(slots)
    grants = send(pace, passed + 3)
    throttle(pace, grants[passed:], asked=asked)
    pace.ready_at(asked or 0.0)
    return pace


def test_a_first_throttle_that_names_no_time_sets_no_pace():
    """Nobody knows when what was let through began to count."""
    pace = first_throttle()
    assert pace.per_second is None
    assert pace.ready_at(1.0) == 1.0


@pytest.mark.parametrize(("passed", "rate"), [(5, 2.0), (21, 10.0), (2, None)])
def test_the_first_guess(passed, rate):
    """As many again, but for one, in the time asked for; few tell nothing."""
    pace = first_throttle(asked=2.0, passed=passed)
    assert pace.per_second == rate


def test_a_first_throttle_that_nothing_passed():
    """It tells nothing of a rate."""
    assert first_throttle(asked=1.0, passed=0).per_second is None


def test_the_pace_is_empty_at_the_throttle():
    """It has filled when the pause ends, and not before."""
    pace = first_throttle(asked=2.0)
    send(pace, 4, 2.0)
    assert pace.ready_at(2.0) == pytest.approx(2.5, rel=0.02)


def test_who_is_asked_to_come_back_may_come_then():
    """One permit is there, however slow the pace is."""
    pace = Pace(32)
    answer(pace, 3, 0.0)
    throttle(pace, send(pace, 1, 5.0), 5.0, asked=2.0)
    assert pace.ready_at(7.0) == 7.0
    assert pace.per_second < 0.5
    pace.send(7.0)
    assert pace.ready_at(7.0) > 9.0


def test_the_rate_is_what_passed_between_two_throttles():
    """Less one, that may have been there; refused and recalled ones passed not."""
    pace = first_throttle()
    grants = send(pace, 20, 1.0)
    pace.recall(grants[-1])
    throttle(pace, grants[11:19], 2.0)
    pace.ready_at(2.0)
    assert pace.per_second == (20 - 1 - 8 - 1) / 2.0


def test_a_search_recalled_after_a_throttle_gives_no_permit():
    """Nothing was taken for it of what was learned since."""
    pace = first_throttle(asked=2.0)
    pace.ready_at(2.0)
    [grant] = send(pace, 1, 2.0)
    pace.recall(attrs.evolve(grant, epoch=grant.epoch - 1))
    send(pace, 3, 2.0)
    assert pace.ready_at(2.0) > 2.0


@pytest.mark.parametrize(("refused_later", "paced"), [(0, False), (25, True)])
def test_a_lone_throttle_is_no_limit_of_rate(refused_later, paced):
    """Where what was sent after it got through there is nothing to pace."""
    pace = Pace(32)
    grants = send(pace, 32, 0.0)
    throttle(pace, grants[5 : 6 + refused_later], 0.0, asked=1.0)
    pace.ready_at(1.0)
    assert (pace.per_second is not None) is paced
    assert pace.window == 16


def test_what_is_refused_after_the_first_of_a_burst_counts_too():
    """It is learned from when somebody is to be sent again, not before."""
    pace = first_throttle()
    grants = send(pace, 20, 1.0)
    throttle(pace, grants[11:15], 2.0)
    throttle(pace, grants[15:], 2.0)
    pace.ready_at(3.0)
    assert pace.per_second == (11 - 1) / 2.0


def test_throttles_in_the_same_moment():
    """Times so close together are too blurred to divide by."""
    pace = first_throttle()
    grants = send(pace, 4, 0.001)
    throttle(pace, grants[3:], 0.001)
    pace.ready_at(0.001)
    assert pace.per_second == pytest.approx((3 - 1) / 0.1)


def test_a_lowered_limit_is_learned():
    """Only the latest throttles are looked back on."""
    pace, now = first_throttle(asked=0.1, passed=101), 0.0
    for passed in (1000, *[10] * 10):
        now += 10.0
        grants = []
        while pace.ready_at(now) == now:
            grants += send(pace, 1, now)
        throttle(pace, grants[: passed - 1 : -1], now)
    pace.ready_at(now)
    assert 0.5 < pace.per_second < 5.0


def test_a_rate_that_was_proved_before():
    """A throttle right after another does not forget it."""
    pace = first_throttle()
    for now, passed in ((10.0, 51), (10.5, 0)):
        pace.ready_at(now)
        grants = send(pace, passed + 1, now)
        throttle(pace, grants[passed:], now)
    pace.ready_at(10.5)
    assert pace.per_second == pytest.approx(50 / 10.5)


def test_a_throttle_on_saved_permits_blames_the_burst():
    """Too many were saved up; the rate may be nearly right."""
    pace = first_throttle(asked=2.0)
    grants = send(pace, 10, 100.0)
    assert [grant.in_burst for grant in grants] == [True] * 10
    throttle(pace, grants[4:], 100.0)
    pace.ready_at(100.0)
    assert 1.5 < pace.per_second <= 2.0
    at_once = 0
    while pace.ready_at(200.0) == 200.0:
        pace.send(200.0)
        at_once += 1
    assert 1 < at_once <= 4


def keep_pace(pace, seconds, began):
    """Send as fast as the pace allows; return the time."""
    now = began
    while now < began + seconds:
        assert 0 < pace.per_second < 1000
        now = pace.ready_at(now)
        pace.answered(pace.send(now), now)
    return now


@pytest.mark.parametrize(("passed", "times"), [(5, 2), (41, 2)])
def test_the_pace_grows_while_it_is_searched_for(passed, times):
    """A first guess is soon left behind."""
    pace = first_throttle(asked=2.0, passed=passed)
    guess = pace.per_second
    keep_pace(pace, 5.0, 2.0)
    assert pace.per_second > times * guess


def test_a_pace_that_was_found_is_held():
    """No growth for a while, then faster and faster."""
    pace, now = first_throttle(asked=2.0, passed=41), 2.0
    for _ in range(2):
        now = keep_pace(pace, 2.0, now)
        throttle(pace, send(pace, 1, now), now)
    pace.ready_at(now)
    found = [pace.per_second]
    for seconds in (_HOLD_LEAST - 0.5, 5.0, 5.0):
        now = keep_pace(pace, seconds, now)
        found.append(pace.per_second)
    assert found[0] == found[1]
    shares = [later / former for former, later in itertools.pairwise(found[1:])]
    assert 1.05 < shares[0] < shares[1] < 2.0


def test_a_pace_that_nobody_uses_does_not_grow():
    """On saved permits nothing is learned of the rate."""
    pace = first_throttle(asked=2.0)
    for now in range(10, 1000, 10):
        pace.ready_at(float(now))
        pace.send(float(now))
    assert pace.per_second == 2.0


@pytest.mark.parametrize(
    ("refused", "share"),
    [(5, 0.87), (20, 0.7), (35, 0.5)],
    ids=["proved", "off", "far"],
)
def test_a_throttle_in_spite_of_the_pace(refused, share):
    """It falls, not below what was let through, and deeper where that was little."""
    pace = first_throttle(asked=2.0, passed=41)
    before = pace.per_second
    grants = send(pace, 40, 2.0)  # all that has come in by then
    throttle(pace, [grants[-1], *grants[:-1][: refused - 1]], 2.0)
    pace.ready_at(2.0)
    assert pace.per_second / before == pytest.approx(share, abs=0.05)


# -- services ----------------------------------------------------------------------


def test_throttles_in_a_row_do_not_end_all_sending():
    """A service that refused all for a while is found recovered again."""
    pace, now = Pace(8), 0.0

    def search(*, refused):
        nonlocal now
        now = pace.ready_at(now)
        grant = pace.send(now)
        if refused:
            pace.throttled(grant, now, 1.0)
            now += 1.0
        else:
            pace.answered(grant, now)
            now += 0.02

    for refused in (False,) * 40 + (True,) + (False,) * 20 + (True,) * 40:
        search(refused=refused)
    pace.ready_at(now)
    assert pace.per_second == pytest.approx(1.0)
    began = now
    for _ in range(1000):
        search(refused=False)
    assert now - began < 150


class Rated:
    """A service that answers so many a second, and a burst after a quiet time.

    `later`: another rate, and after how many seconds it holds.
    """

    def __init__(self, rate, burst, asks=None, *, later=(0.0, math.inf)):
        self.rate = rate
        self.burst = burst
        self.asks = asks
        self.later = later
        self.level = burst
        self.at = 0.0

    def accepts(self, now):
        """Take a permit if there is one."""
        other, after = self.later
        passed, self.at = now - self.at, now
        self.level = min(self.burst, self.level + passed * self.rate)
        if now > after:
            self.rate = other
        if self.level < 1:
            return False
        self.level -= 1
        return True

    def done(self):
        """Nothing comes back with the end of a search."""


class Narrow:
    """A service that works on so many searches at once, and on no more."""

    asks = None

    def __init__(self, width):
        self.free = width

    def accepts(self, _now):
        """Take a place if there is one."""
        free = self.free > 0
        self.free -= free
        return free

    def done(self):
        """Give it back."""
        self.free += 1


def storm(virtual, service, count, *, seed, work=0.003):
    """Search all at once; return the seconds and the requests that it took."""
    dice = random.Random(seed)

    def about(seconds):
        return seconds * dice.uniform(0.5, 1.5)

    def backoff(in_a_row):
        return dice.uniform(0.0, min(20.0, 0.5 * 2 ** (in_a_row - 1)))

    async def play():
        loop = asyncio.get_running_loop()
        gate, began, requests = Gate(32, None, loop), loop.time(), 0

        async def search():
            nonlocal requests
            ticket = Ticket(Rank.SINGLE, Patience(None, math.inf), began)
            accepted = False
            while not accepted:
                assert await gate.enter(ticket) is None
                requests += 1
                await asyncio.sleep(about(0.001))
                accepted = service.accepts(loop.time() - began)
                if accepted:
                    await asyncio.sleep(about(work))
                    service.done()
                await asyncio.sleep(about(0.001))
                if accepted:
                    gate.answered(ticket)
                else:
                    gate.throttled(ticket, BUSY, service.asks, backoff)
                gate.leave(ticket)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(count):
                tasks.create_task(search())
        gate.close()
        return loop.time() - began, requests

    return virtual(play)


SEEDS = range(5)
# Both services' time of work: shorter, and longer, than the time between two permits.
WORK = pytest.mark.parametrize("work", [0.003, 0.1], ids=["quick", "slow"])


def worth(virtual, make, count, ideal, **how):
    """Return the mean share of the ideal time, and of requests to searches."""
    runs = [storm(virtual, make(), count, seed=seed, **how) for seed in SEEDS]
    seconds, requests = zip(*runs, strict=True)
    return statistics.mean(seconds) / ideal, statistics.mean(requests) / count


# Searches, searches a second, and requests a search at most: with a header, without.
# Of 100 at 5/s the first 32 alone cost 27 refusals.
STORMS = [(300, 20, 1.3, 1.3), (100, 5, 1.33, 1.55), (1000, 200, 1.3, 1.3)]


@WORK
@pytest.mark.parametrize("asks", [1.0, None], ids=["asks", "silent"])
@pytest.mark.parametrize(
    ("count", "rate", "asking", "silent"), STORMS, ids=["300@20", "100@5", "1000@200"]
)
def test_a_storm(virtual, count, rate, asking, silent, asks, work):
    """Everybody is answered, soon after the limit allows it, with few refusals."""
    ideal = (count - rate) / rate
    time, hits = worth(
        virtual, lambda: Rated(rate, rate, asks), count, ideal, work=work
    )
    assert time <= 1.25
    assert hits <= (silent if asks is None else asking)


@WORK
@pytest.mark.parametrize("asks", [1.0, None], ids=["asks", "silent"])
def test_a_storm_without_a_burst(virtual, asks, work):
    """The first throttle comes after one search: the rate is found from nothing."""
    time, hits = worth(virtual, lambda: Rated(20, 1, asks), 300, 15.0, work=work)
    assert time <= 2.1
    assert hits <= 1.25


def test_what_was_found_is_held(virtual):
    """In the long run little of a limit is left unused, and little sent in vain."""
    seconds, requests = storm(virtual, Rated(20, 1, None), 6000, seed=1)
    assert seconds <= 1.2 * 300
    assert requests <= 1.03 * 6000


def test_a_limit_of_searches_at_once(virtual):
    """What is no rate is found by the window."""
    time, hits = worth(virtual, lambda: Narrow(8), 1000, 12.5, work=0.1)
    assert time <= 2.0
    assert hits <= 1.1


@pytest.mark.parametrize("asks", [1.0, None], ids=["asks", "silent"])
def test_a_limit_that_rises(virtual, asks):
    """It is found again: at the old rate this would take six times as long."""
    ideal = 5 + (1500 - 6 * 20) / 200
    time, hits = worth(
        virtual, lambda: Rated(20, 20, asks, later=(200, 5.0)), 1500, ideal
    )
    assert time <= 3.6
    assert hits <= 1.05


@pytest.mark.parametrize("asks", [1.0, None], ids=["asks", "silent"])
def test_a_limit_that_falls(virtual, asks):
    """The rate that was learned is forgotten in time."""
    ideal = 2 + (1000 - 20 - 2 * 200) / 20
    time, hits = worth(
        virtual, lambda: Rated(200, 20, asks, later=(20, 2.0)), 1000, ideal
    )
    assert time <= 1.75
    assert hits <= 1.15
