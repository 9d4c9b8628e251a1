"""One limit for many processes, kept in Redis; needs the extra `redis`.

    limiter = RedisLimiter("redis://cache:6379/0", per_second=200, burst=20)
    client = VerifikClient(rate_limit=limiter)

All that name the same key share the rate, the burst, and the pause after a 429.
`docs/limits.md` tells what happens when Redis is gone.

A script of our own, and no library's: those that were tried take the workers' clocks,
or ask again and again until a permit is free, and none knows a pause for everybody.
Redis, 5 or newer, or what speaks its protocol, reserves the time of the next permit by
its own clock (the generic cell rate algorithm); the search sleeps until then.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Any, Final, TypeAlias

import attrs

from verifik_async import RateLimit
from verifik_async.errors import ConfigurationError
from verifik_async.integrations._sharing import Share

try:
    from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import RedisError
except ImportError as error:
    raise ImportError(
        "verifik_async.integrations.redis needs redis, 5.0.1 or newer: "
        'pip install "verifik-async[redis]"',
        name="redis",
    ) from error

__all__ = ["RedisLimiter"]

_Script: TypeAlias = Callable[..., Awaitable[tuple[int, int]]]

_logger = logging.getLogger("verifik_async.integrations")

_MICROSECONDS: Final = 1e6
# Of one event loop. Each is asked one thing at a time, which takes a round trip.
_CONNECTIONS: Final = 4

# Takes microseconds between two permits, the burst, how many permits are wanted (one,
# or none for the news alone), and microseconds of a pause to begin. Returns
# microseconds until the permit is due, and until the pause is over. The key is kept
# until it would say no more than a key that is missing.
_RESERVE: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local permits, pause = tonumber(ARGV[3]), tonumber(ARGV[4])
local kept = redis.call('HMGET', KEYS[1], 'due', 'quiet')
local due = math.max(tonumber(kept[1] or 0), now - (burst - 1) * interval)
local quiet = math.max(tonumber(kept[2] or 0), now)
if pause > 0 then
  quiet = math.max(quiet, now + pause)
  due = math.max(due, quiet)
end
local after = due + permits * interval
redis.call('HSET', KEYS[1],
  'due', string.format('%.17g', after), 'quiet', string.format('%.17g', quiet))
local lasts = math.max(after, quiet) - now + burst * interval
redis.call('PEXPIRE', KEYS[1], math.ceil(lasts / 1000) + 1)
return {math.ceil(math.max(due - now, 0)), math.ceil(quiet - now)}
"""


@attrs.define(eq=False)
class _Loop:
    """What belongs to one event loop.

    Attributes:
        now: Its clock.
        share: What it knows of the limit.
        reserve: The script.
        guard: Closes the connections, here or at the end of the loop; None: they are
            the caller's.
        is_guarded: Whether it was begun, so that it can be closed.
        back: Set when Redis answers.
    """

    now: Callable[[], float]
    share: Share
    reserve: _Script
    guard: AsyncGenerator[None] | None
    is_guarded: bool = False
    back: asyncio.Event = attrs.field(factory=asyncio.Event)


class _Told:
    """A pause on its way; who does not await this leaves it to the next search."""

    def __init__(self, tell: Callable[[], Awaitable[None]]) -> None:
        self._tell = tell

    def __await__(self) -> Generator[Any, None, None]:
        return self._tell().__await__()


