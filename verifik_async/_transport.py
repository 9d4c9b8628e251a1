"""The connections of one event loop; the only I/O, and the only user of aiohttp.

Faults are returned, not raised: an exception raised while aiohttp's is handled
would carry it along, and its frames hold the token and the picture.
"""

import asyncio
import errno
import math
import select
import ssl as ssl_module
import sys
import urllib.request
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Final, TypeAlias

import aiohttp
import attrs
from aiohttp.abc import AbstractStreamWriter
from aiohttp.hdrs import CONTENT_ENCODING
from multidict import CIMultiDict
from yarl import URL

from verifik_async import _wire
from verifik_async._auth import Token
from verifik_async._config import Origin, check_proxied
from verifik_async._images import Picture
from verifik_async._types import Charge
from verifik_async.errors import (
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    ImageError,
    ResponseTooLargeError,
    TransportError,
)

Ssl: TypeAlias = ssl_module.SSLContext | aiohttp.Fingerprint | bool | None
Session: TypeAlias = aiohttp.ClientSession
TraceConfig: TypeAlias = aiohttp.TraceConfig
Received: TypeAlias = (
    _wire.Reply
    | TransportError
    | ImageError
    | ResponseTooLargeError
    | ConfigurationError
)

# Bytes that an answer may have beside its body. What our own sessions hold of a body
# unread is less.
BESIDE_BODY: Final = 1024 * 1024

# Nothing arrived: the fault lies before the first byte of a request.
_NEVER_ARRIVED: Final = (
    aiohttp.ClientConnectorError,
    aiohttp.ClientConnectorCertificateError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ClientHttpProxyError,
    aiohttp.ServerFingerprintMismatch,
)


@attrs.frozen(kw_only=True)
class TransportSettings:
    """What the sessions of a client have in common."""

    origin: Origin
    user_agent: str
    max_response_bytes: int
    limit: int
    ssl: Ssl = None
    proxy: str | None = attrs.field(default=None, repr=False)
    allow_insecure_http: bool = False
    trust_env: bool = False
    trace_configs: tuple[TraceConfig, ...] = ()
    session: Session | None = None


class _Secret(str):
    """A header's value that no traceback with locals shows, in whichever dict."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<masked>"


def _unread(transport: asyncio.Transport) -> Callable[[int], object]:
    """Return what tells whether a connection has something to be read."""
    sock = transport.get_extra_info("socket")
    if sock is None or not hasattr(select, "poll"):  # Windows has none
        return bool
    watch = select.poll()
    watch.register(sock, select.POLLIN)
    return watch.poll


class Guard(asyncio.Protocol):
    """Stands between a connection and aiohttp's protocol, and counts what comes in.

    aiohttp bounds each header, but neither all trailers nor the parts of chunks, and
    what arrives between two answers it keeps for the next one. Everything but the
    counting is handed on.

    Attributes:
        inner: aiohttp's protocol.
        left: Bytes that may come in before some of the body is read.
        turns: Searches that the connection has served.
    """

    def __init__(self, inner: asyncio.Protocol, transport: asyncio.Transport) -> None:
        self.inner = inner
        self.eof_received = inner.eof_received  # type: ignore[method-assign]
        self.pause_writing = inner.pause_writing  # type: ignore[method-assign]
        self.resume_writing = inner.resume_writing  # type: ignore[method-assign]
        self._feed = inner.data_received
        self._transport: asyncio.Transport | None = transport
        self.left: float = 0
        self.turns = 0
        self._look = _unread(transport)

    def data_received(self, data: bytes) -> None:
        """Hand bytes on, unless they are too many."""
        self.left -= len(data)
        if self.left < 0:
            self.abort()
        else:
            self._feed(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Hand it on; from now on the transport is of no use."""
        self._transport = None
        self.inner.connection_lost(exc)

    def abort(self) -> None:
        """End the connection and throw away what waits to be sent."""
        # asyncio's own fails where the connection has ended in good order before.
        if self._transport is not None:
            self._transport.abort()

    @property
    def is_at_work(self) -> bool:
        """Whether aiohttp still has the connection in use, or keeps it."""
        return getattr(self.inner, "transport", None) is self._transport

    @property
    def has_more(self) -> bool:
        """Whether something arrived that belongs to no request, or the end.

        An event loop that was busy has not read it yet. On a fresh connection that is
        TLS's own.
        """
        unread = self.turns > 1 and self._look(0)
        return bool(unread or getattr(self.inner, "should_close", False))


