"""What one search has come to, and how it is told."""

import pytest

from verifik_async import CallInfo, Charge
from verifik_async._tally import Tally
from verifik_async.errors import ConnectError, ConnectionLostError, ServerError

ORDER = [Charge.NOT_SENT, Charge.ANSWERED, Charge.MAYBE_CHARGED]


def test_every_request_is_counted_once():
    """Throttled ones are no attempts; free attempts are not limited."""
    tally = Tally(0.0, attempts=5, free=2, throttled=3)
    assert (tally.sent, tally.counted) == (8, 3)


@pytest.mark.parametrize("before", ORDER)
@pytest.mark.parametrize("last", ORDER)
def test_the_worst_charge_wins(before, last):
    """Of the requests before the last, and of the last."""
    tally = Tally(0.0)
    tally.note(ConnectionLostError(charge=before))
    error = tally.complete(ConnectionLostError(charge=last))
    assert error.charge is max(before, last, key=ORDER.index)


def test_what_may_have_been_charged_is_counted():
    """Of the requests before the last, answered and unsent ones apart."""
    tally = Tally(0.0)
    for charge in [*ORDER, Charge.MAYBE_CHARGED]:
        tally.note(ServerError(charge=charge))
    assert tally.maybe_charged == 2


def test_a_complete_error_is_the_same_error():
    """It has the attempts of the whole search."""
    error = ConnectError("down")
    assert Tally(0.0, attempts=3).complete(error) is error
    assert (error.attempts, error.charge) == (3, Charge.NOT_SENT)


def test_what_users_are_told():
    """All facts, and the seconds from the beginning until now."""
    tally = Tally(
        100.0,
        attempts=2,
        free=1,
        throttled=3,
        maybe_charged=1,
        queued=0.5,
        waited=1.5,
        status=200,
        request_bytes=10,
        response_bytes=20,
    )
    assert tally.info(104.0) == CallInfo(
        attempts=2,
        throttled=3,
        maybe_charged=1,
        queued_s=0.5,
        waited_s=1.5,
        elapsed_s=4.0,
        status=200,
        request_bytes=10,
        response_bytes=20,
    )
