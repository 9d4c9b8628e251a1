"""What a visitor is answered when a search ends in an error; for all web frameworks."""

import math
from typing import Any, Final

import attrs

from verifik_async import (
    AttemptTimeoutError,
    ClientClosedError,
    ClientStats,
    ConfigurationError,
    DeadlineExceededError,
    FaceRejectedError,
    ImageError,
    QueueFullError,
    RateLimitedError,
    VerifikClient,
    VerifikError,
)

# The first that fits. What is not here is the service's trouble, or ours with it.
_STATUSES: Final[tuple[tuple[tuple[type[VerifikError], ...], int], ...]] = (
    ((ImageError, FaceRejectedError), 422),  # another picture may do
    ((QueueFullError, RateLimitedError, ClientClosedError), 503),  # later may do
    ((DeadlineExceededError, AttemptTimeoutError), 504),
    ((ConfigurationError,), 500),
)
_BAD_GATEWAY: Final = 502
_LATER: Final = 503
# Seconds: a visitor shall not come back at once, nor be sent away for good.
_SOONEST, _LATEST = 1, 60


@attrs.frozen
class Answer:
    """An HTTP answer.

    Attributes:
        status: Of HTTP.
        body: A JSON object.
        headers: By name.
    """

    status: int
    body: dict[str, Any]
    headers: dict[str, str] = attrs.field(factory=dict)


def answer_for(error: VerifikError, client: VerifikClient | None) -> Answer:
    """Return what to answer in place of a search's result.

    The text of the error stays inside: it names hosts and settings, which are no
    business of a visitor's. Its class is told, and why a face was refused.

    Args:
        error: What the search ended in.
        client: That searched, to guess when a slot will be free; None: there is none.
    """
    status = next((s for kinds, s in _STATUSES if isinstance(error, kinds)), None)
    status = _BAD_GATEWAY if status is None else status
    body = {"error": type(error).__name__}
    if isinstance(error, FaceRejectedError) and error.reason:
        body["reason"] = error.reason
    if status != _LATER:
        return Answer(status, body)
    stats = ClientStats() if client is None else client.stats()
    return Answer(status, body, {"Retry-After": str(_retry_after(error, stats))})


def _retry_after(error: VerifikError, stats: ClientStats) -> int:
    """Return whole seconds: what the service said, or what the queue will take."""
    asked = getattr(error, "retry_after", None)
    turns = (stats.waiting + 1) / max(1, stats.window)
    seconds = turns * (stats.latency_p50_s or 0.0) if asked is None else asked
    return min(_LATEST, max(_SOONEST, math.ceil(seconds)))


def health(stats: ClientStats) -> dict[str, Any]:
    """Return the counts of a client as JSON, for a health route."""
    return attrs.asdict(stats)