class BodyPayload(aiohttp.Payload):
    """A request's body, encoded while it is sent; good for one attempt.

    Attributes:
        byte_count: Bytes of the body.
        begun: Whether a connection was there to write to.
        reused: Whether that connection had served before.
        written_at: When the last byte was handed to it, on the loop's clock, or None.
        failure: What went wrong with the picture in mid-way, or None.
        dropped: Whether the connection ended before a byte of an answer came.
        stale: Whether the connection had brought what nobody had asked for: it would
            pass for the answer.
        guard: Of that connection.
    """

    def __init__(
        self,
        start: bytes,
        picture: Picture,
        clock: Callable[[], float],
        allowance: int,
    ) -> None:
        super().__init__(None, content_type="application/json")
        self._allowance = allowance
        self._start = start
        self._picture = picture
        self._clock = clock
        self.byte_count = len(start) + picture.text_size + len(_wire.BODY_END)
        self._size = self.byte_count  # the base class tells it to aiohttp
        self._transport: asyncio.Transport | None = None
        self.guard: Guard | None = None
        self._turn = 0
        self.begun = False
        self.written_at: float | None = None
        self.reused = False
        self.dropped = False
        self.stale = False
        self.failure: ImageError | None = None

    def decode(self, encoding: str = "", errors: str = "") -> str:  # noqa: ARG002
        """Refuse: nobody has a reason to look into the body."""
        raise TypeError("the body of a search is only streamed")

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write the body."""
        await self.write_with_length(writer, None)

    async def write_with_length(
        self,
        writer: AbstractStreamWriter,
        content_length: int | None,  # noqa: ARG002 - it is the size told before
    ) -> None:
        """Write the body, slice by slice, each encoded when it is due."""
        self._note_connection(writer)
        text = self._picture.at_once()
        if text is not None:
            await writer.write(b"".join((self._start, text, _wire.BODY_END)))
        else:
            try:
                await self._write_slices(writer)
            except ImageError as error:
                self.failure = error
                raise
        if self._transport is not None and self._transport.get_write_buffer_size():
            await self._hand_over(self._transport, writer)
        self.written_at = self._clock()

    async def _write_slices(self, writer: AbstractStreamWriter) -> None:
        left = self._picture.text_size
        joint = self._start  # travels with the next slice: fewer system calls
        for number in range(self._picture.piece_count):
            for text in await self._picture.piece(number):
                left -= len(text)
                if joint or not left:  # else there is nothing to copy it for
                    end = b"" if left else _wire.BODY_END
                    text = b"".join((joint, text, end))  # noqa: PLW2901
                    joint = b""
                await writer.write(text)

    @staticmethod
    async def _hand_over(
        transport: asyncio.Transport, writer: AbstractStreamWriter
    ) -> None:
        """Wait until the operating system has the last byte.

        A connection that breaks throws its buffer away, and nobody could tell then
        whether the request was sent.
        """
        low, high = transport.get_write_buffer_limits()
        transport.set_write_buffer_limits(0)
        try:
            await writer.drain()
        finally:
            transport.set_write_buffer_limits(high, low)

    def _note_connection(self, writer: AbstractStreamWriter) -> None:
        """Put a guard on the connection, or meet the one that it has.

        aiohttp tells nowhere whether a connection was used before.

        Raises:
            ConnectionResetError: what it brought meanwhile would pass for the answer.
        """
        self.begun = True
        self._transport = transport = getattr(writer, "transport", None)
        if transport is None:
            return
        guard = transport.get_protocol()
        self.reused = isinstance(guard, Guard)
        if not self.reused:
            guard = Guard(guard, transport)
            transport.set_protocol(guard)
        guard.left = self._allowance
        guard.turns = self._turn = guard.turns + 1
        self.guard = guard
        if guard.has_more:
            self.stale = True
            guard.abort()
            raise ConnectionResetError(errno.ECONNRESET, "unasked bytes")

    def release(self) -> None:
        """Bound the connection no more, unless it serves another search by now."""
        if self.guard is not None and self.guard.turns == self._turn:
            self.guard.left = math.inf

    def abandon(self) -> Charge:
        """Give the attempt up and return what it may have cost.

        What waits in the connection's buffer would still be sent after the end of
        the attempt: it is thrown away, so that not sent stays not sent. Aborting
        also spares the connection a TLS farewell that the other side may not answer.
        One whose answer is complete may be another search's by now: aiohttp has
        closed those that were still ours, and they know their transport no more.
        """
        guard = self.guard
        if guard is not None and (self.written_at is None or not guard.is_at_work):
            guard.abort()
        return Charge.NOT_SENT if self.written_at is None else Charge.MAYBE_CHARGED


class Pool:
    """The connections of one client on one event loop, opened at first use."""

    def __init__(
        self, settings: TransportSettings, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._settings = settings
        self._clock = loop.time
        self._url = URL(settings.origin.base + _wire.SEARCH_PATH)
        self._proxy: str | None = None  # a caller's session has its own
        self._session: Session | None = settings.session
        self._unkept: Session | None = None  # a connection of its own per request
        self._is_ours_open = False
        self._guard: AsyncGenerator[None] | None = None
        self._is_guard_ending = False
        self._headers: tuple[Token, CIMultiDict[str]] | None = None
        self._timeouts = aiohttp.ClientTimeout(total=None)
        self._allowance = BESIDE_BODY
        if settings.session is not None:  # its buffer may hold all of a body unread
            self._allowance += settings.max_response_bytes

    @property
    def is_open(self) -> bool:
        """Whether there is a session that can be used."""
        # Ours is closed by nobody but us; to ask it costs four calls.
        if self._settings.session is None:
            return self._is_ours_open
        return self._session is not None and not self._session.closed

    async def open(self) -> None:
        """Open the session.

        Raises:
            ConfigurationError: the caller's session was closed.
        """
        session = self._session
        ended = session is not None and session.closed and self._guard is not None
        if session is None or ended:
            self._session = session = self._make_session()
            self._unkept = None
            self._guard = self._closed_with_its_loop()
            self._is_guard_ending = False
            await anext(self._guard)
            self._is_ours_open = True
        if session.closed:
            raise ConfigurationError("session is closed: pass one that is open")

    async def close(self) -> None:
        """Close the session if it is ours."""
        if self._guard is None:
            return
        await self._close_sessions()
        if not self._is_guard_ending:  # a loop that ends may be closing it just now
            await self._guard.aclose()

    def payload(self, start: bytes, picture: Picture) -> BodyPayload:
        """Return the body of one attempt."""
        return BodyPayload(start, picture, self._clock, self._allowance)

    async def send(
        self,
        payload: BodyPayload,
        token: Token,
        connect: float | None,
        *,
        fresh: bool = False,
    ) -> Received:
        """Send one request and read its answer to the end.

        Args:
            payload: The body, used up by this.
            token: For the `Authorization` header.
            connect: Seconds for a new connection, or None.
            fresh: Whether it must be a new connection: where one of those that were
                kept has been dropped, others may have been as well. Not with a
                session of the caller's.
        """
        session = self._unkept_session() if fresh else self._session
        assert session is not None  # noqa: S101 - opened before
        response: aiohttp.ClientResponse | None = None
        try:
            response = await session.post(
                self._url,
                data=payload,
                headers=self._headers_for(token),
                timeout=self._timeout(connect),
                proxy=self._proxy,
                allow_redirects=False,
                raise_for_status=False,
                auto_decompress=False,
            )
            if payload.stale or not payload.begun:  # there was nothing to answer yet
                payload.stale = payload.reused = True
                response.close()
                return self._fault(ConnectionResetError(), payload, answered=False)
            reply = self._at_hand(response)
            return await self._read(response, payload) if reply is None else reply
        except (aiohttp.ClientError, OSError) as error:
            return self._fault(error, payload, answered=response is not None)
        except Exception as error:  # noqa: BLE001 - whatever it is
            # Of a caller's session or trace, as aiohttp's own `auth=` beside our
            # header: the frames below hold the token, so it is not let through.
            return ConfigurationError(
                f"session: the request failed inside of it ({type(error).__name__}); "
                "it must be open, without auth= and with sound middlewares and traces",
                charge=payload.abandon(),
            )
        finally:
            if response is not None and not response.content.is_eof():
                response.close()
            if self._guard is None:  # the caller may have other uses for it
                payload.release()

    def _at_hand(
        self, response: aiohttp.ClientResponse
    ) -> _wire.Reply | ResponseTooLargeError | None:
        """Return an answer that came with its head and is not encoded, if it did."""
        if not response.content.is_eof() or CONTENT_ENCODING in response.headers:
            return None
        body = response.content.read_nowait()
        limit = self._settings.max_response_bytes
        if len(body) > limit:
            return _over(response, limit)
        return _wire.Reply(response.status, response.headers, body)

    async def _read(
        self, response: aiohttp.ClientResponse, payload: BodyPayload
    ) -> _wire.Reply | ResponseTooLargeError:
        limit, guard = self._settings.max_response_bytes, payload.guard
        announced = response.content_length or 0
        inflater = _wire.Inflater(response.headers.get(CONTENT_ENCODING), limit)
        chunks: list[bytes] = []
        content = response.content
        if announced > limit:
            return _over(response, limit)
        while chunk := await content.readany():
            if guard is not None:
                guard.left += len(chunk)
            inflated = inflater.feed(chunk)
            if inflated is None:
                return _over(response, limit)
            chunks.append(inflated)
        return _wire.Reply(response.status, response.headers, b"".join(chunks))

    def _fault(
        self, error: Exception, payload: BodyPayload, *, answered: bool
    ) -> TransportError | ImageError:
        """Translate aiohttp's error; only facts that hold no secret are copied."""
        if payload.failure is not None:
            return ImageError(*payload.failure.args)
        payload.dropped = not answered and _is_drop(error)
        origin, cause = self._settings.origin, type(error).__name__
        kind: type[TransportError]
        if isinstance(error, _NEVER_ARRIVED):
            kind, charge, what = ConnectError, Charge.NOT_SENT, "could not connect to"
        else:
            kind, charge, what = (
                ConnectionLostError,
                Charge.MAYBE_CHARGED if answered else payload.abandon(),
                "lost the connection to",
            )
        number = getattr(error, "errno", None)
        return kind(
            f"{what} {origin.host}:{origin.port} ({cause}"
            f"{f', errno {number}' if number else ''})",
            charge=charge,
            host=origin.host,
            port=origin.port,
            errno=number,
            cause=cause,
        )

    def _headers_for(self, token: Token) -> CIMultiDict[str]:
        """Return the headers; made once per token."""
        if self._headers is None or self._headers[0] is not token:
            bearer = _Secret(f"Bearer {token.reveal()}")
            headers: CIMultiDict[str] = CIMultiDict({"Authorization": bearer})
            if self._guard is None:  # the caller's session has headers of its own
                headers.update(self._fixed_headers())
            self._headers = (token, headers)
        return self._headers[1]

    def _fixed_headers(self) -> dict[str, str]:
        return {
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "Content-Type": "application/json",
            "User-Agent": self._settings.user_agent,
        }

    def _timeout(self, connect: float | None) -> aiohttp.ClientTimeout:
        """Return the phases that aiohttp watches; the attempt has a timer of ours."""
        if self._timeouts.sock_connect != connect:  # made once for calls in a row
            # Not `connect=`: that one would count the wait for a free connection.
            self._timeouts = aiohttp.ClientTimeout(total=None, sock_connect=connect)
        return self._timeouts

    def _unkept_session(self) -> Session | None:
        """Return a session that keeps no connection, if we may make one."""
        if self._guard is None:
            return self._session
        if self._unkept is None:
            self._unkept = self._make_session(force_close=True)
        return self._unkept

    async def _closed_with_its_loop(self) -> AsyncGenerator[None]:
        """Close the sessions when the loop ends, for those who do not call aclose().

        A loop closes the async generators that it has begun, `asyncio.run` does it
        before it closes the loop: that is the only hook there is.
        """
        try:
            yield
        finally:
            self._is_guard_ending = True
            await self._close_sessions()

    async def _close_sessions(self) -> None:
        self._is_ours_open = False
        for session in (self._session, self._unkept):
            if session is not None:
                await session.close()

    def _make_session(self, *, force_close: bool = False) -> Session:
        settings, self._proxy = self._settings, self._settings.proxy
        if settings.trust_env and self._proxy is None:
            self._proxy = _proxy_from_environment(settings.origin)
        check_proxied(
            settings.origin,
            self._proxy,
            allow_insecure_http=settings.allow_insecure_http,
        )
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=settings.limit,
                ssl=True if settings.ssl is None else settings.ssl,
                force_close=force_close,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=self._fixed_headers(),
            trace_configs=list(settings.trace_configs),
        )


