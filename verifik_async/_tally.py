"""What one search has come to so far: requests, time, and what it may have cost."""

from typing import TypeVar

import attrs

from verifik_async._types import Charge
from verifik_async.errors import VerifikError
from verifik_async.models import CallInfo

E = TypeVar("E", bound=VerifikError)


@attrs.define
class Tally:
    """Counts of one search, over all its attempts.

    Attributes:
        began: When it began, on the loop's clock.
        attempts: Requests, throttled ones apart, those without a connection included.
        free: Of these: what `RetryPolicy.attempts` does not limit.
        throttled: Requests that were throttled.
        on_wire: Whether any of them had a connection to be sent over.
        maybe_charged: Requests before the last that may have been charged.
        charge: The worst of all requests before the last.
        error: What the latest of these ended in, or None.
        queued: Seconds in the queue.
        waited: Seconds in pauses and backoff.
        status: Of the last answer, or None.
        request_bytes: Of the last request's body.
        response_bytes: Of the last answer's body.
    """

    began: float
    attempts: int = 0
    free: int = 0
    throttled: int = 0
    on_wire: bool = False
    maybe_charged: int = 0
    charge: Charge = Charge.NOT_SENT
    error: VerifikError | None = None
    queued: float = 0.0
    waited: float = 0.0
    status: int | None = None
    request_bytes: int = 0
    response_bytes: int = 0

    @property
    def sent(self) -> int:
        """Requests in all."""
        return self.attempts + self.throttled

    @property
    def counted(self) -> int:
        """Attempts that `RetryPolicy.attempts` limits."""
        return self.attempts - self.free

    def note(self, error: VerifikError) -> None:
        """Remember what a request that is not the last may have cost."""
        self.error = error
        self.charge = self.charge.worst(error.charge)
        self.maybe_charged += error.charge is Charge.MAYBE_CHARGED

    def complete(self, error: E) -> E:
        """Complete an error with what the whole search has come to."""
        error.attempts = self.attempts
        error.charge = error.charge.worst(self.charge)
        return error

    def info(self, now: float) -> CallInfo:
        """Return what users are told."""
        return CallInfo(
            attempts=self.attempts,
            throttled=self.throttled,
            maybe_charged=self.maybe_charged,
            queued_s=self.queued,
            waited_s=self.waited,
            elapsed_s=now - self.began,
            status=self.status,
            request_bytes=self.request_bytes,
            response_bytes=self.response_bytes,
        )
