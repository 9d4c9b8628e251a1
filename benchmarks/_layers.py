"""The client's layers as rivals: each does what the one before does, and more.

What a layer costs is the difference. They are made of the client's own parts.
"""

import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

import attrs

from verifik_async import _wire
from verifik_async._call import Plan, Search
from verifik_async._deadline import Limit
from verifik_async._gate import Patience, Rank, Ticket
from verifik_async._images import BytesPicture
from verifik_async._state import LoopState
from verifik_async._types import Masked
from verifik_async.models import CallInfo

from ._job import Job, UnansweredError, check_reply
from ._rivals import Rival, Turn, check_result, open_client, pull

_SECONDS = 60.0


@attrs.frozen
class _Client:
    """The parts of an open client, and what all its searches have in common."""

    state: LoopState
    plan: Plan
    picture: BytesPicture


_Layer: TypeAlias = Callable[[_Client], Awaitable[None]]


async def _transport(client: _Client) -> _wire.Reply:
    plan, pool = client.plan, client.state.pool
    token = plan.tokens.ready
    if token is None:
        raise UnansweredError("there is no token")
    payload = pool.payload(plan.start, client.picture)
    reply = await pool.send(payload, token, plan.timeouts.connect)
    if not isinstance(reply, _wire.Reply):
        raise UnansweredError(type(reply).__name__)
    return reply


async def _sent(client: _Client) -> None:
    reply = await _transport(client)
    check_reply(reply.status, reply.body)


async def _decoded(client: _Client) -> None:
    reply = await _transport(client)
    check_result(client.plan.decoder.decode(reply.body, CallInfo()))


async def _limited(client: _Client) -> None:
    with Limit(client.state.watch, client.state.loop.time() + _SECONDS):
        await _decoded(client)


async def _gated(client: _Client) -> None:
    gate, now = client.state.gate, client.state.loop.time()
    ticket = Ticket(Rank.SINGLE, Patience(now + _SECONDS, _SECONDS), now)
    if not gate.try_enter(ticket):
        raise UnansweredError("no slot was free")
    try:
        await _limited(client)
        gate.answered(ticket)
    finally:
        gate.leave(ticket)


async def _searched(client: _Client) -> None:
    check_result(await Search(client.plan, client.state).run())


@contextlib.asynccontextmanager
async def _open(layer: _Layer, job: Job) -> AsyncIterator[Turn]:
    async with open_client(job) as whole:
        client = _Client(
            await whole._core.state(),  # noqa: SLF001 - it is what is measured
            whole._template.plan(Masked(job.picture)),  # noqa: SLF001
            BytesPicture(job.picture),
        )
        yield lambda count: pull(lambda: layer(client), count, job.concurrency)


def _rival(name: str, about: str, layer: _Layer) -> Rival:
    return Rival(name=name, about=about, open=functools.partial(_open, layer))


LAYERS = (
    _rival("transport", "the client's pool sends and reads, and encodes", _sent),
    _rival("+ decoding", "the answer becomes a SearchResult", _decoded),
    _rival("+ time limit", "it may take 60 s", _limited),
    _rival("+ gate", "a slot is taken and given back", _gated),
    _rival("+ one search", "deadline, verdict, counts, and what it took", _searched),
)
