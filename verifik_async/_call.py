"""One search: deadline, gate, attempt, verdict, again or return.

The only place that knows this order. Errors are made where they are judged and
raised outside of any handler, so that none drags another along.
"""

import asyncio
import copy
import functools
import inspect
import logging
from collections.abc import Awaitable, Iterator
from typing import Literal, TypeVar

import attrs

from verifik_async import _observe, _retry, _wire
from verifik_async._auth import Token, TokenSource
from verifik_async._config import Limiter, Origin, RetryPolicy, Timeouts
from verifik_async._convert import Decoder
from verifik_async._deadline import CutOff, Deadline, Limit
from verifik_async._gate import Patience, Rank, Refused, Ticket
from verifik_async._images import ImageSource
from verifik_async._observe import OnAttempt, OnSearch
from verifik_async._retry import Verdict
from verifik_async._state import LoopState
from verifik_async._tally import Tally
from verifik_async._transport import BodyPayload, Received
from verifik_async._types import Charge
from verifik_async.errors import (
    APIStatusError,
    AttemptTimeoutError,
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    ImageError,
    RateLimitedError,
    RedirectError,
    ResponseShapeError,
    ResponseTooLargeError,
    ServerError,
    VerifikError,
)
from verifik_async.models import Attempt, Pause, SearchEnd, SearchResult
from verifik_async.rules import is_throttle

T = TypeVar("T")

_logger = logging.getLogger("verifik_async")