class RedisLimiter:
    """A limit for all processes that name the same key of the same Redis.

    Searches leave in the order in which they have asked, whichever process they are
    of: the more slots (`max_concurrency`) a process has, the larger is its share while
    there is not enough for all. A permit takes one round trip, and another one where
    this process has heard nothing of Redis for 50 ms when it is due.

    A 429 that one process meets pauses all of them: the search that met it tells
    Redis, the others hear of it before they send, 50 ms later at most.

    A search that is cancelled, or ends at its deadline, while it waits leaves its
    permit to the next one of its event loop. If none comes in time it is lost: less is
    sent, never more. So it is with what a process that dies had reserved.

    May be made anywhere, and used by any number of clients, event loops and threads.

    Args:
        redis: URL (`redis://`, `rediss://`, `unix://`), for which connections are made
            on each event loop and closed at its end; or a client of `redis.asyncio`,
            used as it is on the one event loop that it belongs to, and not closed.
        per_second: Searches a second. Where processes differ, each permit takes
            the time that its own process says.
        burst: Searches that may leave at once after a quiet time, of all processes.
        key: What is shared, as a key of Redis. It expires by itself.
        alone: What each event loop keeps to by itself while Redis is gone; None: it
            sends nothing, and searches wait until Redis is back or their deadlines end.
        timeout: Seconds that Redis has for an answer; later it counts as gone.

    Raises:
        ConfigurationError: an argument is out of its range or of another kind.
    """

    def __init__(
        self,
        redis: "Redis | RedisCluster | str",
        *,
        per_second: float,
        burst: int = 1,
        key: str = "verifik",
        alone: RateLimit | None = None,
        timeout: float = 1.0,
    ) -> None:
        limit = RateLimit(per_second, burst)
        wrong = _wrong(redis, key, alone, timeout)
        if wrong is not None:
            del redis  # a traceback may show it, with its password
            raise ConfigurationError(wrong)
        self._redis = redis
        self._limit = limit
        self._key = key
        self._alone = alone
        self._timeout = timeout
        self._arguments = (_MICROSECONDS / limit.per_second, limit.burst)
        self._loops: dict[asyncio.AbstractEventLoop, _Loop] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        limit = self._limit
        return (
            f"RedisLimiter(per_second={limit.per_second:g}, burst={limit.burst}, "
            f"key={self._key!r})"
        )

    async def acquire(self) -> None:
        """Return when one search may be sent."""
        here = self._here()
        share = here.share
        while True:
            due = share.handed_back(here.now())
            if due is None:
                due = await self._reserve(here)
            try:
                await self._sleep(here, due)
            except BaseException:
                share.hand_back(due)
                raise
            if not share.is_overtaken(due):
                return

    def pause(self, seconds: float) -> Awaitable[None]:
        """Let nobody send for some seconds; called on the event loop.

        Returns:
            What tells Redis when it is awaited, as the client does. Else the next that
            asks for a permit does.
        """
        here = self._here()
        here.share.pause(here.now() + seconds)
        return _Told(lambda: self._tell(here))

    async def aclose(self) -> None:
        """Close the connections of the running event loop before its end.

        It is not needed with `asyncio.run`. Who asks again opens new ones.
        """
        with self._lock:
            here = self._loops.pop(asyncio.get_running_loop(), None)
        if here is not None and here.guard is not None:
            await here.guard.aclose()

    # -- one event loop ------------------------------------------------------------

    def _here(self) -> _Loop:
        loop = asyncio.get_running_loop()
        with self._lock:
            if (here := self._loops.get(loop)) is None:
                for ended in [it for it in self._loops if it.is_closed()]:
                    del self._loops[ended]
                here = self._loops[loop] = self._open(loop)
        return here

    def _open(self, loop: asyncio.AbstractEventLoop) -> _Loop:
        client, guard = self._redis, None
        if isinstance(client, str):
            client = _client(client, self._timeout)
            guard = _closed_with_its_loop(client)
        share = Share(self._alone, self._timeout)
        return _Loop(loop.time, share, client.register_script(_RESERVE), guard)

    # -- waiting ---------------------------------------------------------------------

    async def _reserve(self, here: _Loop) -> float:
        """Return when a permit is due, of Redis or, without it, of our own."""
        share = here.share
        while True:
            if share.may_ask(here.now()):
                due = await self._ask(here, 1)
                if due is not None:
                    share.reserved(due)
                    return due
            if self._alone is not None:
                return share.reserve_alone(here.now())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(share.ask_at):
                    await here.back.wait()

    async def _sleep(self, here: _Loop, due: float) -> None:
        """Sleep until a permit is due, then see that nothing has come over it."""
        if (seconds := due - here.now()) <= 0:
            return
        await asyncio.sleep(seconds)
        if here.share.is_stale(here.now()):
            await self._ask(here, 0)

    async def _tell(self, here: _Loop) -> None:
        """Tell Redis of a pause, unless somebody has."""
        now = here.now()
        if here.share.untold(now) and here.share.may_ask(now):
            await self._ask(here, 0)

    async def _ask(self, here: _Loop, permits: int) -> float | None:
        """Ask Redis; return when a permit would be due, or None without an answer."""
        share, sent = here.share, here.now()
        asked_until, pause = share.asked_until, share.untold(sent) * _MICROSECONDS
        arguments = [*self._arguments, permits, pause]
        if here.guard is not None and not here.is_guarded:
            here.is_guarded = True
            await anext(here.guard)
        try:
            async with asyncio.timeout(self._timeout):
                wait, quiet = await here.reserve(keys=[self._key], args=arguments)
        except (RedisError, OSError, TimeoutError) as error:
            kind = type(error).__name__  # its text may tell of the URL
        else:
            if share.heard(sent, asked_until, quiet / _MICROSECONDS):
                _logger.warning("Redis answers again: the limit is shared again")
            here.back.set()
            return here.now() + wait / _MICROSECONDS
        here.back.clear()
        if share.lost(here.now()):
            _logger.warning(
                "Redis does not answer (%s): %s",
                kind,
                "searches wait until it does"
                if self._alone is None
                else "until it does, each event loop keeps to a limit by itself",
            )
        return None


def _wrong(redis: object, key: object, alone: object, timeout: object) -> str | None:
    """Return what is wrong with arguments, without showing the URL."""
    if isinstance(redis, str):
        try:
            _ = _client(redis, 1.0)
        except ValueError:
            return "redis must be a URL such as redis://localhost:6379/0; it is none"
    elif not isinstance(redis, Redis | RedisCluster):
        kind = type(redis).__name__
        return f"redis must be a URL or a client of redis.asyncio, not {kind}"
    if not isinstance(key, str) or not key:
        return "key must be text, and not empty"
    if alone is not None and not isinstance(alone, RateLimit):
        return f"alone must be RateLimit or None, not {type(alone).__name__}"
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        return f"timeout must be seconds, not {type(timeout).__name__}"
    return None if timeout > 0 else "timeout must be above 0 seconds"


def _client(url: str, seconds: float) -> Redis:
    """Return a client that connects when it is used.

    Raises:
        ValueError: the URL is none.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=_CONNECTIONS,
        timeout=seconds,
        socket_connect_timeout=seconds,
        socket_timeout=seconds,
        # A connection that has ended meanwhile is no outage. A second permit, where the
        # first was reserved and not told of, does no harm.
        retry=Retry(NoBackoff(), 1),
    )
    return Redis.from_pool(pool)


async def _closed_with_its_loop(client: Redis) -> AsyncGenerator[None]:
    """Close a client when this is closed: by the event loop's end, if nobody else."""
    try:
        yield
    finally:
        await client.aclose()
