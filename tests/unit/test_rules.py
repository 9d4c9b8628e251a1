"""What each failure means: the table, and the way from an error into it."""

import pytest

from verifik_async import Charge, errors
from verifik_async.rules import RULES, Resend, is_throttle, rule_of, rule_of_status

NOT_SENT, ANSWERED, MAYBE = Charge.NOT_SENT, Charge.ANSWERED, Charge.MAYBE_CHARGED

# All statuses that have a rule of their own.
STATUSES = {
    400: (errors.InvalidRequestError, ANSWERED, Resend.UNLISTED),
    401: (errors.AuthenticationError, ANSWERED, Resend.RENEWED),
    402: (errors.PaymentRequiredError, ANSWERED, Resend.NEVER),
    403: (errors.PermissionDeniedError, ANSWERED, Resend.UNLISTED),
    404: (errors.NotFoundError, ANSWERED, Resend.UNLISTED),
    409: (errors.InvalidRequestError, ANSWERED, Resend.UNLISTED),
    412: (errors.InvalidRequestError, ANSWERED, Resend.UNLISTED),
    422: (errors.InvalidRequestError, ANSWERED, Resend.UNLISTED),
    429: (errors.RateLimitedError, ANSWERED, Resend.QUEUED),
    500: (errors.ServerError, ANSWERED, Resend.LISTED),
    502: (errors.ServerError, MAYBE, Resend.LISTED),
    503: (errors.ServerError, ANSWERED, Resend.LISTED),
    504: (errors.ServerError, MAYBE, Resend.LISTED),
}
UNPAID = (errors.PaymentRequiredError, ANSWERED, Resend.NEVER)
EXPIRED = (errors.AuthenticationError, ANSWERED, Resend.RENEWED)
THROTTLE = (errors.RateLimitedError, ANSWERED, Resend.QUEUED)
ELSE = (errors.VerifikError, NOT_SENT, Resend.NEVER)


def status(kind, number, **facts):
    """Return an error of a status."""
    return kind("text", status=number, **facts)


def meaning(rule):
    """Return what a rule says about its fault."""
    return rule.error, rule.charge, rule.resend


@pytest.mark.parametrize("number", range(400, 600))
def test_statuses(number):
    """Each has one rule; those without a name share one of their hundred."""
    kind = errors.ServerError if number >= 500 else errors.APIStatusError
    other = (kind, ANSWERED, Resend.UNLISTED)
    assert meaning(rule_of_status(number)) == STATUSES.get(number, other)


def test_no_status_has_two_rules():
    """The table does not contradict itself."""
    named = sorted(number for rule in RULES for number in rule.statuses)
    assert named == sorted(STATUSES)


@pytest.mark.parametrize(
    ("kind", "charge", "resend"),
    [
        (errors.ConfigurationError, NOT_SENT, Resend.NEVER),
        (errors.ImageError, NOT_SENT, Resend.NEVER),
        (errors.QueueFullError, NOT_SENT, Resend.NEVER),
        (errors.ConnectError, NOT_SENT, Resend.YES),
        (errors.AttemptTimeoutError, NOT_SENT, Resend.YES),
        (errors.AttemptTimeoutError, MAYBE, Resend.ALLOWED),
        (errors.ConnectionLostError, NOT_SENT, Resend.YES),
        (errors.ConnectionLostError, MAYBE, Resend.ALLOWED),
        (errors.ResponseShapeError, ANSWERED, Resend.NEVER),
        (errors.ResponseTooLargeError, ANSWERED, Resend.NEVER),
        (errors.RedirectError, ANSWERED, Resend.NEVER),
    ],
)
def test_what_is_no_status(kind, charge, resend):
    """The class of the error and its charge tell the rule, that says the same."""
    rule = rule_of(kind("text", charge=charge))
    assert rule in RULES
    assert meaning(rule) == (kind, charge, resend)


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (status(errors.MissingParameterError, 409), STATUSES[409]),
        (status(errors.FaceRejectedError, 409), STATUSES[409]),
        (status(errors.PermissionDeniedError, 403), STATUSES[403]),
        (status(errors.AuthenticationError, 401), EXPIRED),
        (status(errors.AuthenticationError, 403), EXPIRED),
        (status(errors.PaymentRequiredError, 402), UNPAID),
        (status(errors.PaymentRequiredError, 403), UNPAID),
        (status(errors.PaymentRequiredError, 429), UNPAID),
        (status(errors.PaymentRequiredError, 500), UNPAID),
        (status(errors.PaymentRequiredError, 503, retry_after=1.0), UNPAID),
        (status(errors.RateLimitedError, 429), THROTTLE),
        (status(errors.ServerError, 503), STATUSES[503]),
        (status(errors.ServerError, 503, retry_after=1.0), THROTTLE),
        (status(errors.ServerError, 503, retry_after=0.0), THROTTLE),
        (status(errors.ServerError, 502, retry_after=1.0), STATUSES[502]),
    ],
    ids=lambda value: (
        f"{value!r} {vars(value)}" if isinstance(value, Exception) else ""
    ),
)
def test_words_that_split_a_status(error, found):
    """Where the class says more than the status, the class decides."""
    assert meaning(rule_of(error)) == found


@pytest.mark.parametrize("charge", [NOT_SENT, MAYBE])
def test_a_kept_connection_that_had_ended(charge):
    """It is sent again once, whatever the charge may be."""
    rule = rule_of(errors.ConnectionLostError(charge=charge), dropped=True)
    assert rule in RULES
    assert meaning(rule) == (errors.ConnectionLostError, MAYBE, Resend.ONCE)


@pytest.mark.parametrize(
    "error",
    [
        errors.ClientClosedError(),
        errors.DeadlineExceededError(),
        errors.BatchStoppedError(),
        errors.JournalError(),
        errors.ConnectionLostError(charge=ANSWERED),
    ],
    ids=repr,
)
def test_anything_else(error):
    """It is never sent again."""
    assert meaning(rule_of(error)) == ELSE


@pytest.mark.parametrize(
    ("error", "throttle"),
    [
        (status(errors.RateLimitedError, 429), True),
        (status(errors.RateLimitedError, 429, retry_after=1.0), True),
        (status(errors.ServerError, 503, retry_after=0.5), True),
        (status(errors.ServerError, 503, retry_after=0.0), True),
        (status(errors.ServerError, 503), False),
        (status(errors.ServerError, 502, retry_after=1.0), False),
        (status(errors.PermissionDeniedError, 403, retry_after=1.0), False),
        (status(errors.PaymentRequiredError, 429), False),
        (errors.ConnectError(), False),
    ],
    ids=["429", "429 asks", "503 asks", "503 0", "503", "502", "403", "unpaid", "lost"],
)
def test_throttles(error, throttle):
    """429, and 503 that asks to wait."""
    assert is_throttle(error) is throttle
