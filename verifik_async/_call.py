"""One search: deadline, gate, attempt, verdict, again or return.

The only place that knows this order. Errors are made where they are judged and
raised outside of any handler, so that none drags another along.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import attrs

from verifik_async import _retry, _wire
from verifik_async._auth import Token, TokenSource
from verifik_async._config import Origin, RetryPolicy, Timeouts
from verifik_async._convert import Decoder
from verifik_async._gate import Patience
from verifik_async._images import ImageSource
from verifik_async._retry import Verdict
from verifik_async._state import LoopState, closed_error
from verifik_async._transport import BodyPayload
from verifik_async._types import Charge
from verifik_async.errors import (
    APIStatusError,
    AttemptTimeoutError,
    ConnectionLostError,
    DeadlineExceededError,
    ImageError,
    RateLimitedError,
    VerifikError,
)
from verifik_async.models import Attempt, CallInfo, SearchResult

T = TypeVar("T")
E = TypeVar("E", bound=VerifikError)

_logger = logging.getLogger("verifik_async")

# A server that drops an idle connection does so at once; later it was at work.
_DROP_WINDOW = 1.0


@attrs.define(kw_only=True)
class Plan:
    """Everything that one search needs to know.

    Attributes:
        source: The picture.
        start: The body up to the picture.
        timeouts: Of this call.
        retry: Of this call.
        tokens: Where the token comes from.
        decoder: Of the client.
        origin: Of the client.
        on_attempt: The user's callback, or None.
    """

    source: ImageSource
    start: bytes = attrs.field(repr=False)
    timeouts: Timeouts
    retry: RetryPolicy
    tokens: TokenSource
    decoder: Decoder
    origin: Origin
    on_attempt: Callable[[Attempt], object] | None


class Search:
    """One search on its way; used once."""

    def __init__(self, plan: Plan, state: LoopState) -> None:
        self._plan = plan
        self._state = state
        self._began = state.loop.time()
        limit = plan.timeouts.deadline
        self._deadline = None if limit is None else self._began + limit
        self._patience = Patience(self._deadline, plan.retry.max_retry_after)
        self._delays: Iterator[float] | None = None
        self._payload: BodyPayload | None = None
        self._charge = Charge.NOT_SENT
        self._own_charge: Charge | None = None  # of an attempt that timed out
        self._last_status: int | None = None
        self._attempts = 0
        self._uncounted = 0  # attempts that `RetryPolicy.attempts` does not limit
        self._throttled = 0
        self._throttled_since: float | None = None
        self._maybe_charged = 0
        self._queued = 0.0
        self._waited = 0.0
        self._drop_forgiven = False
        self._token_renewed = False

    async def run(self) -> SearchResult:
        """Search until there is an answer, or a reason to give up.

        Raises:
            VerifikError: the reason.
        """
        state = self._state
        state.begin()
        try:
            outcome = await self._until_answered()
        except BaseException:
            state.counters.failed += 1
            raise
        finally:
            state.end()
        if isinstance(outcome, SearchResult):
            state.counters.answered += 1
            return outcome
        state.counters.failed += 1
        try:
            raise outcome
        finally:
            # Its traceback holds this frame: together they would hold the picture
            # until the garbage collector comes by.
            del outcome

    async def _until_answered(self) -> SearchResult | VerifikError:
        """Send until there is an answer; errors of the wire are returned."""
        while True:
            token = self._plan.tokens.ready
            if token is None:
                token = await self._within(self._plan.tokens.get())
            await self._enter()
            sent_at = self._now()
            try:
                got = await self._attempt(token)
                if isinstance(got, VerifikError) and self._is_drop(got):
                    self._forgive_drop(got)  # in its slot: it has waited its turn
                    got = await self._attempt(token)
            finally:
                self._state.gate.leave()
            if isinstance(got, SearchResult):
                return got
            failure = await self._prepare_again(got, token, sent_at)
            if failure is not None:
                return self._failed(failure)

    # -- waiting ---------------------------------------------------------------

    def _now(self) -> float:
        return self._state.loop.time()

    async def _within(self, work: Awaitable[T]) -> T:
        """Await something within the deadline.

        Raises:
            DeadlineExceededError: it took longer.
            ClientClosedError: the client was closed meanwhile.
        """
        scope = asyncio.timeout_at(self._deadline)
        try:
            async with scope:
                self._watch(scope)
                return await work
        except TimeoutError:
            if not scope.expired():
                raise
        finally:
            self._state.scopes.discard(scope)
        raise self._out_of_time()

    def _watch(self, scope: asyncio.Timeout) -> None:
        """Let the closing client end this wait."""
        self._state.scopes.add(scope)
        if self._state.cut_off:
            scope.reschedule(self._now())

    def _out_of_time(self) -> VerifikError:
        if self._state.cut_off:
            return self._failed(closed_error())
        last = f", last status {self._last_status}" if self._last_status else ""
        return self._failed(
            DeadlineExceededError(
                f"no answer within the deadline of {self._plan.timeouts.deadline:g} s"
                f" ({self._attempts} attempts, {self._throttled} throttled{last})",
                last_status=self._last_status,
            )
        )

    async def _enter(self) -> None:
        """Wait for a slot and, with a limiter, for its permit."""
        gate, limiter = self._state.gate, self._state.limiter
        again = self._attempts + self._throttled > 0
        while True:
            if not gate.try_enter(self._patience):
                await self._queue(again=again)
            if limiter is None:
                return
            began = self._now()
            try:
                await self._within(limiter.acquire())
            except BaseException:
                gate.leave()
                raise
            finally:
                self._queued += self._now() - began
            if not gate.paused:  # a throttle may have come while it waited
                return
            gate.leave()
            again = True

    async def _queue(self, *, again: bool) -> None:
        gate, began = self._state.gate, self._now()
        pause = gate.pause_left()
        try:
            granted = await self._within(gate.enter(self._patience, again=again))
        finally:
            took = self._now() - began
            self._waited += min(took, pause)
            self._queued += max(0.0, took - pause)
        if not granted:
            asked = gate.asked_pause()
            raise self._failed(
                RateLimitedError(
                    f"the service asked for {asked:.1f} s of quiet, more than this "
                    "call may wait",
                    status=429,
                    charge=Charge.NOT_SENT,
                    retry_after=asked,
                )
            )

    async def _sleep(self, seconds: float) -> None:
        began = self._now()
        try:
            await self._within(asyncio.sleep(seconds))
        finally:
            self._waited += self._now() - began

    # -- one attempt -----------------------------------------------------------

    async def _attempt(self, token: Token) -> SearchResult | VerifikError:
        """Send once; the answer, or what it ended in with the charge of it alone."""
        began = self._now()
        self._payload = None
        self._own_charge = None
        got: SearchResult | VerifikError | None = None
        reply: _wire.Reply | None = None
        try:
            received = await self._receive(token, began)
            if isinstance(received, _wire.Reply):
                reply = received
                got = self._interpret(reply, token)
            else:
                got = received
        finally:
            if self._payload is not None:
                self._account(self._payload, began, reply, got)
        return got

    async def _receive(self, token: Token, began: float) -> _wire.Reply | VerifikError:
        """Send once, within the time of an attempt and of the call."""
        timeouts, pool = self._plan.timeouts, self._state.pool
        until = self._deadline
        if timeouts.attempt is not None:
            end = began + timeouts.attempt
            until = end if until is None else min(until, end)
        scope = asyncio.timeout_at(until)
        try:
            async with scope:
                self._watch(scope)
                self._attempts += 1
                picture = await self._plan.source.open()
                self._payload = pool.payload(self._plan.start, picture)
                return await pool.send(self._payload, token, timeouts.connect)
        except ImageError as error:
            self._attempts -= 1
            return error
        except TimeoutError:
            if not scope.expired():
                raise
        finally:
            self._state.scopes.discard(scope)
        return self._timed_out(whole_call=until == self._deadline)

    def _timed_out(self, *, whole_call: bool) -> VerifikError:
        charge = Charge.NOT_SENT if self._payload is None else self._payload.abandon()
        self._own_charge = charge
        if whole_call or self._state.cut_off:
            self._charge = self._charge.worst(charge)
            return self._out_of_time()
        origin = self._plan.origin
        return AttemptTimeoutError(
            f"no answer from {origin.host}:{origin.port} within "
            f"{self._plan.timeouts.attempt:g} s",
            charge=charge,
            host=origin.host,
            port=origin.port,
        )

    def _interpret(
        self, reply: _wire.Reply, token: Token
    ) -> SearchResult | VerifikError:
        self._last_status = reply.status
        call = CallInfo(
            attempts=self._attempts,
            throttled=self._throttled,
            maybe_charged=self._maybe_charged,
            queued_s=self._queued,
            waited_s=self._waited,
            elapsed_s=self._now() - self._began,
            status=reply.status,
            request_bytes=0 if self._payload is None else self._payload.byte_count,
            response_bytes=len(reply.body),
        )
        return _wire.interpret(
            reply,
            self._plan.decoder,
            call=call,
            origin=self._plan.origin.text,
            secret=token,
        )

    def _account(
        self,
        payload: BodyPayload,
        began: float,
        reply: _wire.Reply | None,
        got: SearchResult | VerifikError | None,
    ) -> None:
        """Count a request, unless it never had a connection; None: cancelled."""
        charge = payload.abandon() if got is None else Charge.ANSWERED
        if not payload.begun:
            return
        error = got if isinstance(got, VerifikError) else None
        if error is not None:
            charge = self._own_charge or error.charge
        attempt = Attempt(
            number=self._attempts + self._throttled,
            status=getattr(error, "status", None) if reply is None else reply.status,
            error=None if error is None else type(error).__name__,
            charge=charge,
            throttled=error is not None and _retry.is_throttle(error),
            elapsed_s=self._now() - began,
            request_bytes=payload.byte_count,
            response_bytes=0 if reply is None else len(reply.body),
        )
        self._state.counters.count(attempt, resent=self._attempts > 1)
        if reply is not None and not attempt.throttled:
            self._state.gate.answered()
        if _logger.isEnabledFor(logging.DEBUG):
            _log(attempt)
        if self._plan.on_attempt is not None:
            _tell(self._plan.on_attempt, attempt)

    # -- between attempts ------------------------------------------------------

    async def _prepare_again(
        self, error: VerifikError, token: Token, sent_at: float
    ) -> VerifikError | None:
        """Do what must be done before the search is sent again; else why it is not."""
        verdict = _retry.judge(
            error,
            self._plan.retry,
            attempts=self._attempts - self._uncounted,
            renewable=self._plan.tokens.renewable and not self._token_renewed,
        )
        if verdict is Verdict.RAISE:
            return error
        self._note(error)
        if verdict is Verdict.THROTTLED:
            return self._throttle(error, sent_at)
        if verdict is Verdict.RENEW_TOKEN:
            return await self._renew_token(error, token)
        return await self._back_off(error)

    def _note(self, error: VerifikError) -> None:
        """Remember what an attempt that is not the last may have cost."""
        self._charge = self._charge.worst(error.charge)
        self._maybe_charged += error.charge is Charge.MAYBE_CHARGED

    def _forgive_drop(self, error: VerifikError) -> None:
        self._note(error)
        self._drop_forgiven = True
        self._uncounted += 1

    def _is_drop(self, error: VerifikError) -> bool:
        """Whether an idle connection had ended before the request came over it."""
        payload = self._payload
        if self._drop_forgiven or payload is None or not payload.reused:
            return False
        if not isinstance(error, ConnectionLostError) or not payload.dropped:
            return False
        written_at = payload.written_at
        return written_at is None or self._now() - written_at <= _DROP_WINDOW

    def _throttle(self, error: VerifikError, sent_at: float) -> VerifikError | None:
        """Pause everybody once, and go back to the queue."""
        self._attempts -= 1
        self._throttled += 1
        gate, retry = self._state.gate, self._plan.retry
        asked = error.retry_after if isinstance(error, APIStatusError) else None
        if asked:
            gate.pause(asked, asked=True)
            if not self._patience.outlasts(self._now(), self._now() + asked):
                return _retry.as_rate_limited(error)
        elif gate.throttled(sent_at):
            gate.pause(_retry.throttle_delay(retry, gate.throttles_in_a_row))
        if self._state.limiter is not None:
            self._state.limiter.pause(gate.pause_left())
        if self._throttled_since is None:
            self._throttled_since = self._now()
        lasted = self._now() - self._throttled_since
        endless = self._deadline is None and lasted > retry.outage_limit
        return error if endless else None

    async def _renew_token(
        self, error: VerifikError, token: Token
    ) -> VerifikError | None:
        renewed = await self._within(self._plan.tokens.renew(token))
        if renewed.reveal() == token.reveal():
            return error
        self._token_renewed = True
        self._uncounted += 1
        return None

    async def _back_off(self, error: VerifikError) -> VerifikError | None:
        if self._delays is None:
            self._delays = _retry.delays(self._plan.retry)
        delay = next(self._delays)
        if self._deadline is not None and self._now() + delay >= self._deadline:
            return error  # the wait would be in vain
        _logger.info(
            "search is sent again after %s attempts=%d delay_s=%.2f",
            type(error).__name__,
            self._attempts,
            delay,
        )
        await self._sleep(delay)
        return None

    def _failed(self, error: E) -> E:
        """Complete an error with what the whole search has come to."""
        error.attempts = self._attempts
        error.charge = error.charge.worst(self._charge)
        return error


def _log(attempt: Attempt) -> None:
    _logger.debug(
        "POST %s status=%s error=%s ms=%.1f sent=%d received=%d",
        _wire.SEARCH_PATH,
        attempt.status,
        attempt.error,
        attempt.elapsed_s * 1000,
        attempt.request_bytes,
        attempt.response_bytes,
    )


def _tell(callback: Callable[[Attempt], object], attempt: Attempt) -> None:
    try:
        callback(attempt)
    except Exception as error:  # noqa: BLE001 - a paid answer is worth more
        _logger.warning("on_attempt raised %s; it is ignored", type(error).__name__)