# A server that drops an idle connection does so at once; later it was at work.
_DROP_WINDOW = 1.0
# Attempts that `RetryPolicy.attempts` does not limit.
_FREE = (Verdict.AT_ONCE, Verdict.RENEW_TOKEN)
# Errors that the service itself has brought about by an answer.
_ANSWERS = (APIStatusError, ResponseShapeError, ResponseTooLargeError, RedirectError)


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
        on_search: The user's callback, or None.
    """

    source: ImageSource
    start: bytes = attrs.field(repr=False)
    timeouts: Timeouts
    retry: RetryPolicy
    tokens: TokenSource
    decoder: Decoder
    origin: Origin
    on_attempt: OnAttempt | None
    on_search: OnSearch | None


@attrs.frozen
class Company:
    """The batch that a search is part of.

    Attributes:
        began: When the batch began, on the loop's clock.
        until: When it must be over, or None.
        cut: Ends the waits of its searches, but not what is on the wire.
    """

    began: float
    until: float | None
    cut: CutOff


class Search:
    """One search on its way; used once.

    Attributes:
        tally: What it has come to.
        hopeless: Whether it failed for what would meet every other search too: the
            service wants more quiet, or is down for longer, than the policy allows.
    """

    def __init__(
        self, plan: Plan, state: LoopState, company: Company | None = None
    ) -> None:
        self._now = state.loop.time
        now = self._now()
        self.tally = Tally(now)
        self.hopeless = False
        self._plan = plan
        self._state = state
        limit = plan.timeouts.deadline
        if company is None:
            rank = Rank.SINGLE
            self._deadline = Deadline(state.loop, limit, (state.cut,))
            self._deadline.begin(now)
        else:  # the call's own time begins with its first slot
            rank = Rank.BATCH
            cuts = (state.cut, company.cut)
            self._deadline = Deadline(state.loop, limit, cuts, company.until)
        # An outage is not a new one for each search of a batch.
        came_at = now if company is None else company.began
        self._ticket = Ticket(rank, self._patience(), came_at)
        self._delays: Iterator[float] | None = None
        self._payload: BodyPayload | None = None
        self._own_charge: Charge | None = None  # of an attempt that timed out
        self._drop_forgiven = False
        self._token_renewed = False
        self._told: _observe.Told | None = None

    async def run(self) -> SearchResult:
        """Search until there is an answer, or a reason to give up.

        Raises:
            VerifikError: the reason.
        """
        state = self._state
        if self._plan.on_search is not None:
            self._told = _observe.told_of(self._plan.on_search)
        state.begin()
        try:
            outcome = await self._until_answered()
        except BaseException as error:
            state.counters.failed += 1
            self._end(error)
            raise
        finally:
            state.end()
        self._end(outcome)
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
        state, gate, ticket = self._state, self._state.gate, self._ticket
        while True:
            token = self._plan.tokens.ready or await self._first_token()
            if state.limiter is None and gate.try_enter(ticket):
                now = ticket.granted_at
            else:
                await self._wait_to_enter()
                token = self._plan.tokens.ready or token  # renewed while it waited
                now = self._now()
            self._begin(now)
            try:
                if self._told is not None:
                    _observe.tell(self._told, _observe.TAKEN)
                got = await self._attempt(token, now)
                verdict = self._judge(got)
                if verdict is Verdict.AT_ONCE:  # in its slot: it has waited its turn
                    gate.sent_again(ticket)
                    got = await self._attempt(token, self._now(), fresh=True)
                    verdict = self._judge(got)
                # Before the slot is given back: who gets it must know.
                probed = ticket.probes is not None
                self._tell_gate(got)
            finally:
                gate.leave(ticket)
                if self._told is not None:
                    _observe.tell(self._told, _observe.LEFT)
            if isinstance(got, SearchResult):
                return got
            failure = await self._prepare_again(got, verdict, token, probed=probed)
            if failure is not None:
                return self.tally.complete(failure)

    # -- waiting -----------------------------------------------------------------

    def _patience(self) -> Patience:
        """Return how long the search would wait for the service.

        What has not begun is ended by its batch, and not by a pause beyond that.
        """
        retry = self._plan.retry
        until = self._deadline.at if self._deadline.begun else None
        return Patience(until, retry.max_retry_after, retry.outage_limit)

    async def _within(self, work: Awaitable[T]) -> T:
        return await self._deadline.within(work, self.tally)

    async def _first_token(self) -> Token:
        # Bounded in a batch, too, where the search's own time has not begun.
        scope = asyncio.timeout(self._plan.timeouts.deadline)
        try:
            async with scope:
                return await self._within(self._plan.tokens.get())
        except ConfigurationError:
            self.hopeless = True  # it is missing, or can't be sent
            raise
        except TimeoutError:
            if not scope.expired():
                raise
        raise self._deadline.passed(self.tally)

    async def _wait_to_enter(self) -> None:
        """Wait for a slot and, with a limiter, for its permit."""
        gate, limiter, ticket = self._state.gate, self._state.limiter, self._ticket
        while True:
            if not gate.try_enter(ticket):
                await self._queue()
            if limiter is not None:
                await self._permit(limiter)
                if gate.recalled(ticket):  # a throttle may have come while it waited
                    continue
            return

    def _begin(self, now: float) -> None:
        """Begin, in a slot, unless there is no time left."""
        deadline = self._deadline
        if (ended := deadline.over(now, self.tally)) is not None:
            self._state.gate.take_back(self._ticket)
            try:
                raise ended
            finally:
                del ended  # no cycle with its traceback
        if not deadline.begun:
            deadline.begin(now)
            self._ticket.patience = self._patience()

    async def _permit(self, limiter: Limiter) -> None:
        began = self._now()
        try:
            await self._within(limiter.acquire())
        except BaseException:
            self._state.gate.take_back(self._ticket)
            raise
        finally:
            self.tally.queued += self._now() - began

    async def _queue(self) -> None:
        gate, began = self._state.gate, self._now()
        pause = gate.pause_left()
        try:
            refused = await self._within(gate.enter(self._ticket))
        finally:
            took = self._now() - began
            self._paused("pause", min(took, pause))
            self.tally.queued += max(0.0, took - pause)
        if refused is not None:
            raise self.tally.complete(self._refusal(refused))

    def _refusal(self, refused: Refused) -> VerifikError:
        """Return the error for a search that is not sent because of the service."""
        if refused.error is not None:
            self.hopeless = True
            error = copy.copy(refused.error)  # of another search's request
            error.charge = Charge.NOT_SENT
            return error
        asked = refused.asked or 0.0
        self.hopeless = asked > self._plan.retry.max_retry_after
        return RateLimitedError(
            f"the service asked for {asked:.1f} s of quiet, more than this call may "
            "wait",
            status=429,
            charge=Charge.NOT_SENT,
            retry_after=asked,
        )

    # -- one attempt -----------------------------------------------------------

    async def _attempt(
        self, token: Token, began: float, *, fresh: bool = False
    ) -> SearchResult | VerifikError:
        """Send once; the answer, or what it ended in with the charge of it alone."""
        plan, pool, until = self._plan, self._state.pool, self._deadline.at
        if plan.timeouts.attempt is not None:
            until = self._deadline.before(began + plan.timeouts.attempt)
        self._payload = None
        self._own_charge = None
        got: SearchResult | VerifikError | None = None
        reply: _wire.Reply | None = None
        try:
            received: Received | None = None
            with Limit(self._state.watch, until):
                self.tally.attempts += 1
                picture = await plan.source.open()
                self._payload = payload = pool.payload(plan.start, picture)
                received = await pool.send(
                    payload, token, plan.timeouts.connect, fresh=fresh
                )
            if received is None:
                got = self._timed_out(whole_call=until == self._deadline.at)
            elif isinstance(received, _wire.Reply):
                reply = received
                got = self._interpret(reply, token)
            else:
                got = received
        except ImageError as error:
            self.tally.attempts -= 1
            got = error
        finally:
            if self._payload is not None:
                self._account(self._payload, began, reply, got)
        return got

    def _timed_out(self, *, whole_call: bool) -> VerifikError:
        charge = Charge.NOT_SENT if self._payload is None else self._payload.abandon()
        self._own_charge = charge
        closed = self._state.cut.error
        if whole_call or closed is not None:
            self.tally.charge = self.tally.charge.worst(charge)
            return self._deadline.passed(self.tally) if closed is None else closed()
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
        tally = self.tally
        tally.status = reply.status
        tally.request_bytes = 0 if self._payload is None else self._payload.byte_count
        tally.response_bytes = len(reply.body)
        return _wire.interpret(
            reply,
            self._plan.decoder,
            call=tally.info(self._now()),
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
        tally, counters = self.tally, self._state.counters
        charge = Charge.ANSWERED
        if got is None:
            charge = payload.abandon()
            tally.charge = tally.charge.worst(charge)
        if not payload.begun:
            return
        tally.on_wire = True
        error = got if isinstance(got, VerifikError) else None
        throttled = error is not None and is_throttle(error)
        elapsed = self._now() - began
        sent, received = payload.byte_count, 0 if reply is None else len(reply.body)
        if throttled:
            counters.count_throttled(sent, received)
        else:
            latency = elapsed if isinstance(got, SearchResult) else None
            counters.count(sent, received, latency, resent=tally.attempts > 1)
        if not _observe.wants_attempts(self._plan.on_attempt, self._told):
            return
        if error is not None:
            charge = self._own_charge or error.charge
        attempt = Attempt(
            number=tally.sent,
            status=getattr(error, "status", None) if reply is None else reply.status,
            error=None if error is None else type(error).__name__,
            charge=charge,
            throttled=throttled,
            elapsed_s=elapsed,
            request_bytes=sent,
            response_bytes=received,
        )
        _observe.report(attempt, self._plan.on_attempt, self._told)

    # -- between attempts ------------------------------------------------------

    def _judge(self, error: SearchResult | VerifikError) -> Verdict:
        """Decide what follows; still in the slot. Of no meaning for a result."""
        if isinstance(error, SearchResult):
            return Verdict.RAISE
        dropped, probes = self._is_drop(error), self._ticket.probes is not None
        verdict = _retry.judge(
            error,
            self._plan.retry,
            attempts=self.tally.counted - probes,
            renewable=self._plan.tokens.renewable and not self._token_renewed,
            dropped=dropped,
        )
        if verdict is not Verdict.RAISE:
            self.tally.note(error)
        self._drop_forgiven |= dropped
        self.tally.free += verdict in _FREE or (probes and verdict is Verdict.RESEND)
        return verdict

    def _is_drop(self, error: VerifikError) -> bool:
        """Whether an idle connection had ended before the request came over it."""
        payload = self._payload
        if self._drop_forgiven or payload is None or not payload.reused:
            return False
        if not isinstance(error, ConnectionLostError) or not payload.dropped:
            return False
        written_at = payload.written_at
        return written_at is None or self._now() - written_at <= _DROP_WINDOW

    def _tell_gate(self, error: SearchResult | VerifikError) -> None:
        """Tell the gate what a request ended in: others wait for that."""
        gate, ticket, retry = self._state.gate, self._ticket, self._plan.retry
        if isinstance(error, SearchResult):
            gate.answered(ticket)
        elif is_throttle(error):
            asked = error.retry_after if isinstance(error, APIStatusError) else None
            backoff = functools.partial(_retry.throttle_delay, retry)
            gate.throttled(ticket, error, asked, backoff)
        elif isinstance(error, ConnectError | ServerError):
            if gate.failed(ticket, error, functools.partial(_retry.delays, retry)):
                _logger.warning(
                    "the service fails (%s): from now on one search at a time is sent, "
                    "until one is answered",
                    type(error).__name__,
                )
        elif isinstance(error, _ANSWERS):
            gate.answered(ticket)
        elif not isinstance(error, ImageError | ConfigurationError):
            gate.lost(ticket)

    async def _prepare_again(
        self, error: VerifikError, verdict: Verdict, token: Token, *, probed: bool
    ) -> VerifikError | None:
        """Do what must be done before the search is sent again; else why it is not."""
        match verdict:
            case Verdict.THROTTLED:
                return await self._throttle(error)
            case Verdict.RENEW_TOKEN:
                return await self._renew_token(error, token)
            case Verdict.RESEND:
                # The gate sees to the delays of an outage.
                return None if probed else await self._back_off(error)
            case _:
                return error

    async def _throttle(self, error: VerifikError) -> VerifikError | None:
        """Go back to the queue, unless that is in vain; everybody is paused by now."""
        self.tally.attempts -= 1
        self.tally.throttled += 1
        now, gate, retry = self._now(), self._state.gate, self._plan.retry
        if self._state.limiter is not None:
            told = self._state.limiter.pause(gate.pause_left())
            if inspect.isawaitable(told):
                await self._within(told)
        asked = error.retry_after if isinstance(error, APIStatusError) else None
        if asked and not self._ticket.patience.outlasts(now, now + asked):
            self.hopeless = asked > retry.max_retry_after
            return _retry.as_rate_limited(error)
        if self._deadline.at is None and gate.endless(self._ticket):
            self.hopeless = True
            return _retry.as_rate_limited(error)
        return None

    async def _renew_token(
        self, error: VerifikError, token: Token
    ) -> VerifikError | None:
        try:
            renewed = await self._within(self._plan.tokens.renew(token))
        except ConfigurationError as unfit:  # all who wait for the token get this one
            return copy.copy(unfit)
        if renewed.reveal() == token.reveal():
            return error
        self._token_renewed = True
        return None

    async def _back_off(self, error: VerifikError) -> VerifikError | None:
        if self._delays is None:
            self._delays = _retry.delays(self._plan.retry)
        delay, began = next(self._delays), self._now()
        if self._deadline.at is not None and began + delay >= self._deadline.at:
            return error  # the wait would be in vain
        _logger.info(
            "search is sent again after %s attempts=%d delay_s=%.2f",
            type(error).__name__,
            self.tally.attempts,
            delay,
        )
        try:
            await self._within(asyncio.sleep(delay))
        finally:
            self._paused("backoff", self._now() - began)
        return None

    # -- who is told -------------------------------------------------------------

    def _paused(self, reason: Literal["pause", "backoff"], seconds: float) -> None:
        self.tally.waited += seconds
        if self._told is not None and seconds > 0:
            _observe.tell(self._told, Pause(reason=reason, seconds=seconds))

    def _end(self, outcome: SearchResult | BaseException) -> None:
        """Tell how the search has ended."""
        if self._told is None:
            return
        call = self.tally.info(self._now())
        if isinstance(outcome, SearchResult):
            end = SearchEnd(call=call, matches=len(outcome.matches))
        else:
            charge = self.tally.charge
            if isinstance(outcome, VerifikError):
                charge = outcome.charge
            end = SearchEnd(call=call, charge=charge, error=type(outcome).__name__)
        _observe.tell(self._told, end)