def _over(
    response: aiohttp.ClientResponse, limit: int
) -> _wire.Reply | ResponseTooLargeError:
    """Return what an answer over the limit comes to: a refusal stays one."""
    if 200 <= response.status < 300:  # noqa: PLR2004
        return _wire.too_large(response.status, limit)
    return _wire.Reply(response.status, response.headers, b"")


def _is_drop(error: Exception) -> bool:
    """Whether a connection ended without a byte of an answer, as far as is known."""
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return isinstance(error.message, str)  # else the head of an answer came
    return isinstance(error, ConnectionResetError | BrokenPipeError) or (
        isinstance(error, OSError) and error.errno in (errno.ECONNRESET, errno.EPIPE)
    )


def _proxy_from_environment(origin: Origin) -> str | None:
    """Return the proxy that the environment names for the origin.

    Not aiohttp's `trust_env`: that looks into .netrc for every request, and an
    entry there fails the request, which has an `Authorization` header already.
    """
    if urllib.request.proxy_bypass(origin.host):
        return None
    return urllib.request.getproxies().get(origin.base.partition(":")[0])


def loop_of(session: Session) -> asyncio.AbstractEventLoop | None:
    """Return the event loop that a session belongs to.

    aiohttp has no public, quiet way to ask: `ClientSession.loop` is deprecated.
    """
    return getattr(session, "_loop", None)


