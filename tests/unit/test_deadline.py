"""How long a search may go on, and what ends its waits before that."""

import asyncio

import pytest

from verifik_async import Charge
from verifik_async._deadline import CutOff, Deadline, Limit, Watch
from verifik_async._tally import Tally
from verifik_async.errors import (
    ClientClosedError,
    DeadlineExceededError,
    QueueFullError,
)


class Scene:
    """A running loop, its clock, and what may end the waits on it."""

    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.began = self.loop.time()
        self.cut = CutOff(self.loop)
        self.tally = Tally(self.began)

    def now(self):
        """Return the seconds since the beginning."""
        return round(self.loop.time() - self.began, 6)

    def deadline(self, limit=None, bound=None, *, begun=True):
        """Return a deadline; `bound` counts from the beginning."""
        end = None if bound is None else self.began + bound
        made = Deadline(self.loop, limit, (CutOff(self.loop), self.cut), end)
        if begun:
            made.begin(self.loop.time())
        return made

    async def ended(self, deadline, work):
        """Return what a wait ended in, and when."""
        try:
            await deadline.within(work, self.tally)
        except Exception as error:  # noqa: BLE001 - whatever it was
            return error, self.now()
        raise AssertionError("it has not ended")


@pytest.fixture
def play(virtual):
    """Run a coroutine function with a scene on a clock without waiting."""

    def run(function):
        async def on_the_loop():
            return await function(Scene())

        return virtual(on_the_loop)

    return run


@pytest.mark.parametrize(
    ("limit", "bound", "before", "after"),
    [
        (None, None, None, None),
        (5, None, None, 7),
        (5, 100, 100, 7),
        (5, 6, 6, 6),
        (None, 6, 6, 6),
    ],
)
def test_the_time_of_a_deadline(play, limit, bound, before, after):
    """A call's own time counts once it has begun; the batch's always does."""

    async def scene(scene):
        deadline = scene.deadline(limit, bound, begun=False)
        await asyncio.sleep(2)
        found = [(deadline.begun, deadline.at)]
        deadline.begin(scene.loop.time())
        found.append((deadline.begun, deadline.at))
        return [(begun, at and at - scene.began) for begun, at in found]

    assert play(scene) == [(False, before), (True, after)]


@pytest.mark.parametrize(("bound", "earlier"), [(None, 5), (3, 3), (9, 5)])
def test_the_earlier_of_two(play, bound, earlier):
    """An end of one's own, or the deadline."""

    async def scene(scene):
        deadline = scene.deadline(bound=bound)
        return deadline.before(scene.began + 5) - scene.began

    assert play(scene) == earlier


def test_work_in_time(play):
    """Its result is passed on, and nobody watches any more."""

    async def scene(scene):
        deadline = scene.deadline(5)
        result = await deadline.within(asyncio.sleep(1, "found"), scene.tally)
        scene.cut.cut(ClientClosedError)
        await asyncio.sleep(10)
        return result

    assert play(scene) == "found"


@pytest.mark.parametrize(
    ("limit", "bound", "whose"),
    [
        (5, None, "the deadline of 5 s"),
        (5, 100, "the deadline of 5 s"),
        (100, 5, "the deadline of the batch"),
    ],
)
def test_work_that_takes_too_long(play, limit, bound, whose):
    """It ends at the deadline, and tells whose that was."""

    async def scene(scene):
        return await scene.ended(scene.deadline(limit, bound), asyncio.sleep(50))

    error, ended_at = play(scene)
    assert type(error) is DeadlineExceededError
    assert ended_at == 5
    assert str(error) == f"no answer within {whose} (0 attempts, 0 throttled)"


def test_the_error_of_a_deadline_tells_what_there_was(play):
    """Attempts, throttles, the last status and the worst charge."""

    async def scene(scene):
        tally = Tally(0.0, attempts=2, throttled=3, charge=Charge.ANSWERED, status=429)
        return scene.deadline(1.5).passed(tally)

    error = play(scene)
    assert str(error).endswith("1.5 s (2 attempts, 3 throttled, last status 429)")
    assert (error.attempts, error.last_status) == (2, 429)
    assert error.charge is Charge.ANSWERED


@pytest.mark.parametrize("cut_at", [0, 2])
def test_a_cut(play, cut_at):
    """It ends a wait that is going on, and one that comes later at once."""

    async def scene(scene):
        scene.tally.attempts = 2
        deadline = scene.deadline(50)
        scene.loop.call_later(cut_at, scene.cut.cut, ClientClosedError)
        await asyncio.sleep(1)
        return await scene.ended(deadline, asyncio.sleep(50))

    error, ended_at = play(scene)
    assert type(error) is ClientClosedError
    assert error.attempts == 2
    assert ended_at == max(1, cut_at)


def test_a_cut_leaves_what_is_ready_alone(play):
    """Work that need not wait is done."""

    async def ready():
        return "found"

    async def scene(scene):
        scene.cut.cut(ClientClosedError)
        return await scene.deadline(5).within(ready(), scene.tally)

    assert play(scene) == "found"


@pytest.mark.parametrize(
    ("limit", "cuts", "found"),
    [
        (5.1, [], type(None)),
        (None, [], type(None)),
        (5, [], DeadlineExceededError),
        (None, [ClientClosedError], ClientClosedError),
        (5, [ClientClosedError], ClientClosedError),
        (None, [ClientClosedError, QueueFullError], ClientClosedError),
    ],
    ids=["time left", "no end", "late", "cut", "late and cut", "cut twice"],
)
def test_a_search_that_must_not_go_on(play, limit, cuts, found):
    """Its time is up, or its waits were ended: the first cut is the reason."""

    async def scene(scene):
        deadline = scene.deadline(limit)
        await asyncio.sleep(5)
        for error in cuts:
            scene.cut.cut(error)
        return deadline.over(scene.loop.time(), scene.tally)

    assert type(play(scene)) is found


