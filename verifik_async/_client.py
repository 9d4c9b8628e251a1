"""The session manager: one object that everything is asked of."""

import asyncio
import copy
import threading
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self, TypeAlias

import attrs

from verifik_async import _config, _transport, _wire
from verifik_async._auth import TokenInput, TokenSource
from verifik_async._call import Plan, Search
from verifik_async._config import (
    Limiter,
    Origin,
    RateLimit,
    RetryPolicy,
    SearchOptions,
    Timeouts,
)
from verifik_async._convert import Decoder
from verifik_async._gate import Gate, build_limiter
from verifik_async._images import image_source
from verifik_async._state import Counters, LoopState, closed_error, summarise
from verifik_async._types import NOT_GIVEN, Masked, NotGiven
from verifik_async._version import __version__
from verifik_async.errors import ConfigurationError
from verifik_async.models import Attempt, ClientStats, ImageInput, Probe, SearchResult

OnAttempt: TypeAlias = Callable[[Attempt], object]

_TIMEOUTS = Timeouts()
_RETRY = RetryPolicy()


@attrs.frozen(kw_only=True)
class _Settings:
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
    close_grace: float


class _Core:
    """The loops of a client, shared by its views."""

    def __init__(self, settings: _Settings) -> None:
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
                trust_env=settings.trust_env,
                trace_configs=settings.trace_configs,
                session=settings.session,
            )
        )
        gate = Gate(settings.max_concurrency, settings.max_waiting, loop)
        return LoopState(loop, pool, gate, build_limiter(settings.rate_limit))

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