def user_agent(version: str) -> str:
    """Return the `User-Agent`: us first, then what is underneath."""
    python = ".".join(map(str, sys.version_info[:2]))
    return f"verifik_async/{version} aiohttp/{aiohttp.__version__} Python/{python}"


def check_trace_configs(given: object) -> tuple[TraceConfig, ...]:
    """Return the trace configurations.

    Raises:
        ConfigurationError: one of them is none.
    """
    found = tuple(given) if isinstance(given, Iterable) else (given,)
    if not all(isinstance(one, aiohttp.TraceConfig) for one in found):
        raise ConfigurationError("trace_configs must hold aiohttp.TraceConfig objects")
    return found


def check_session(given: object) -> Session | None:
    """Return the caller's session.

    Raises:
        ConfigurationError: it is none.
    """
    if given is None or isinstance(given, aiohttp.ClientSession):
        return given
    raise ConfigurationError(
        f"session must be an aiohttp.ClientSession, not {type(given).__name__}"
    )


def check_ssl(given: object) -> Ssl:
    """Return the TLS setting.

    Raises:
        ConfigurationError: it is none, or switches verification off.
    """
    if given is None or given is True:
        return None
    if isinstance(given, ssl_module.SSLContext | aiohttp.Fingerprint):
        return given
    raise ConfigurationError(
        "ssl must be an ssl.SSLContext, or None for verification as usual; "
        "for a private certificate load it into a context"
    )
