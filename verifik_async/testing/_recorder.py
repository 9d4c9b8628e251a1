"""A server between a client and the service that records what is answered."""

import asyncio
import io
import ipaddress
import os
import pathlib
import threading
import urllib.parse
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp import web

from . import _delivery
from ._answers import TOO_LARGE, Reply, refusal
from ._body import parse_fields, read_body
from ._listening import end_server
from ._recording import line_of, load, request_key
from ._rules import SEARCH_PATH, Refusal, check_route
from ._thread import AlsoSynchronous

_HOST = "127.0.0.1"
_THERE = ("Authorization", "Content-Type", "User-Agent")
_BACK = ("Content-Type", "Retry-After")
_UNREACHABLE = Refusal(status=502, message="upstream_unreachable", code="BadGateway")
_SUCCESS = range(200, 300)


class AnswerRecorder(AlsoSynchronous):
    """Records, once, what the real service answers; `MockVerifik.replay` answers so.

    A server on loopback while its `async with` block runs, or, in a thread of its own,
    its `with` block. Give a client `base_url=recorder.url` and your token: each search
    is sent on, and is charged; the answer is passed on as it is, and kept in a file.

    The file has a line of JSON for each search: the SHA-256 of the picture, the
    parameters, the status, and of the answer the request id, the signature, ids,
    scores, liveness, and the code and message of errors. No picture, no token, and of
    persons ids only. A search that the file has already is sent, but not kept again,
    unless it was an error and is none now. What no answer came to is not kept.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        upstream: str = "https://api.verifik.co",
    ) -> None:
        """Set a recorder up; nothing is opened yet.

        Args:
            path: The file, which is made or added to.
            upstream: Base URL of the service. Redirects of it are not followed.

        Raises:
            ValueError: Plain http to another machine would show the token, or it is no
                base URL.
        """
        self._path = pathlib.Path(path)
        self._upstream = _checked(upstream)
        self._lock = threading.Lock()
        self._known: dict[str, bool] = {}  # whether it was a success, by the key
        self._failure: OSError | None = None
        self._url: str | None = None

    async def __aenter__(self) -> Self:
        """Open the file and serve.

        Raises:
            OSError: The file can't be read or written.
            ValueError: The file is damaged; the line is named.
        """
        if self._url is not None:
            raise RuntimeError("an AnswerRecorder can be entered only once")
        await asyncio.to_thread(self._open)
        self._web = web.Server(self._handle, handler_cancellation=True, access_log=None)
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._web, _HOST, 0)
        self._url = f"http://{_HOST}:{self._listener.sockets[0].getsockname()[1]}"
        self._session = aiohttp.ClientSession(
            # A kept connection that has ended would lose a search that is paid for.
            connector=aiohttp.TCPConnector(force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await end_server(self._listener, self._web)
        await self._session.close()
        if self._failure is not None:
            raise self._failure

    def __repr__(self) -> str:
        return f"<AnswerRecorder {self._url or 'not started'}>"

    @property
    def url(self) -> str:
        """Base URL for the client, without a slash at its end.

        Raises:
            RuntimeError: The server was not started.
        """
        if self._url is None:
            raise RuntimeError(
                "AnswerRecorder is not started: use `with` or `async with`"
            )
        return self._url

    def _open(self) -> None:
        with self._path.open("a+b") as file:
            file.seek(0)
            content = file.read()
            if content and not content.endswith(b"\n"):
                file.write(b"\n")  # an editor took it
        answers = load(self._path)
        self._known = {key: one.status in _SUCCESS for key, one in answers.items()}

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        refused = check_route(request.method, request.path)
        if refused is not None:
            return _delivery.whole(refusal(refused))
        try:
            body = await read_body(request)
        except (web.RequestPayloadError, ConnectionError):
            return _delivery.dropped(request)
        if body is None:
            return _delivery.whole(refusal(TOO_LARGE))
        try:
            reply = await self._forward(request, body)
        except (aiohttp.ClientError, TimeoutError):
            return _delivery.whole(refusal(_UNREACHABLE))
        await self._record(parse_fields("application/json", body) or {}, reply)
        return _delivery.whole(reply)

    async def _forward(self, request: web.BaseRequest, body: bytes) -> Reply:
        there = request.headers
        async with self._session.post(
            self._upstream + SEARCH_PATH,
            data=io.BytesIO(body),
            headers={name: there[name] for name in _THERE if name in there},
            allow_redirects=False,
        ) as response:
            back = response.headers
            return Reply(
                status=response.status,
                body=await response.read(),
                headers=tuple((name, back[name]) for name in _BACK if name in back),
            )

    async def _record(self, fields: object, reply: Reply) -> None:
        key = request_key(fields) if isinstance(fields, dict) else None
        success = reply.status in _SUCCESS
        if key is None or success <= self._known.get(key, -1):
            return
        self._known[key] = success
        try:
            await asyncio.to_thread(self._append, line_of(key, reply))
        except OSError as exc:
            # The answer was paid for: it is passed on, and the error told at the end.
            self._failure = exc

    def _append(self, line: bytes) -> None:
        with self._lock, self._path.open("ab") as file:
            file.write(line)


def _checked(upstream: str) -> str:
    parts = urllib.parse.urlsplit(upstream)
    extras = (parts.username, parts.password, parts.query, parts.fragment)
    if parts.scheme not in {"http", "https"} or not parts.hostname or any(extras):
        raise ValueError("upstream must be like https://host, or http on this machine")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ValueError("upstream must be https: plain http would show the token")
    return upstream.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
