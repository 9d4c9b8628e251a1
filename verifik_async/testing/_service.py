"""From a request to its answer, with all that is counted on the way."""

import asyncio
import threading
import time
import weakref
from collections.abc import Iterable, Mapping
from typing import Any

import attrs
from aiohttp import web

from . import _delivery
from ._answers import NO_JSON, TOO_LARGE, TOO_MANY, DataShape, Reply, found, refusal
from ._base64 import decode
from ._body import parse_fields, read_body
from ._capacity import TokenBucket
from ._chance import Chance, Latency
from ._faults import Fault, Kind, gzip_bomb_reply, retry_after_header
from ._gallery import Gallery
from ._recording import request_key
from ._records import RecordedRequest, RequestLog, describe_body, known_headers
from ._rules import Refusal, check_route, check_search, check_token


@attrs.frozen(kw_only=True)
class _Visit:
    """One request on its way through the service, its fate decided."""

    number: int
    fault: Fault | None
    delay: float
    request_id: str
    refused: Refusal | None
    throttled: bool
    reused: bool


class Service:
    """What answers requests; it neither listens nor accepts."""

    def __init__(
        self,
        *,
        tokens: Iterable[str] | None,
        expired_tokens: Iterable[str],
        collections: Iterable[str],
        data_shape: DataShape,
        latency: Latency,
        rate: float | None,
        burst: float | None,
        retry_after: str | float | None,
        faults: Mapping[Fault, float],
        seed: int,
        max_recorded: int,
    ) -> None:
        if data_shape not in ("array", "object"):
            raise ValueError('data_shape must be "array" or "object"')
        self.tokens = None if tokens is None else set(tokens)
        self.expired_tokens = set(expired_tokens)
        self.data_shape: DataShape = data_shape
        self.retry_after = retry_after
        self._gallery = Gallery(collections)
        self._bucket = None if rate is None else TokenBucket(rate, burst)
        self._chance = Chance(seed, faults, latency)
        self._log = RequestLog(max_recorded) if max_recorded else None
        self._replies: dict[str, Reply] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        # Weak: those of connections that ended go by themselves.
        self._transports: weakref.WeakSet[asyncio.Transport] = weakref.WeakSet()
        self._connections = 0
        self._hits = 0
        self._max_in_flight = 0
        # Between the thread that serves and those that reset it.
        self._lock = threading.Lock()

    def reset(self) -> None:
        """Forget counts, records and script; start randomness and capacity anew.

        Gallery, tokens and settings stay; requests in flight still count as such.
        """
        with self._lock:
            self._hits = 0
            self._connections = 0
            self._max_in_flight = len(self._tasks)
            self._chance.restart()
            if self._log is not None:
                self._log.clear()
            if self._bucket is not None:
                self._bucket.refill()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        task = asyncio.current_task()
        if request.transport is None or task is None:  # gone before its turn came
            return web.Response()
        self._tasks.add(task)
        try:
            with self._lock:
                visit = self._arrive(request, request.transport)
            return await self._serve(request, visit)
        finally:
            self._tasks.discard(task)

    def _arrive(self, request: web.BaseRequest, transport: asyncio.Transport) -> _Visit:
        # All is drawn here, so that a seed's sequences follow the arrivals.
        self._hits += 1
        self._max_in_flight = max(self._max_in_flight, len(self._tasks))
        fault = self._chance.next_fault()
        needs_room = fault is None or not fault.replaces_answer
        token = request.headers.get("Authorization")
        denied = check_token(token, self.tokens, self.expired_tokens, time.time())
        reused = transport in self._transports
        self._transports.add(transport)
        return _Visit(
            number=self._record(request, reused=reused, token_ok=denied is None),
            fault=fault,
            delay=self._chance.next_delay(),
            request_id=self._chance.next_id(),
            refused=check_route(request.method, request.path) or denied,
            throttled=needs_room and not self._has_room(),
            reused=reused,
        )

    def _has_room(self) -> bool:
        now = asyncio.get_running_loop().time
        return self._bucket is None or self._bucket.take(now())

    def _record(self, request: web.BaseRequest, *, reused: bool, token_ok: bool) -> int:
        if self._log is None:
            return 0
        record = RecordedRequest(
            method=request.method,
            path=request.path,
            at=asyncio.get_running_loop().time(),
            reused=reused,
            token_ok=token_ok,
            headers=known_headers(request.headers),
        )
        return self._log.add(record)

    def _amend(self, visit: _Visit, **facts: Any) -> None:
        if self._log is not None:
            with self._lock:
                self._log.amend(visit.number, **facts)

    async def _serve(
        self, request: web.BaseRequest, visit: _Visit
    ) -> web.StreamResponse:
        fault = visit.fault
        if fault is not None and fault.kind is Kind.DROP_BEFORE_BODY_READ:
            return _delivery.dropped(request, reset=True)
        if fault is not None and fault.kind is Kind.STALL_BEFORE_BODY_READ:
            await _delivery.leave_unread(request, fault.amount)
        if fault is not None and fault.before_body:
            return await self._before_body(request, visit, fault)
        try:
            body = await read_body(request)
        except web.RequestPayloadError:
            return self._send(visit, refusal(NO_JSON))
        except ConnectionError:
            return _delivery.dropped(request)
        if body is None:
            return self._send(visit, refusal(TOO_LARGE))
        return await self._serve_body(request, visit, body)

    async def _before_body(
        self, request: web.BaseRequest, visit: _Visit, fault: Fault
    ) -> web.StreamResponse:
        if fault.reply is None:
            return await _delivery.played(request, fault.steps)
        return self._send(visit, fault.reply)

    async def _serve_body(
        self, request: web.BaseRequest, visit: _Visit, body: bytes
    ) -> web.StreamResponse:
        fields = parse_fields(request.headers.get("Content-Type", ""), body)
        if fields and self._log is not None:
            self._amend(visit, **describe_body(fields))
        fault = visit.fault
        if fault is None:
            return self._send(visit, await self._answer(visit, fields))
        ended = _delivery.without_answer(request, fault, reused=visit.reused)
        if ended is not None:
            return ended
        if fault.kind is Kind.RAW:
            return await _delivery.played(request, fault.steps)
        if fault.kind is Kind.STALL:
            await _delivery.pause(fault.amount)
        if fault.kind is Kind.GZIP_BOMB:
            # Packing 100 megabytes takes a third of a second.
            reply = await asyncio.to_thread(gzip_bomb_reply, int(fault.amount))
        else:
            reply = fault.reply or await self._answer(visit, fields)
        if fault.after_headers:
            self._amend(visit, status=reply.status)
            return await _delivery.broken(request, reply, fault)
        return self._send(visit, reply)

    async def _answer(self, visit: _Visit, fields: Mapping[str, Any] | None) -> Reply:
        if visit.throttled:
            return refusal(TOO_MANY, retry_after_header(self.retry_after))
        if visit.delay:
            await asyncio.sleep(visit.delay)
        if visit.refused is not None:
            return refusal(visit.refused)
        if fields is None:
            return refusal(NO_JSON)
        # Before the rules: the service's own may be others.
        key = request_key(fields) if self._replies else None
        if key in self._replies:
            return self._replies[key]
        search = check_search(fields, self._gallery.collections)
        if isinstance(search, Refusal):
            return refusal(search)
        # Nobody enrolled, nothing to decode and compare.
        image = decode(search.image) if self._gallery else None
        matches = (
            self._gallery.search(image, search.min_score, search.collection_id)
            if image
            else []
        )
        return found(visit.request_id, matches, search, self.data_shape)

    def _send(self, visit: _Visit, reply: Reply) -> web.Response:
        self._amend(visit, status=reply.status)
        return _delivery.whole(reply)
