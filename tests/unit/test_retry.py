"""When a search is sent again, and after how long."""

import itertools

import pytest

from verifik_async import errors
from verifik_async._config import RetryPolicy
from verifik_async._retry import (
    Verdict,
    as_rate_limited,
    delays,
    judge,
    throttle_delay,
)
from verifik_async.rules import RULES, rule_of

DEFAULT = RetryPolicy()
DARING = RetryPolicy(retry_maybe_charged=True)
ONCE = RetryPolicy(attempts=1)
NO_STATUS = RetryPolicy(statuses=())
LISTED = RetryPolicy(statuses={402, 403, 404, 409, 423, 429, 520})


def status(kind, number, **facts):
    """Return an error of a status."""
    return kind("text", status=number, **facts)


def lost(kind, charge):
    """Return an error of a lost request."""
    return kind("lost", charge=charge)


# A kept connection had ended.
DROP = lost(errors.ConnectionLostError, "maybe_charged")
TABLE = [
    # what it ended in, policy, verdict
    (errors.ConfigurationError(), DARING, Verdict.RAISE),
    (errors.ImageError("gone"), DARING, Verdict.RAISE),
    (errors.QueueFullError(), DARING, Verdict.RAISE),
    (lost(errors.ConnectError, "not_sent"), DEFAULT, Verdict.RESEND),
    (lost(errors.ConnectError, "not_sent"), ONCE, Verdict.RAISE),
    (lost(errors.ConnectionLostError, "not_sent"), DEFAULT, Verdict.RESEND),
    (lost(errors.ConnectionLostError, "maybe_charged"), DEFAULT, Verdict.RAISE),
    (lost(errors.ConnectionLostError, "maybe_charged"), DARING, Verdict.RESEND),
    (lost(errors.ConnectionLostError, "answered"), DARING, Verdict.RAISE),
    (DROP, ONCE, Verdict.AT_ONCE),
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
    *[
        (status(errors.ServerError, number), NO_STATUS, Verdict.RAISE)
        for number in (500, 502)
    ],
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
    (status(errors.PaymentRequiredError, 500), DARING, Verdict.RAISE),
    (status(errors.PermissionDeniedError, 403), DARING, Verdict.RAISE),
    (status(errors.NotFoundError, 404), DARING, Verdict.RAISE),
    (status(errors.APIStatusError, 408), DARING, Verdict.RAISE),
    (status(errors.APIStatusError, 423), DARING, Verdict.RAISE),
    # Statuses that the policy lists are sent again, and what is no status is not.
    (status(errors.APIStatusError, 423), LISTED, Verdict.RESEND),
    (status(errors.InvalidRequestError, 409), LISTED, Verdict.RESEND),
    (status(errors.PermissionDeniedError, 403), LISTED, Verdict.RESEND),
    (status(errors.NotFoundError, 404), LISTED, Verdict.RESEND),
    (status(errors.ServerError, 520), LISTED, Verdict.RESEND),
    (status(errors.ServerError, 500), LISTED, Verdict.RAISE),
    (status(errors.PaymentRequiredError, 403), LISTED, Verdict.RAISE),
    (status(errors.RateLimitedError, 429), LISTED, Verdict.THROTTLED),
    (status(errors.AuthenticationError, 403), LISTED, Verdict.RENEW_TOKEN),
    (errors.ResponseShapeError("odd"), DARING, Verdict.RAISE),
    (errors.ResponseTooLargeError("big"), DARING, Verdict.RAISE),
    (errors.RedirectError("there"), DARING, Verdict.RAISE),
    (errors.ClientClosedError("closed"), DARING, Verdict.RAISE),
    (errors.DeadlineExceededError("late"), DARING, Verdict.RAISE),
]


def verdict_of(error, policy, *, attempts=1, renewable=True):
    """Return what follows an error; one of the table's met an ended connection."""
    dropped = error is DROP
    return judge(error, policy, attempts=attempts, renewable=renewable, dropped=dropped)


@pytest.mark.parametrize(
    ("error", "policy", "verdict"), TABLE, ids=[f"row{n:02}" for n in range(len(TABLE))]
)
def test_verdicts(error, policy, verdict):
    """Each way that an attempt can end has its consequence."""
    assert verdict_of(error, policy) is verdict


def test_every_rule_has_a_verdict():
    """The table above leaves out no row of the public one."""
    covered = {rule_of(error, dropped=error is DROP) for error, _, _ in TABLE}
    assert set(RULES) <= covered


@pytest.mark.parametrize(("attempts", "verdict"), [(3, "RESEND"), (4, "RAISE")])
def test_attempts_come_to_an_end(attempts, verdict):
    """Four by default, the first included."""
    found = verdict_of(errors.ConnectError(), DEFAULT, attempts=attempts)
    assert found is Verdict[verdict]


@pytest.mark.parametrize("policy", [DEFAULT, RetryPolicy(statuses={401})])
def test_a_token_that_cannot_be_renewed(policy):
    """Without another token the refusal stands, whatever the policy lists."""
    error = status(errors.AuthenticationError, 401)
    assert verdict_of(error, policy, renewable=False) is Verdict.RAISE


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
