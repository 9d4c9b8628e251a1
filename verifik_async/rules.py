"""What each failure means: its error, its charge, and whether the search is sent again.

`RULES` is what the client decides by, and what `docs/retries.md` is made from.
"""

import enum

import attrs

from verifik_async._types import Charge
from verifik_async.errors import (
    APIStatusError,
    AttemptTimeoutError,
    AuthenticationError,
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    ImageError,
    InvalidRequestError,
    NotFoundError,
    PaymentRequiredError,
    PermissionDeniedError,
    QueueFullError,
    RateLimitedError,
    RedirectError,
    ResponseShapeError,
    ResponseTooLargeError,
    ServerError,
    VerifikError,
)

__all__ = ["RULES", "Resend", "Rule", "is_throttle", "rule_of", "rule_of_status"]


class Resend(enum.StrEnum):
    """Whether a search is sent again; the values are the words of the documents."""

    NEVER = "never"
    YES = "yes"
    LISTED = "yes: `statuses` lists it"
    UNLISTED = "no, unless `statuses` lists it"
    ALLOWED = "only with `retry_maybe_charged=True`"
    ONCE = "once, at once, not counted"
    RENEWED = "once with another token, if `token` is a callable; not counted"
    QUEUED = "from the queue, after the pause of everyone; not counted"


@attrs.frozen
class Rule:
    """One row of the table.

    Attributes:
        fault: What happened.
        error: The class of the error that the search ends in, if it does.
        charge: What the request may have cost.
        resend: Whether the search is sent again, by default.
        statuses: HTTP statuses that it is about; empty where it is about none, or
            about all that no other rule names.
    """

    fault: str
    error: type[VerifikError]
    charge: Charge
    resend: Resend
    statuses: frozenset[int] = frozenset()


_NOT_SENT, _ANSWERED, _MAYBE = Charge.NOT_SENT, Charge.ANSWERED, Charge.MAYBE_CHARGED


def _status(
    statuses: set[int],
    error: type[VerifikError],
    resend: Resend,
    charge: Charge = _ANSWERED,
) -> Rule:
    text = ", ".join(map(str, sorted(statuses)))
    return Rule(text, error, charge, resend, frozenset(statuses))


_ARGUMENT = Rule(
    "an argument or a setting is wrong", ConfigurationError, _NOT_SENT, Resend.NEVER
)
_IMAGE = Rule("the picture is unusable", ImageError, _NOT_SENT, Resend.NEVER)
_FULL = Rule("`max_waiting` searches wait", QueueFullError, _NOT_SENT, Resend.NEVER)
_UNCONNECTED = Rule(
    "no connection: refused, unreachable, TLS failed, `connect` ran out",
    ConnectError,
    _NOT_SENT,
    Resend.YES,
)
_SLOW_UPLOAD = Rule(
    "`attempt` ran out before the last byte of the request was written",
    AttemptTimeoutError,
    _NOT_SENT,
    Resend.YES,
)
_SLOW_ANSWER = Rule(
    "`attempt` ran out after that", AttemptTimeoutError, _MAYBE, Resend.ALLOWED
)
_DROPPED = Rule(
    "a kept connection had ended: no byte of an answer, within 1 s of the last byte",
    ConnectionLostError,
    _MAYBE,
    Resend.ONCE,
)
_LOST_UPLOAD = Rule(
    "the connection broke before the last byte of the request was written",
    ConnectionLostError,
    _NOT_SENT,
    Resend.YES,
)
_LOST_ANSWER = Rule(
    "the connection broke after that, or brought what is no HTTP answer",
    ConnectionLostError,
    _MAYBE,
    Resend.ALLOWED,
)
_STRANGE = Rule(
    "2xx that cannot be understood", ResponseShapeError, _ANSWERED, Resend.NEVER
)
_HUGE = Rule(
    "2xx larger than `max_response_bytes`",
    ResponseTooLargeError,
    _ANSWERED,
    Resend.NEVER,
)
_REDIRECT = Rule("3xx", RedirectError, _ANSWERED, Resend.NEVER)
_EXPIRED = Rule(
    "401, and 403 that says that the token has expired",
    AuthenticationError,
    _ANSWERED,
    Resend.RENEWED,
    frozenset({401}),
)
_UNPAID = Rule(
    "402, and other statuses that say so",
    PaymentRequiredError,
    _ANSWERED,
    Resend.NEVER,
    frozenset({402}),
)
_THROTTLED = Rule(
    "429, and 503 with `Retry-After`",
    RateLimitedError,
    _ANSWERED,
    Resend.QUEUED,
    frozenset({429}),
)
_OTHER_5XX = Rule("other 5xx", ServerError, _ANSWERED, Resend.UNLISTED)
_OTHER = Rule("other statuses", APIStatusError, _ANSWERED, Resend.UNLISTED)

RULES: tuple[Rule, ...] = (
    _ARGUMENT,
    _IMAGE,
    _FULL,
    _UNCONNECTED,
    _SLOW_UPLOAD,
    _LOST_UPLOAD,
    _DROPPED,
    _LOST_ANSWER,
    _SLOW_ANSWER,
    _STRANGE,
    _HUGE,
    _REDIRECT,
    _status({400, 409, 412, 422}, InvalidRequestError, Resend.UNLISTED),
    _EXPIRED,
    _UNPAID,
    _status({403}, PermissionDeniedError, Resend.UNLISTED),
    _status({404}, NotFoundError, Resend.UNLISTED),
    _THROTTLED,
    _status({500, 503}, ServerError, Resend.LISTED),
    # They come from a proxy: what stands behind it may have done the work.
    _status({502, 504}, ServerError, Resend.LISTED, _MAYBE),
    _OTHER_5XX,
    _OTHER,
)
_BY_STATUS = {status: rule for rule in RULES for status in rule.statuses}
_BY_FAULT = {
    (rule.error, rule.charge): rule
    for rule in RULES
    if not issubclass(rule.error, APIStatusError) and rule is not _DROPPED
}
_ELSE = Rule("anything else", VerifikError, _NOT_SENT, Resend.NEVER)
_SERVER_ERRORS = 500
_UNAVAILABLE = 503


def rule_of_status(status: int) -> Rule:
    """Return the rule for an HTTP status from 400 on, its words apart."""
    other = _OTHER_5XX if status >= _SERVER_ERRORS else _OTHER
    return _BY_STATUS.get(status, other)


def is_throttle(error: VerifikError) -> bool:
    """Whether the service asks everybody to slow down: 429, 503 with Retry-After."""
    if isinstance(error, RateLimitedError):
        return True
    return (
        isinstance(error, ServerError)
        and error.status == _UNAVAILABLE
        and error.retry_after is not None
    )


def rule_of(error: VerifikError, *, dropped: bool = False) -> Rule:
    """Return the rule for what one request ended in.

    Args:
        error: Its error, with the charge of this one request.
        dropped: Whether it met a kept connection that had ended.
    """
    if dropped:
        return _DROPPED
    if not isinstance(error, APIStatusError):
        return _BY_FAULT.get((type(error), error.charge), _ELSE)
    if is_throttle(error):
        return _THROTTLED
    if isinstance(error, AuthenticationError):
        return _EXPIRED
    if isinstance(error, PaymentRequiredError):
        return _UNPAID
    return rule_of_status(error.status)
