"""What all views of a client share: its settings, and a state for each event loop."""

import asyncio
import threading

import attrs

from verifik_async import _config, _transport
from verifik_async._config import Limiter, Origin, RateLimit
from verifik_async._convert import Decoder
from verifik_async._gate import Gate
from verifik_async._observe import OnAttempt, OnSearch
from verifik_async._state import Counters, LoopState, closed_error, summarise
from verifik_async._version import __version__
from verifik_async.errors import ConfigurationError
from verifik_async.models import ClientStats


@attrs.frozen(kw_only=True)
class Settings:
    """What all views of a client share, checked."""

    base_url: str | None
    allow_insecure_http: bool
    max_concurrency: int
    max_waiting: int | None
    rate_limit: RateLimit | Limiter | None
    max_response_bytes: int
    max_image_bytes: int
    session: _transport.Session | None
    ssl: _transport.Ssl
    proxy: str | None = attrs.field(repr=False)
    trust_env: bool
    trace_configs: tuple[_transport.TraceConfig, ...]
    on_attempt: OnAttempt | None
    on_search: OnSearch | None
    close_grace: float


class Core:
    """The loops of a client, shared by its views."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.decoder = Decoder()
        self.closed = False
        self._lock = threading.Lock()
        self._states: dict[asyncio.AbstractEventLoop, LoopState] = {}
        self._retired = Counters()
        self._origin: Origin | None = None

    @property
    def origin(self) -> Origin:
        """Where the API is; the environment is read at first use."""
        if self._origin is None:
            settings = self.settings
            self._origin = _config.check_base_url(
                _config.base_url_from_environment(settings.base_url),
                allow_insecure_http=settings.allow_insecure_http,
            )
        return self._origin

    def state_at_hand(self) -> LoopState | None:
        """Return what belongs to the running loop, if that is open already."""
        state = self._states.get(asyncio.get_running_loop())
        if state is None or self.closed or not state.pool.is_open:
            return None
        return state

    async def state(self) -> LoopState:
        """Return what belongs to the running loop, opened.

        Raises:
            ClientClosedError: after aclose().
            ConfigurationError: the injected session belongs to another loop.
        """
        loop = asyncio.get_running_loop()
        with self._lock:
            if self.closed:
                raise closed_error()
            state = self._states.get(loop)
            if state is None:
                self._check_session(loop)
                self._retire()
                state = self._states[loop] = self._make_state(loop)
        await state.pool.open()
        return state

    def _check_session(self, loop: asyncio.AbstractEventLoop) -> None:
        session = self.settings.session
        if session is not None and _transport.loop_of(session) is not loop:
            raise ConfigurationError(
                "session belongs to another event loop: make it, and use this "
                "client, on the same loop, or let the client make its own"
            )

    def _retire(self) -> None:
        """Drop the loops that have ended, keep their counts."""
        for loop in [loop for loop in self._states if loop.is_closed()]:
            self._retired.add(self._states.pop(loop).counters)

    def _make_state(self, loop: asyncio.AbstractEventLoop) -> LoopState:
        settings = self.settings
        pool = _transport.Pool(
            _transport.TransportSettings(
                origin=self.origin,
                user_agent=_transport.user_agent(__version__),
                max_response_bytes=settings.max_response_bytes,
                limit=settings.max_concurrency,
                ssl=settings.ssl,
                proxy=settings.proxy,
                allow_insecure_http=settings.allow_insecure_http,
                trust_env=settings.trust_env,
                trace_configs=settings.trace_configs,
                session=settings.session,
            ),
            loop,
        )
        given = settings.rate_limit
        limit, limiter = (
            (given, None) if isinstance(given, RateLimit) else (None, given)
        )
        gate = Gate(settings.max_concurrency, settings.max_waiting, loop, limit)
        return LoopState(loop, pool, gate, limiter)

    async def close(self) -> None:
        """Close everything on every loop that still runs."""
        with self._lock:
            self.closed = True
            self._retire()
            states = list(self._states.values())
        here = asyncio.get_running_loop()
        grace = self.settings.close_grace
        elsewhere = [
            (_close_on_its_loop(state, grace), state.loop)
            for state in states
            if state.loop is not here and state.loop.is_running()
        ]
        for state in states:
            if state.loop is here:
                await state.close(grace)
        for closing, loop in elsewhere:
            await _settled(closing, loop)

    def stats(self) -> ClientStats:
        """Return the counts over all loops."""
        with self._lock:
            self._retire()
            states, retired = list(self._states.values()), self._retired
            return summarise(states, retired, self.settings.max_concurrency)


def _close_on_its_loop(state: LoopState, grace: float) -> asyncio.Future[None]:
    closing = state.close(grace)
    try:
        return asyncio.wrap_future(
            asyncio.run_coroutine_threadsafe(closing, state.loop)
        )
    except RuntimeError:  # that loop has ended in between, and closed what it had
        closing.close()
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done


async def _settled(
    closing: asyncio.Future[None], loop: asyncio.AbstractEventLoop
) -> None:
    """Wait for another loop to close what is its own, or to end.

    A loop that ends cancels what runs on it, or leaves it: neither is ours to feel.
    """
    while not closing.done() and loop.is_running():
        await asyncio.wait([closing], timeout=0.05)
    if closing.done() and not closing.cancelled():
        closing.result()
