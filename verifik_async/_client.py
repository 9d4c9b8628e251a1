"""The session manager: one object that everything is asked of."""

import copy
from collections.abc import Iterable, Mapping
from os import PathLike
from types import TracebackType
from typing import Any, Self

from verifik_async import _config, _transport
from verifik_async._auth import TokenInput, TokenSource
from verifik_async._batch import Batch, collect
from verifik_async._call import Search
from verifik_async._config import (
    Limiter,
    RateLimit,
    RetryPolicy,
    SearchOptions,
    Timeouts,
)
from verifik_async._core import Core, Settings
from verifik_async._observe import OnAttempt, OnSearch
from verifik_async._order import JournalOrder, Order, Prepare
from verifik_async._plan import Template
from verifik_async._source import Probes, problem_with
from verifik_async._state import LoopState, closed_error
from verifik_async._types import NOT_GIVEN, Masked, NotGiven
from verifik_async.errors import (
    AuthenticationError,
    ConfigurationError,
    PaymentRequiredError,
    PermissionDeniedError,
    VerifikError,
)
from verifik_async.models import (
    ClientStats,
    ImageInput,
    Outcome,
    Probe,
    SearchResult,
)

_TIMEOUTS = Timeouts()
_RETRY = RetryPolicy()
# Errors that would meet every search: the token is of no use, or the credits are.
STOP_ON = (AuthenticationError, PermissionDeniedError, PaymentRequiredError)


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
        allow_insecure_http: Permits http:// to another machine than this one, a proxy
            on the way included.
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
        on_search: Called as each search begins, in its task; returns a callable that
            is told of its `Slot`, `Attempt`, `Pause` and `SearchEnd`, or None. The
            same holds for both. `integrations.otel.Telemetry` is made for it.
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
        on_search: OnSearch | None = None,
        close_grace: float = 5.0,
    ) -> None:
        held = Masked(token)
        del token  # no traceback with locals shall find it in this frame
        tokens = TokenSource(held)
        self._is_view = False
        _config.check_flag("allow_insecure_http", allow_insecure_http)
        if base_url is not None:
            _config.check_base_url(base_url, allow_insecure_http=allow_insecure_http)
        self._core = Core(
            Settings(
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
                on_search=_config.check_callable("on_search", on_search),
                close_grace=_config.check_grace(close_grace),
            )
        )
        self._template = Template(
            self._core,
            tokens,
            SearchOptions() if defaults is None else defaults,
            timeouts,
            retry,
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
        held = Masked(image)
        del image  # no traceback with locals shall find it in this frame
        template = self._template
        given = not (os is min_score is search_mode is collection_id is NOT_GIVEN)
        given = given or not (extra is deadline is NOT_GIVEN)
        if given or timeouts is not None or retry is not None:
            fields = {
                "os": os,
                "min_score": min_score,
                "search_mode": search_mode,
                "collection_id": collection_id,
                "extra": extra,
            }
            template = template.varied(fields, timeouts, retry, deadline)
        plan = template.plan(held)
        state = self._core.state_at_hand() or await self._core.state()
        return await Search(plan, state).run()

    def search_many(
        self,
        probes: Probes,
        *,
        os: str | NotGiven | None = NOT_GIVEN,
        min_score: float | NotGiven | None = NOT_GIVEN,
        search_mode: str | NotGiven | None = NOT_GIVEN,
        collection_id: str | NotGiven | None = NOT_GIVEN,
        extra: Mapping[str, Any] | NotGiven | None = NOT_GIVEN,
        timeouts: Timeouts | None = None,
        retry: RetryPolicy | None = None,
        concurrency: int | None = None,
        ordered: bool = False,
        deadline: float | None = None,
        coalesce: bool = False,
        journal: str | PathLike[str] | None = None,
        stop_on: tuple[type[VerifikError], ...] = STOP_ON,
        max_searches: int | None = None,
        prepare: Prepare | None = None,
    ) -> Batch:
        """Search many pictures: `async with` it, then iterate over the outcomes.

        The source is asked for the next probe only when a worker is free and the
        consumer keeps up, so it may be endless. A probe that fails gives an outcome
        with its error, and the others go on. Leaving the block, for whatever reason,
        cancels what still runs.

        Args:
            probes: Any iterable or async iterable of pictures, each as
                `search_active_user` takes it, or `Probe`.
            os: As for `search_active_user`, like all up to `retry`.
            min_score: Threshold for a match, from 0.5 to 1.0.
            search_mode: "FAST" or "ACCURATE".
            collection_id: The `code` of the one collection to search.
            extra: Further JSON fields.
            timeouts: Of each search; its `deadline` begins with the first slot.
            retry: In place of the client's.
            concurrency: Probes that are worked on at once, at least 1; None: the
                client's `max_concurrency`.
            ordered: Whether outcomes come in the order of the input; if not, as
                they are completed.
            deadline: Seconds for the whole batch; None: no bound.
            coalesce: Whether equal pictures with equal parameters are sent once. It
                costs the memory of a digest and a result for each; errors are not
                shared.
            journal: A file, begun or gone on with: a line for each outcome, written
                before it is yielded. What it has the answer of is skipped, and
                neither sent nor yielded: the same key with the same picture. Each
                probe needs a key of its own, or is a path. `read_journal` reads it.
            stop_on: Errors that stop the batch.
            max_searches: Searches that may be sent, resends apart, from 0; None: any
                number.
            prepare: Awaited with each picture that is about to be sent; returns the
                one that is sent in its place (`verifik_async.images.Preparation`).
                A journal knows pictures as they were before.

        Returns:
            A context manager that is its own async iterator of `Outcome`, with
            `summary` (`BatchSummary`, live) and `stop()`: send no more, let what is
            on the wire finish, then end. `deadline`, `max_searches` and `stop()` end
            the iteration normally; `summary.stopped_by` tells. What was pulled and
            not sent has an outcome as well. A source that is being asked then is
            cancelled: what it has taken and not yielded is its own to keep.

        Raises:
            ConfigurationError: an argument is wrong or missing, also when it is
                entered. Nothing was sent.
            ClientClosedError: when it is entered.
            BatchStoppedError: while iterating, after all other outcomes: one of
                `stop_on`, or a service that asks for more quiet or is down for
                longer than `retry` allows, or there is no token. An error of
                `probes` comes out likewise, as it is.
            JournalError: when it is entered: the file can't be used, another process
                writes it (`JournalLockedError`), or it was written with other
                parameters (`JournalMismatchError`); nothing was sent. While
                iterating: it can't be written, the disk is full for one; the
                outcomes that it lacks have been yielded.

        Source: POST /v2/face-recognition/search-active-user
        """
        fields = {
            "os": os,
            "min_score": min_score,
            "search_mode": search_mode,
            "collection_id": collection_id,
            "extra": extra,
        }
        source = Masked(probes)
        del probes  # no traceback with locals shall find pictures in this frame
        return Batch(
            self._order(
                source,
                fields,
                timeouts=timeouts,
                retry=retry,
                concurrency=concurrency,
                ordered=ordered,
                deadline=deadline,
                coalesce=coalesce,
                journal=journal,
                stop_on=stop_on,
                max_searches=max_searches,
                prepare=prepare,
            )
        )

    async def search_all(
        self,
        probes: Probes,
        *,
        os: str | NotGiven | None = NOT_GIVEN,
        min_score: float | NotGiven | None = NOT_GIVEN,
        search_mode: str | NotGiven | None = NOT_GIVEN,
        collection_id: str | NotGiven | None = NOT_GIVEN,
        extra: Mapping[str, Any] | NotGiven | None = NOT_GIVEN,
        timeouts: Timeouts | None = None,
        retry: RetryPolicy | None = None,
        concurrency: int | None = None,
        deadline: float | None = None,
        coalesce: bool = False,
        stop_on: tuple[type[VerifikError], ...] = STOP_ON,
        max_searches: int | None = None,
    ) -> list[Outcome]:
        """Search a few pictures and return all outcomes, in the order of the input.

        For lists that fit into memory with their outcomes. It never raises for
        `stop_on`: what was not sent says so in its outcome. An error of `probes`
        comes out as it is, and the outcomes are lost: where that matters, use
        `search_many`.

        Args:
            probes: As for `search_many`, like all others; must have an end.
            os: The platform that captured the pictures.
            min_score: Threshold for a match, from 0.5 to 1.0.
            search_mode: "FAST" or "ACCURATE".
            collection_id: The `code` of the one collection to search.
            extra: Further JSON fields.
            timeouts: Of each search.
            retry: In place of the client's.
            concurrency: Probes that are worked on at once, at least 1.
            deadline: Seconds for all of them; an asynchronous source is asked for
                no more after it.
            coalesce: Whether equal searches are sent once.
            stop_on: Errors after which nothing more is sent.
            max_searches: Searches that may be sent, resends apart.

        Returns:
            One outcome per probe.

        Raises:
            ConfigurationError: an argument is wrong or missing. Nothing was sent.
            ClientClosedError: the client is closed.

        Source: POST /v2/face-recognition/search-active-user
        """
        source = Masked(probes)
        del probes
        fields = {
            "os": os,
            "min_score": min_score,
            "search_mode": search_mode,
            "collection_id": collection_id,
            "extra": extra,
        }
        return await collect(
            self._order(
                source,
                fields,
                timeouts=timeouts,
                retry=retry,
                concurrency=concurrency,
                ordered=True,
                deadline=deadline,
                coalesce=coalesce,
                stop_on=stop_on,
                max_searches=max_searches,
            )
        )

    def _order(
        self,
        probes: Masked[Probes],
        fields: Mapping[str, Any],
        *,
        timeouts: Timeouts | None,
        retry: RetryPolicy | None,
        concurrency: int | None,
        ordered: bool,
        deadline: float | None,
        coalesce: bool,
        stop_on: tuple[type[VerifikError], ...],
        max_searches: int | None,
        journal: str | PathLike[str] | None = None,
        prepare: Prepare | None = None,
    ) -> Order:
        """Return what a batch is asked for, checked."""
        if (problem := problem_with(probes)) is not None:
            raise ConfigurationError(problem)
        template = self._template.varied(fields, timeouts, retry)
        _config.check_complete(template.options, apart="min_score")  # a probe may tell
        if concurrency is None:
            concurrency = self._core.settings.max_concurrency
        if max_searches is not None:
            _config.whole("max_searches", max_searches, 0)
        return Order(
            probes=probes,
            plan_of=template.plan_of,
            state=self._state,
            concurrency=_config.whole("concurrency", concurrency, 1),
            ordered=_config.check_flag("ordered", ordered),
            deadline=_config.deadline_seconds(deadline),
            coalesce=_config.check_flag("coalesce", coalesce),
            stop_on=_config.check_errors("stop_on", stop_on),
            max_searches=max_searches,
            journal=(
                None
                if journal is None
                else JournalOrder(
                    _config.file_path("journal", journal), template.parameters_digest()
                )
            ),
            prepare=_config.check_callable("prepare", prepare),
            max_image_bytes=self._core.settings.max_image_bytes,
        )

    async def _state(self) -> LoopState:
        return self._core.state_at_hand() or await self._core.state()

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
        shared = self._template
        self._template = Template(
            self._core,
            shared.tokens if token.reveal() is None else TokenSource(token),
            shared.options if defaults is None else defaults,
            shared.timeouts if timeouts is None else timeouts,
            shared.retry if retry is None else retry,
        )

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
