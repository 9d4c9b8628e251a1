"""When a search is sent again, and after how long; the only user of backoff.

Of backoff only the delay sequence is used: its decorators can't put a throttled
search back into the queue, and know no pause that all searches share.
"""

import enum
import itertools
from collections.abc import Iterator

import backoff

from verifik_async._config import RetryPolicy
from verifik_async.errors import (
    APIStatusError,
    RateLimitedError,
    ServerError,
    VerifikError,
)
from verifik_async.rules import Resend, Rule, rule_of

# Doubling has reached any `max_delay` long before.
_LAST_STEP = 64


class Verdict(enum.Enum):
    """What to do after an attempt that brought no result."""

    RAISE = "raise"
    RESEND = "resend after a delay; counts against `attempts`"
    AT_ONCE = "resend in the same slot; does not count"
    RENEW_TOKEN = "resend with another token; does not count"  # noqa: S105 - no token
    THROTTLED = "back to the queue after the pause of everyone; does not count"


def delays(policy: RetryPolicy) -> Iterator[float]:
    """Yield seconds to wait before each resend: doubling, with full jitter."""
    steps = backoff.expo(factor=policy.base_delay, max_value=policy.max_delay)
    next(steps)  # the generator yields None first
    step = 0.0
    for step in itertools.islice(steps, _LAST_STEP):
        yield backoff.full_jitter(step)
    while True:  # the generator would go on doubling what `max_delay` hides
        yield backoff.full_jitter(step)


def throttle_delay(policy: RetryPolicy, in_a_row: int) -> float:
    """Return seconds of pause after a throttle that names none, the n-th in a row."""
    step = min(in_a_row, _LAST_STEP) - 1
    return next(itertools.islice(delays(policy), step, None))


def as_rate_limited(error: VerifikError) -> VerifikError:
    """Return the error for a throttle that can't be waited out, of a 503 as well."""
    if not isinstance(error, ServerError):
        return error
    facts = {name: value for name, value in vars(error).items() if name != "message"}
    return RateLimitedError(error.message, **facts)


def judge(
    error: VerifikError,
    policy: RetryPolicy,
    *,
    attempts: int,
    renewable: bool,
    dropped: bool = False,
) -> Verdict:
    """Decide what follows an attempt that brought no result.

    Args:
        error: What it ended in; its `charge` is of this attempt alone.
        policy: The call's policy.
        attempts: Attempts so far that count, this one included.
        renewable: Whether another token can be asked for.
        dropped: Whether it met a kept connection that had ended.
    """
    rule = rule_of(error, dropped=dropped)
    if rule.resend is Resend.RENEWED:
        return Verdict.RENEW_TOKEN if renewable else Verdict.RAISE
    if rule.resend in _NOT_COUNTED:
        return _NOT_COUNTED[rule.resend]
    may = attempts < policy.attempts and _may_resend(error, rule, policy)
    return Verdict.RESEND if may else Verdict.RAISE


_NOT_COUNTED = {Resend.ONCE: Verdict.AT_ONCE, Resend.QUEUED: Verdict.THROTTLED}


def _may_resend(error: VerifikError, rule: Rule, policy: RetryPolicy) -> bool:
    if isinstance(error, APIStatusError) and rule.resend is not Resend.NEVER:
        return error.status in policy.statuses
    if rule.resend is Resend.ALLOWED:
        return policy.retry_maybe_charged
    return rule.resend is Resend.YES
