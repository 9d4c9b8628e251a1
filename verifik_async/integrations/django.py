"""A client for Django under ASGI; needs the extra `django`.

    def make_client():
        return VerifikClient(max_waiting=100)

    application = Lifespan(get_asgi_application(), make_client)

    @answer_errors
    async def search(request):
        picture = await uploaded(request, "picture")
        result = await client_of(request).search_active_user(picture)

Django itself does not answer the server's lifespan protocol, in which a client is
opened and closed; `Lifespan` does.
"""

import functools
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, ParamSpec, TypeAlias, TypeVar

from verifik_async import ConfigurationError, ImageError, VerifikClient, VerifikError
from verifik_async.integrations._answers import answer_for, health
from verifik_async.integrations._leaving import Finisher

try:
    from asgiref.sync import sync_to_async
    from django.core.handlers.asgi import ASGIRequest
    from django.http import HttpResponseBase, JsonResponse
except ImportError as error:
    raise ImportError(
        "verifik_async.integrations.django needs Django: "
        'pip install "verifik-async[django]"',
        name="django",
    ) from error

__all__ = ["Lifespan", "answer_errors", "client_of", "finish", "health", "uploaded"]

T = TypeVar("T")
P = ParamSpec("P")
_Message: TypeAlias = MutableMapping[str, Any]
_Receive: TypeAlias = Callable[[], Awaitable[_Message]]
_Send: TypeAlias = Callable[[_Message], Awaitable[None]]
_Application: TypeAlias = Callable[[Any, _Receive, _Send], Awaitable[None]]

_CLIENT, _FINISHER = "verifik", "verifik_finisher"
_MAX_BYTES: Final = 20 * 1024 * 1024  # as a client takes if nothing else is said


class Lifespan:
    """An ASGI application that gives a client to the one within.

    Args:
        application: Django's, of `get_asgi_application()`.
        make_client: Called in each server process as it starts.
    """

    def __init__(
        self, application: _Application, make_client: Callable[[], VerifikClient]
    ) -> None:
        self._application = application
        self._make_client = make_client

    async def __call__(self, scope: Any, receive: _Receive, send: _Send) -> None:
        """Serve one scope: Django's own, or the server's lifespan."""
        if scope["type"] == "lifespan":
            await self._live(scope["state"], receive, send)
        else:
            await self._application(scope, receive, send)

    async def _live(
        self, state: dict[str, Any], receive: _Receive, send: _Send
    ) -> None:
        await receive()  # the only message so far: lifespan.startup
        try:
            made = self._make_client()
        except Exception as error:
            # Unless it is told, servers take it that nobody speaks this protocol.
            failed = f"{type(error).__name__}: {error}"
            await send({"type": "lifespan.startup.failed", "message": failed})
            raise
        async with Finisher() as finisher, made as client:
            state.update({_CLIENT: client, _FINISHER: finisher})
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})


def client_of(request: ASGIRequest) -> VerifikClient:
    """Return the client that `Lifespan` made.

    Raises:
        ConfigurationError: it made none.
    """
    client: VerifikClient = _of_state(request, _CLIENT)
    return client


def _of_state(request: ASGIRequest, name: str) -> Any:
    state = _state(request)
    if name not in state:
        raise ConfigurationError(
            "there is no client: wrap the ASGI application in Lifespan(application, "
            "make_client), on a server that speaks the lifespan protocol (uvicorn)"
        )
    return state[name]


def _state(request: Any) -> dict[str, Any]:
    state: dict[str, Any] = getattr(request, "scope", {}).get("state", {})
    return state


def answer_errors(
    view: Callable[P, Awaitable[HttpResponseBase]],
) -> Callable[P, Awaitable[HttpResponseBase]]:
    """Decorate a view: the errors of searches get 422, 502, 503 or 504."""

    @functools.wraps(view)
    async def answering(*args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        try:
            return await view(*args, **kwargs)
        except VerifikError as error:
            told = answer_for(error, _state(args[0]).get(_CLIENT))
        return JsonResponse(told.body, status=told.status, headers=told.headers)

    return answering


async def uploaded(
    request: ASGIRequest, field: str, *, max_bytes: int = _MAX_BYTES
) -> bytes | None:
    """Return a file of a form, or None; parsed off the event loop.

    `request.FILES` would be parsed on the loop, which holds up everybody else for
    tens of milliseconds with a large picture.

    Args:
        request: Of the visitor.
        field: The name of the form's field.
        max_bytes: Of the file at most: Django takes any size, on disk; this is memory.

    Raises:
        ImageError: it is larger.
    """
    read = sync_to_async(_read, thread_sensitive=False)
    data = await read(request, field, max_bytes)
    if data is not None and len(data) > max_bytes:
        raise ImageError(f"the uploaded file is larger than {max_bytes} bytes")
    return data


def _read(request: ASGIRequest, field: str, max_bytes: int) -> bytes | None:
    file = request.FILES.get(field)
    return None if file is None else bytes(file.read(max_bytes + 1))


async def finish(request: ASGIRequest, search: Awaitable[T]) -> T:
    """Let a search go on to its end though the visitor leaves.

    Django cancels a view then, and with it the search: in the queue it costs nothing,
    on the wire it may be charged, and its answer is lost.

    Args:
        request: Of the visitor.
        search: What is awaited.
    """
    finisher: Finisher = _of_state(request, _FINISHER)
    return await finisher.finish(search)
