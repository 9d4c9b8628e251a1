"""When a search is sent again, and after how long."""

import itertools

import pytest

from verifik_async import errors
from verifik_async._config import RetryPolicy
from verifik_async._retry import (
    Verdict,
    as_rate_limited,
    delays,
    is_throttle,
    judge,
    throttle_delay,
)

DEFAULT = RetryPolicy()
DARING = RetryPolicy(retry_maybe_charged=True)
ONCE = RetryPolicy(attempts=1)
NO_STATUS = RetryPolicy(statuses=())


def status(kind, number, **facts):
    """Return an error of a status."""
    return kind("text", status=number, **facts)


def lost(kind, charge):
    """Return an error of a lost request."""
    return kind("lost", charge=charge)


TABLE = [
    # what it ended in, policy, verdict
    (lost(errors.ConnectError, "not_sent"), DEFAULT, Verdict.RESEND),
    (lost(errors.ConnectError, "not_sent"), ONCE, Verdict.RAISE),
    (lost(errors.ConnectionLostError, "not_sent"), DEFAULT, Verdict.RESEND),
    (lost(errors.ConnectionLostError, "maybe_charged"), DEFAULT, Verdict.RAISE),
    (lost(errors.ConnectionLostError, "maybe_charged"), DARING, Verdict.RESEND),
    (lost(errors.ConnectionLostError, "answered"), DEFAULT, Verdict.RAISE),
    (lost(errors.AttemptTimeoutError, "not_sent"), DEFAULT, Verdict.RESEND),
    (lost(errors.AttemptTimeoutError, "maybe_charged"), DEFAULT, Verdict.RAISE),
    (lost(errors.AttemptTimeoutError, "maybe_charged"), DARING, Verdict.RESEND),
    *[
        (status(errors.ServerError, number), DEFAULT, Verdict.RESEND)
        for number in (500, 502, 503, 504)
    ],
    *[
        (status(errors.ServerError, number), DEFAULT, Verdict.RAISE)
        for number in (501, 505, 520)
    ],
    (status(errors.ServerError, 500), NO_STATUS, Verdict.RAISE),
    (status(errors.ServerError, 500), ONCE, Verdict.RAISE),
    (status(errors.ServerError, 503, retry_after=1.0), NO_STATUS, Verdict.THROTTLED),
    (status(errors.ServerError, 503, retry_after=1.0), ONCE, Verdict.THROTTLED),
    (status(errors.ServerError, 500, retry_after=1.0), DEFAULT, Verdict.RESEND),
    (status(errors.RateLimitedError, 429), DEFAULT, Verdict.THROTTLED),
    (status(errors.RateLimitedError, 429), ONCE, Verdict.THROTTLED),
    (status(errors.RateLimitedError, 429, retry_after=9e9), DEFAULT, Verdict.THROTTLED),
    (status(errors.AuthenticationError, 401), DEFAULT, Verdict.RENEW_TOKEN),
    (status(errors.AuthenticationError, 403), ONCE, Verdict.RENEW_TOKEN),
    (status(errors.InvalidRequestError, 400), DARING, Verdict.RAISE),
    (status(errors.InvalidRequestError, 409), DARING, Verdict.RAISE),
    (status(errors.MissingParameterError, 409), DARING, Verdict.RAISE),
    (status(errors.FaceRejectedError, 409), DARING, Verdict.RAISE),
    (status(errors.PaymentRequiredError, 402), DARING, Verdict.RAISE),
    (status(errors.PermissionDeniedError, 403), DARING, Verdict.RAISE),
    (status(errors.NotFoundError, 404), DARING, Verdict.RAISE),
    (status(errors.APIStatusError, 408), DARING, Verdict.RAISE),
    (status(errors.APIStatusError, 423), DARING, Verdict.RAISE),
    (
        status(errors.APIStatusError, 423),
        RetryPolicy(statuses={423}),
        Verdict.RESEND,
    ),
    (errors.ResponseShapeError("odd"), DARING, Verdict.RAISE),
    (errors.ResponseTooLargeError("big"), DARING, Verdict.RAISE),
    (errors.RedirectError("there"), DARING, Verdict.RAISE),
    (errors.ImageError("gone"), DARING, Verdict.RAISE),
    (errors.ClientClosedError("closed"), DARING, Verdict.RAISE),
    (errors.DeadlineExceededError("late"), DARING, Verdict.RAISE),
]


@pytest.mark.parametrize(
    ("error", "policy", "verdict"), TABLE, ids=[f"row{n:02}" for n in range(len(TABLE))]
)
def test_verdicts(error, policy, verdict):
    """Each way that an attempt can end has its consequence."""
    assert judge(error, policy, attempts=1, renewable=True) is verdict


