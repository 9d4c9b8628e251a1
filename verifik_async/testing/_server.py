"""The stand-in server."""

import asyncio
import os
import pathlib
import ssl as ssl_module
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self

from aiohttp import web

from ._answers import DataShape
from ._chance import Latency
from ._faults import Fault
from ._gallery import Person
from ._listening import end_server
from ._recording import load
from ._records import RecordedRequest
from ._service import Service
from ._thread import AlsoSynchronous

_HOST = "127.0.0.1"
_BACKLOG = 1024


class MockVerifik(Service, AlsoSynchronous):
    """A local server that speaks the documented search API.

    It listens on loopback while its `async with` block runs, once per object. With a
    plain `with` it serves from a thread of its own, so that synchronous tests and any
    event loop can use it. All its methods and attributes may be used from any thread.

    It is no face recogniser. A picture equal to an enrolled one matches with score 1.0.
    Where Pillow is installed (the extra `cli`), JPEG and PNG pictures are also compared
    by small thumbnails, so that copies match: re-encoded, scaled or darkened ones with
    about 0.9 or more, a crop of 5 % at each side with about 0.8, while other pictures
    stay below 0.5 almost always. Another photograph of the same face is another
    picture. Comparing takes a millisecond or two of the event loop with a hundred
    pictures enrolled; decoding one of twelve megapixels takes 50 (JPEG) to 200 (PNG).
    Above 33 megapixels only equal pictures match.

    A token that is a JWT and whose `exp` has passed gets 403 token_expired, too; its
    signature is not checked.

    Attributes:
        tokens: The tokens that are good; None when any is. May be changed at any time,
            like the other attributes, latency and faults.
        expired_tokens: Tokens that get 403 token_expired. A JWT whose `exp` has passed
            need not be among them.
        retry_after: The header of throttles: text, verbatim, or seconds; None for none.
        data_shape: "array" as documented, or "object" as the vendor's front ends read.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        tokens: Iterable[str] | None = None,
        expired_tokens: Iterable[str] = (),
        collections: Iterable[str] = (),
        data_shape: DataShape = "array",
        latency: Latency = 0.0,
        rate: float | None = None,
        burst: float | None = None,
        retry_after: str | float | None = "1",
        faults: Mapping[Fault, float] | None = None,
        seed: int = 0,
        max_recorded: int = 10_000,
        ssl: ssl_module.SSLContext | None = None,
    ) -> None:
        """Set a stand-in up; nothing is opened yet.

        Args:
            port: Where to listen; 0 for a free port.
            tokens: The tokens that are good; None when any is.
            expired_tokens: Tokens that get 403 token_expired.
            collections: Codes of collections that exist before anyone is enrolled.
            data_shape: "array" or "object".
            latency: Seconds that a search takes, or the lowest and the highest.
                Throttles and faults that replace the answer come at once.
            rate: Requests a second that are let through; None for no limit. Faults
                that replace the answer take nothing of it.
            burst: Requests that are let through at once; None for a second's worth.
            retry_after: The header of throttles: text, verbatim, or seconds, or None.
            faults: Probability by fault, for requests that the script leaves alone.
            seed: Start of every random decision: ids, latencies, faults.
            max_recorded: How many requests are remembered, the newest; 0 for none.
            ssl: Context of a server, with its certificate; None for plain HTTP.

        Raises:
            ValueError: A setting is out of its range.
        """
        super().__init__(
            tokens=tokens,
            expired_tokens=expired_tokens,
            collections=collections,
            data_shape=data_shape,
            latency=latency,
            rate=rate,
            burst=burst,
            retry_after=retry_after,
            faults=faults or {},
            seed=seed,
            max_recorded=max_recorded,
        )
        self._port = port
        self._ssl = ssl
        self._listener: asyncio.Server | None = None
        self._web: web.Server | None = None
        self._url: str | None = None

    async def __aenter__(self) -> Self:
        if self._url is not None:
            raise RuntimeError("a MockVerifik can be entered only once")
        server = web.Server(self._handle, handler_cancellation=True, access_log=None)

        def accept() -> asyncio.Protocol:
            self._connections += 1
            return server()

        self._web = server
        self._listener = await asyncio.get_running_loop().create_server(
            accept, _HOST, self._port, backlog=_BACKLOG, ssl=self._ssl
        )
        port = self._listener.sockets[0].getsockname()[1]
        scheme = "http" if self._ssl is None else "https"
        self._url = f"{scheme}://{_HOST}:{port}"
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._listener is None or self._web is None:
            return
        await end_server(self._listener, self._web)

    def __repr__(self) -> str:
        return f"<MockVerifik {self._url or 'not started'} hits={self._hits}>"

    @property
    def url(self) -> str:
        """Base URL of the server, without a slash at its end.

        Raises:
            RuntimeError: The server was not started.
        """
        if self._url is None:
            raise RuntimeError("MockVerifik is not started: use `with` or `async with`")
        return self._url

    @property
    def hits(self) -> int:
        """Requests that came in, on any path, those with faults included."""
        return self._hits

    @property
    def in_flight(self) -> int:
        """Requests that came in and are not answered yet."""
        return len(self._tasks)

    @property
    def max_in_flight(self) -> int:
        """The most requests that were in flight at once."""
        return self._max_in_flight

    @property
    def connections(self) -> int:
        """Connections accepted."""
        return self._connections

    @property
    def requests(self) -> tuple[RecordedRequest, ...]:
        """The newest requests, in the order in which they came in."""
        return () if self._log is None else self._log.snapshot()

    @property
    def latency(self) -> Latency:
        """Seconds that a search takes, or the lowest and the highest."""
        return self._chance.latency

    @latency.setter
    def latency(self, latency: Latency) -> None:
        self._chance.latency = latency

    @property
    def faults(self) -> Mapping[Fault, float]:
        """Probability by fault; set anew as a whole."""
        return self._chance.faults

    @faults.setter
    def faults(self, faults: Mapping[Fault, float]) -> None:
        self._chance.faults = faults

    def script(self, *faults: Fault | None) -> None:
        """Queue what the next requests get, one each; None is a normal answer."""
        self._chance.script(*faults)

    def replay(self, path: str | os.PathLike[str]) -> None:
        """Answer searches as recorded in a file of `AnswerRecorder`, from now on.

        A search is one of those if its picture is the same byte for byte, and so are
        its parameters. Scripts, faults, tokens, capacity and latency go before; all
        other searches are answered as always. Several files add up.

        Raises:
            OSError: The file can't be read.
            ValueError: A line of the file is damaged; it is named.
        """
        self._replies = {**self._replies, **load(pathlib.Path(path))}

    def enroll(
        self,
        person_id: str,
        image: bytes,
        *,
        name: str | None = None,
        collection_id: str | None = None,
        gender: str | None = None,
        date_of_birth: str | None = None,
        nationality: str | None = None,
    ) -> None:
        """Let searches for this picture, and for copies of it, find this person.

        Enrolling a person again adds a picture, and the collection. The first JPEG or
        PNG loads Pillow.

        Args:
            person_id: The id of the person.
            image: The encoded picture, bytes of any kind; only a digest and thumbnails
                are kept.
            name: Shown in the "object" shape, like the other personal fields.
            collection_id: The code of a collection, which exists from now on.
            gender: "M" or "F".
            date_of_birth: As "YYYY-MM-DD".
            nationality: A country.

        Raises:
            TypeError: The picture is not bytes.
            ValueError: The picture is empty.
        """
        person = Person(
            id=person_id,
            name=name,
            gender=gender,
            date_of_birth=date_of_birth,
            nationality=nationality,
            collections=() if collection_id is None else (collection_id,),
        )
        self._gallery.add(person, image)