def test_a_cut_in_the_moment_of_the_deadline(play):
    """The wait ends once, with the cut for a reason."""

    async def scene(scene):
        async def work():
            try:
                await asyncio.sleep(50)
            finally:  # the time is up, and the wait has not yet ended
                scene.cut.cut(ClientClosedError)

        return await scene.ended(scene.deadline(5), work())

    error, ended_at = play(scene)
    assert (type(error), ended_at) == (ClientClosedError, 5)


def test_a_cut_ends_every_wait(play):
    """Each ends with an error of its own."""

    async def scene(scene):
        async with asyncio.TaskGroup() as tasks:
            waits = [
                tasks.create_task(scene.ended(scene.deadline(), asyncio.sleep(50)))
                for _ in range(3)
            ]
            scene.loop.call_later(1, scene.cut.cut, ClientClosedError)
        return [wait.result() for wait in waits]

    found = play(scene)
    assert [(type(error), at) for error, at in found] == [(ClientClosedError, 1)] * 3
    assert len({id(error) for error, _ in found}) == 3


def test_a_timeout_of_the_work_itself(play):
    """The user's own TimeoutError passes through as it is."""
    theirs = TimeoutError("of the token callable")

    async def fail():
        await asyncio.sleep(1)
        raise theirs

    async def scene(scene):
        return await scene.ended(scene.deadline(5), fail())

    assert play(scene) == (theirs, 1)


@pytest.mark.parametrize("by", ["nothing", "cut", "deadline"])
def test_a_cancellation_is_never_swallowed(play, by):
    """Not even in the moment in which the wait would end anyway."""

    async def scene(scene):
        deadline = scene.deadline(5)
        async with asyncio.TaskGroup() as tasks:
            wait = tasks.create_task(deadline.within(asyncio.sleep(50), scene.tally))
            await asyncio.sleep(1)
            if by == "cut":
                scene.cut.cut(ClientClosedError)
            elif by == "deadline":
                scene.loop.now = deadline.at
            wait.cancel()
        return wait.cancelled()

    assert play(scene)


# -- one timer for all requests --------------------------------------------------


async def request(scene, watch, limit, takes):
    """Return what became of a request that takes so long, and when it ended."""
    at = None if limit is None else scene.loop.time() + limit
    with Limit(watch, at) as block:
        await asyncio.sleep(takes)
        return "answered", scene.now()
    return "passed" if block.passed else "left", scene.now()


@pytest.mark.parametrize(
    ("limits", "found"),
    [
        ([(5, 3)], [("answered", 3)]),
        ([(5, 9)], [("passed", 5)]),
        ([(None, 9)], [("answered", 9)]),
        ([(0, 9)], [("passed", 0)]),
        ([(7, 9), (5, 9)], [("passed", 7), ("passed", 5)]),
        ([(5, 1), (7, 9), (6, 9)], [("answered", 1), ("passed", 7), ("passed", 6)]),
        ([(5, 9), (5, 9), (5, 4)], [("passed", 5), ("passed", 5), ("answered", 4)]),
    ],
)
def test_each_request_has_a_limit_of_its_own(play, limits, found):
    """However many there are, and in whatever order they end."""

    async def scene(scene):
        watch = Watch(scene.loop)
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(request(scene, watch, *limit)) for limit in limits
            ]
        assert not watch.limits
        return [task.result() for task in running]

    assert play(scene) == found


def test_a_limit_after_others_have_passed(play):
    """The timer is set again for those who come later."""

    async def scene(scene):
        watch = Watch(scene.loop)
        return [await request(scene, watch, 2, 9) for _ in range(3)]

    assert play(scene) == [("passed", 2), ("passed", 4), ("passed", 6)]


def test_all_limits_at_once(play):
    """Who is on the way ends now, who comes later at once."""

    async def scene(scene):
        watch = Watch(scene.loop)
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(request(scene, watch, limit, 9))
                for limit in (None, 5)
            ]
            await asyncio.sleep(1)
            watch.end_all()
        later = await request(scene, watch, 5, 9)
        return [*(task.result() for task in running), later]

    assert play(scene) == [("passed", 1), ("passed", 1), ("passed", 1)]


def test_what_else_is_raised_comes_out(play):
    """An error in the block, with time left or without, is not taken for its end."""

    async def fail(scene, watch, limit):
        with Limit(watch, scene.loop.time() + limit):
            try:
                await asyncio.sleep(2)
            finally:
                raise LookupError("of the block")

    async def scene(scene):
        watch = Watch(scene.loop)
        for limit in (5, 1):
            with pytest.raises(LookupError):
                await fail(scene, watch, limit)
        return asyncio.current_task().cancelling(), len(watch.limits)

    assert play(scene) == (0, 0)


@pytest.mark.parametrize("limit", [5, 1, None])
def test_a_cancelled_request_stays_cancelled(play, limit):
    """Also where its time is over in the same moment."""

    async def scene(scene):
        watch = Watch(scene.loop)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(request(scene, watch, limit, 9))
            await asyncio.sleep(0.5)
            if limit == 1:
                scene.loop.now = scene.began + 1
            running.cancel()
        return running.cancelled(), len(watch.limits)

    assert play(scene) == (True, 0)