@pytest.mark.parametrize(("attempts", "verdict"), [(3, "RESEND"), (4, "RAISE")])
def test_attempts_come_to_an_end(attempts, verdict):
    """Four by default, the first included."""
    error = errors.ConnectError()
    found = judge(error, DEFAULT, attempts=attempts, renewable=False)
    assert found is Verdict[verdict]


def test_a_token_that_cannot_be_renewed():
    """Without another token the refusal stands."""
    error = status(errors.AuthenticationError, 401)
    found = judge(error, DEFAULT, attempts=1, renewable=False)
    assert found is Verdict.RAISE


@pytest.mark.parametrize(
    ("error", "throttle"),
    [
        (status(errors.RateLimitedError, 429), True),
        (status(errors.RateLimitedError, 429, retry_after=1.0), True),
        (status(errors.ServerError, 503, retry_after=0.5), True),
        (status(errors.ServerError, 503), False),
        (status(errors.ServerError, 502, retry_after=1.0), False),
        (status(errors.PermissionDeniedError, 403, retry_after=1.0), False),
        (status(errors.PaymentRequiredError, 429), False),
        (errors.ConnectError(), False),
    ],
    ids=["429", "429 asks", "503 asks", "503", "502", "403", "unpaid", "connect"],
)
def test_throttles(error, throttle):
    """429, and 503 that asks to wait."""
    assert is_throttle(error) is throttle


def test_a_503_that_cannot_be_waited_out():
    """It becomes a rate limit with all its facts."""
    error = errors.ServerError(
        "busy",
        status=503,
        code="ServiceUnavailable",
        reason="busy",
        detail="x",
        request_id="r",
        retry_after=500.0,
        attempts=2,
        charge="maybe_charged",
    )
    found = as_rate_limited(error)
    assert type(found) is errors.RateLimitedError
    assert vars(found) == vars(error)
    assert found.args == error.args


@pytest.mark.parametrize(
    "error", [errors.RateLimitedError(status=429), errors.ConnectError()], ids=repr
)
def test_other_errors_stay_what_they_are(error):
    """Only a 503 has to change its class."""
    assert as_rate_limited(error) is error


@pytest.mark.parametrize(
    ("policy", "bounds"),
    [
        (DEFAULT, [0.5, 1, 2, 4, 8, 16, 20, 20, 20]),
        (RetryPolicy(base_delay=3, max_delay=2), [2, 2, 2]),
        (RetryPolicy(base_delay=0, max_delay=2), [0, 0, 0]),
        (RetryPolicy(base_delay=1, max_delay=0), [0, 0, 0]),
        (RetryPolicy(base_delay=0.25, max_delay=1), [0.25, 0.5, 1, 1]),
    ],
    ids=["default", "low", "none", "capped", "short"],
)
def test_delays(policy, bounds):
    """Between zero and a bound that doubles up to the longest delay."""
    rows = [list(itertools.islice(delays(policy), len(bounds))) for _ in range(300)]
    for bound, column in zip(bounds, zip(*rows, strict=True), strict=True):
        assert min(column) >= 0
        assert max(column) <= bound
        assert max(column) >= bound * 0.9
        assert min(column) <= bound * 0.1


def test_delays_of_two_searches_differ():
    """Searches that failed together do not come back together."""
    one, two = (list(itertools.islice(delays(DEFAULT), 5)) for _ in range(2))
    assert one != two


@pytest.mark.parametrize(("in_a_row", "bound"), [(1, 0.5), (2, 1), (7, 20), (50, 20)])
def test_throttle_delays(in_a_row, bound):
    """The n-th throttle in a row waits as the n-th resend would."""
    found = [throttle_delay(DEFAULT, in_a_row) for _ in range(200)]
    assert min(found) >= 0
    assert bound * 0.9 <= max(found) <= bound


def test_delays_without_end():
    """A policy without delays goes through a storm of any length."""
    assert throttle_delay(RetryPolicy(base_delay=0.0), 2000) == 0


def test_delays_of_many_attempts():
    """A policy of many attempts without delays gets through all of them."""
    policy = RetryPolicy(attempts=2000, base_delay=0.0)
    assert set(itertools.islice(delays(policy), policy.attempts)) == {0.0}


def test_delays_of_a_long_storm():
    """Thousands of throttles in a row are no error."""
    assert 0 <= throttle_delay(DEFAULT, 5000) <= DEFAULT.max_delay