class VerifikClient:
    """Asyncio client for Verifik's 1:N face search: pool, gate and settings in one.

    It may be made anywhere, at module level too, and serves several event loops,
    one after another or side by side in threads; connections are opened at first
    use, limits count per loop.

    Args:
        token: The JWT, or a callable that returns it or an awaitable of it; None:
            VERIFIK_TOKEN, then VERIFIK_CLIENT_JWT, read at first use. A callable is
            asked once, and again when the service says that the token has expired.
        base_url: None: VERIFIK_BASE_URL, then https://api.verifik.co.
        allow_insecure_http: Permits http:// to another machine than this one.
        defaults: For searches that do not say themselves.
        max_concurrency: Searches on the wire at once, and connections, at least 1.
        max_waiting: Searches that may queue for a slot; one more gets
            `QueueFullError` at once. None: any number.
        rate_limit: `RateLimit` per event loop, or a `Limiter` of your own.
        timeouts: Seconds for a call, an attempt, a connection.
        retry: When a search is sent again.
        max_response_bytes: Size of an answer at most, inflated.
        max_image_bytes: Size of a picture at most, before base64.
        session: An `aiohttp.ClientSession` of yours: used on its own loop only,
            never closed. ssl, proxy, trust_env, trace_configs don't apply to it.
        ssl: `ssl.SSLContext`; None: verification as usual, TLS 1.2 or newer.
        proxy: URL of an HTTP proxy.
        trust_env: Whether the environment (HTTPS_PROXY, NO_PROXY) names the proxy.
        trace_configs: `aiohttp.TraceConfig` objects.
        on_attempt: Called with an `Attempt` for each request on the wire; must not
            block. What it raises is logged and ignored.
        close_grace: Seconds that `aclose()` lets running searches go on.

    Raises:
        ConfigurationError: a setting is wrong; its name and the remedy are told.
    """

    def __init__(
        self,
        token: TokenInput = None,
        *,
        base_url: str | None = None,
        allow_insecure_http: bool = False,
        defaults: SearchOptions | None = None,
        max_concurrency: int = 32,
        max_waiting: int | None = None,
        rate_limit: RateLimit | Limiter | None = None,
        timeouts: Timeouts = _TIMEOUTS,
        retry: RetryPolicy = _RETRY,
        max_response_bytes: int = 8 * 1024 * 1024,
        max_image_bytes: int = 20 * 1024 * 1024,
        session: _transport.Session | None = None,
        ssl: _transport.Ssl = None,
        proxy: str | None = None,
        trust_env: bool = False,
        trace_configs: Iterable[_transport.TraceConfig] = (),
        on_attempt: OnAttempt | None = None,
        close_grace: float = 5.0,
    ) -> None:
        held = Masked(token)
        del token  # no traceback with locals shall find it in this frame
        self._tokens = TokenSource(held)
        self._defaults = _instance(
            "defaults", SearchOptions() if defaults is None else defaults, SearchOptions
        )
        self._timeouts = _instance("timeouts", timeouts, Timeouts)
        self._retry = _instance("retry", retry, RetryPolicy)
        self._default_start: bytes | None = None
        self._is_view = False
        _config.check_flag("allow_insecure_http", allow_insecure_http)
        if base_url is not None:
            _config.check_base_url(base_url, allow_insecure_http=allow_insecure_http)
        self._core = _Core(
            _Settings(
                base_url=base_url,
                allow_insecure_http=allow_insecure_http,
                max_concurrency=_config.whole("max_concurrency", max_concurrency, 1),
                max_waiting=(
                    None
                    if max_waiting is None
                    else _config.whole("max_waiting", max_waiting, 0)
                ),
                rate_limit=_config.check_rate_limit(rate_limit),
                max_response_bytes=_config.whole(
                    "max_response_bytes", max_response_bytes, 1
                ),
                max_image_bytes=_config.whole("max_image_bytes", max_image_bytes, 1),
                session=_transport.check_session(session),
                ssl=_transport.check_ssl(ssl),
                proxy=_config.check_proxy(proxy),
                trust_env=_config.check_flag("trust_env", trust_env),
                trace_configs=_transport.check_trace_configs(trace_configs),
                on_attempt=_config.check_callable("on_attempt", on_attempt),
                close_grace=_config.check_grace(close_grace),
            )
        )

    async def search_active_user(
        self,
        image: ImageInput | Probe,
        *,
        os: str | NotGiven | None = NOT_GIVEN,
        min_score: float | NotGiven | None = NOT_GIVEN,
        search_mode: str | NotGiven | None = NOT_GIVEN,
        collection_id: str | NotGiven | None = NOT_GIVEN,
        extra: Mapping[str, Any] | NotGiven | None = NOT_GIVEN,
        deadline: float | NotGiven | None = NOT_GIVEN,
        timeouts: Timeouts | None = None,
        retry: RetryPolicy | None = None,
    ) -> SearchResult:
        """Search the enrolled persons for the face in one picture.

        What is not given here is taken from the client's `defaults`; what a `Probe`
        brings goes first. The API has no defaults of its own.

        Args:
            image: The probe. Bytes-like: the encoded picture (JPEG, PNG) ·
                `os.PathLike`: a file, read off the event loop · str: base64 text,
                data URI or not · a binary file object: read from its start and
                rewound, never closed · `Probe`. At most `max_image_bytes`.
            os: "ANDROID", "IOS" or "DESKTOP": the platform that captured it.
            min_score: Threshold for a match, from 0.5 to 1.0.
            search_mode: "FAST" or "ACCURATE".
            collection_id: The `code` of the one collection to search, sent verbatim;
                None: all persons.
            extra: Further JSON fields, sent as they are (`liveness_min_score`).
            deadline: Seconds for the whole call, in place of `timeouts.deadline`;
                None: no bound.
            timeouts: In place of the client's.
            retry: In place of the client's.

        Returns:
            The matches, best first; empty if nobody reached the threshold.

        Raises:
            ConfigurationError: an argument is wrong or missing. Nothing was sent.
            ImageError: the picture is unusable. Nothing was sent.
            ClientClosedError: the client is, or was meanwhile, closed.
            QueueFullError: more than `max_waiting` wait for a slot.
            DeadlineExceededError: the whole call outlived its deadline.
            TransportError: the request or its answer was lost; see its subclasses.
            APIStatusError: the API refused; see its subclasses.
            ResponseShapeError: the answer cannot be understood.
            ResponseTooLargeError: the answer is larger than `max_response_bytes`.
            RedirectError: the API answered with a redirect.

        Source: POST /v2/face-recognition/search-active-user
        """
        probe = image if isinstance(image, Probe) else Probe(image)
        del image  # a Probe shows no picture in a traceback with locals
        options = _merged(
            self._defaults,
            {
                "os": os,
                "min_score": min_score,
                "search_mode": search_mode,
                "collection_id": collection_id,
                "extra": extra,
            },
            probe,
        )
        _config.check_complete(options)
        times: Timeouts = _instance(
            "timeouts", self._timeouts if timeouts is None else timeouts, Timeouts
        )
        if not isinstance(deadline, NotGiven):
            times = attrs.evolve(times, deadline=_config.deadline_seconds(deadline))
        core = self._core
        plan = Plan(
            source=image_source(Masked(probe.image), core.settings.max_image_bytes),
            start=self._body_start(options),
            timeouts=times,
            retry=_instance(
                "retry", self._retry if retry is None else retry, RetryPolicy
            ),
            tokens=self._tokens,
            decoder=core.decoder,
            origin=core.origin,
            on_attempt=core.settings.on_attempt,
        )
        return await Search(plan, core.state_at_hand() or await core.state()).run()

    def with_options(
        self,
        *,
        defaults: SearchOptions | None = None,
        timeouts: Timeouts | None = None,
        retry: RetryPolicy | None = None,
        token: TokenInput = None,
    ) -> Self:
        """Return a cheap view of this client on the same connections and limits.

        Closing a view does nothing.

        Args:
            defaults: In place of the client's, wholly; None: as they are.
            timeouts: In place of the client's.
            retry: In place of the client's.
            token: In place of the client's.

        Raises:
            ConfigurationError: a setting is wrong.
        """
        held = Masked(token)
        del token
        view = copy.copy(self)
        view._differ(held, defaults, timeouts, retry)  # noqa: SLF001 - it is one of us
        return view

    def _differ(
        self,
        token: Masked[TokenInput],
        defaults: SearchOptions | None,
        timeouts: Timeouts | None,
        retry: RetryPolicy | None,
    ) -> None:
        self._is_view = True
        if token.reveal() is not None:
            self._tokens = TokenSource(token)
        if defaults is not None:
            self._defaults = _instance("defaults", defaults, SearchOptions)
            self._default_start = None
        if timeouts is not None:
            self._timeouts = _instance("timeouts", timeouts, Timeouts)
        if retry is not None:
            self._retry = _instance("retry", retry, RetryPolicy)

    def _body_start(self, options: SearchOptions) -> bytes:
        """Return the body up to the picture; made once for the defaults."""
        if options is not self._defaults:
            return _wire.body_start(options)
        if self._default_start is None:
            self._default_start = _wire.body_start(options)
        return self._default_start

    def stats(self) -> ClientStats:
        """Return a snapshot of the counts over all event loops."""
        return self._core.stats()

    async def aclose(self) -> None:
        """Close the client for good, on all its event loops; twice is fine.

        Running and queued searches get `close_grace` seconds, then end in a
        `ClientClosedError` that says in `charge` how far they came. A view is left
        as it is.
        """
        if not self._is_view:
            await self._core.close()

    async def __aenter__(self) -> Self:
        if self._core.closed:
            raise closed_error()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        if not hasattr(self, "_core"):  # a traceback of a failed __init__ asks too
            return "<VerifikClient unmade>"
        stats = self._core.stats()
        state = "closed" if self._core.closed else "open"
        return (
            f"<VerifikClient {state} in_flight={stats.in_flight} "
            f"waiting={stats.waiting} answered={stats.answered} failed={stats.failed}>"
        )


def _instance(name: str, value: Any, kind: Any) -> Any:
    """Return a settings object, checked to be one."""
    if not isinstance(value, kind):
        raise ConfigurationError(
            f"{name} must be {kind.__name__}(...), not {type(value).__name__}"
        )
    return value


def _merged(
    defaults: SearchOptions, call: Mapping[str, Any], probe: Probe
) -> SearchOptions:
    """Return the options of one search: Probe before call before defaults.

    None is 'not given', but for `collection_id` and `extra` of a call: there it
    takes a default away.
    """
    given = {
        name: value
        for name, value in call.items()
        if value is not NOT_GIVEN
        and (value is not None or name in ("collection_id", "extra"))
    }
    for name in ("collection_id", "min_score", "extra"):
        if (value := getattr(probe, name)) is not None:
            given[name] = value
    return attrs.evolve(defaults, **given) if given else defaults
