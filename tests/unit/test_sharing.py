"""What an event loop knows of a shared limit, decided by plain numbers."""

import pytest

from verifik_async import RateLimit
from verifik_async.integrations._sharing import Share

ALONE = RateLimit(10, burst=3)


@pytest.fixture
def share():
    return Share(ALONE, timeout=1.0)


def test_alone_the_burst_goes_at_once_and_the_rest_in_order(share):
    """As a limit of one process does it."""
    times = [share.reserve_alone(5.0) for _ in range(5)]
    assert times == pytest.approx([5.0, 5.0, 5.0, 5.1, 5.2])


def test_alone_nothing_beyond_the_burst_is_saved_up(share):
    """However long it was quiet."""
    share.reserve_alone(5.0)
    times = [share.reserve_alone(100.0) for _ in range(4)]
    assert times == pytest.approx([100.0, 100.0, 100.0, 100.1])


def test_alone_it_goes_on_after_what_was_reserved(share):
    """An outage is no reason for a burst beside permits that are still waited for."""
    share.reserved(7.0)
    assert share.reserve_alone(5.0) == pytest.approx(7.1)


def test_alone_a_pause_holds(share):
    """Nothing is reserved into it, and nothing saved up during it."""
    share.pause(8.0)
    times = [share.reserve_alone(5.0) for _ in range(2)]
    assert times == pytest.approx([8.0, 8.1])


def test_a_permit_that_was_left_is_taken_over(share):
    """The first of them first, each once."""
    share.hand_back(6.0)
    share.hand_back(5.5)
    assert [share.handed_back(5.0) for _ in range(3)] == [5.5, 6.0, None]


@pytest.mark.parametrize("pause", [None, 7.0])
def test_a_permit_that_is_over_is_not_taken_over(share, pause):
    """Whether its time has passed or a pause came over it."""
    share.hand_back(5.5)
    if pause:
        share.pause(pause)
    assert share.handed_back(5.0 if pause else 5.6) is None


def test_a_pause_comes_over_the_permits_of_its_time(share):
    """And over no later one; it is not shortened by another."""
    share.pause(8.0)
    share.pause(6.0)
    assert share.is_overtaken(7.9)
    assert not share.is_overtaken(8.0)


def test_a_pause_is_told_once(share):
    """Until it was heard, it is told again; a longer one anew."""
    share.pause(8.0)
    assert share.untold(5.0) == pytest.approx(3.0)
    share.heard(5.0, 8.0, 3.0)
    assert share.untold(5.1) == 0.0
    share.pause(9.0)
    assert share.untold(6.0) == pytest.approx(3.0)
    assert share.untold(10.0) == 0.0


def test_a_pause_of_others_is_heard(share):
    """It counts from when it was asked for: permits of after it are not overtaken."""
    share.heard(5.0, share.asked_until, 2.0)
    assert share.is_overtaken(6.9)
    assert not share.is_overtaken(7.0)
    assert share.untold(5.0) == 0.0


def test_no_pause_is_no_news(share):
    """An answer without a pause ends none, for it may be older."""
    share.pause(8.0)
    share.heard(5.0, 8.0, 0.0)
    assert share.is_overtaken(7.9)


def test_news_grow_old(share):
    """After 50 ms somebody may have asked for a pause; in an outage nobody is asked."""
    share.heard(5.0, share.asked_until, 0.0)
    assert not share.is_stale(5.04)
    assert share.is_stale(5.06)
    share.lost(5.06)
    assert not share.is_stale(5.07)


def test_one_asks_whether_it_is_back(share):
    """At its time, and the next when that one had time enough for an answer."""
    assert share.may_ask(5.0)
    assert share.lost(5.0)
    assert not share.lost(5.0)
    assert not share.may_ask(5.4)
    assert share.may_ask(5.5)
    assert not share.may_ask(5.5)
    assert share.may_ask(7.0)


def test_it_is_back(share):
    """Told once; then all ask again."""
    share.lost(5.0)
    assert share.heard(5.5, share.asked_until, 0.0)
    assert not share.heard(5.5, share.asked_until, 0.0)
    assert share.may_ask(5.5)
    assert share.may_ask(5.5)
