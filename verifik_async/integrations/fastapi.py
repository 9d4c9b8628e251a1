"""A client for FastAPI and Starlette; needs the extra `fastapi`.

    app = FastAPI(lifespan=lifespan(lambda: VerifikClient(max_waiting=100)))
    answer_errors(app)

    @app.post("/search")
    async def search(picture: UploadFile, client: Client) -> list[str]:
        result = await client.search_active_user(picture.file)
        return [match.id for match in result.matches]

Each server process has a client of its own: its limits count once per process.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Annotated, Any, TypeAlias, TypedDict, TypeVar

from verifik_async import ConfigurationError, VerifikClient, VerifikError
from verifik_async.integrations._answers import answer_for, health
from verifik_async.integrations._leaving import settled

try:
    from fastapi import Depends
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
except ImportError as error:
    raise ImportError(
        "verifik_async.integrations.fastapi needs FastAPI: "
        'pip install "verifik-async[fastapi]"',
        name="fastapi",
    ) from error

__all__ = ["Client", "answer_errors", "client_of", "health", "lifespan", "while_there"]

T = TypeVar("T")

# nginx's word for a visitor who left: nobody is there to read it, but logs are.
_GONE = 499


class State(TypedDict):
    """What requests find in their state."""

    verifik: VerifikClient


def lifespan(
    make_client: Callable[[], VerifikClient],
) -> Callable[[Any], AbstractAsyncContextManager[State]]:
    """Return a lifespan that makes a client, and closes it when the server stops.

    In a lifespan of your own: `async with lifespan(make)(app) as state: yield state`.

    Args:
        make_client: Called in each server process as it starts.
    """

    @asynccontextmanager
    async def of_client(_: Any) -> AsyncIterator[State]:
        async with make_client() as client:
            yield {"verifik": client}

    return of_client


def client_of(request: Request) -> VerifikClient:
    """Return the client that `lifespan` made.

    Raises:
        ConfigurationError: it made none.
    """
    client: VerifikClient | None = getattr(request.state, "verifik", None)
    if client is None:
        raise ConfigurationError(
            "there is no client: pass lifespan=lifespan(make_client) to the app, and "
            "in tests use `with TestClient(app)`"
        )
    return client


Client: TypeAlias = Annotated[VerifikClient, Depends(client_of)]


def answer_errors(app: Starlette) -> None:
    """Answer the errors of searches: 422, 502, 503 with Retry-After, 504."""

    async def answer(request: Request, error: Exception) -> Response:
        if not isinstance(error, VerifikError):
            raise error
        told = answer_for(error, getattr(request.state, "verifik", None))
        return JSONResponse(told.body, told.status, told.headers)

    app.add_exception_handler(VerifikError, answer)


async def while_there(request: Request, search: Awaitable[T]) -> T:
    """Search for as long as the visitor is there; then cancel.

    A search in the queue costs nothing then; one on the wire may be charged, and its
    answer is lost. Without this function searches go on to their end.

    Args:
        request: Of the visitor; its body must have been read.
        search: What is awaited.

    Raises:
        HTTPException: the visitor has left; status 499, which nobody will read.
    """
    gone = asyncio.timeout(None)
    async with asyncio.TaskGroup() as group:
        outcome = await settled(_watched(group, gone, request, search))
    if gone.expired() and isinstance(outcome.error, TimeoutError):
        raise HTTPException(_GONE, "the visitor has left")
    return outcome.unwrap()


async def _watched(
    group: asyncio.TaskGroup,
    scope: asyncio.Timeout,
    request: Request,
    search: Awaitable[T],
) -> T:
    async with scope:
        watching = group.create_task(_end_when_left(request, scope))
        try:
            return await search
        finally:
            watching.cancel()


async def _end_when_left(request: Request, scope: asyncio.Timeout) -> None:
    try:
        while (await request.receive())["type"] != "http.disconnect":
            pass
    except Exception:  # noqa: BLE001 - a server that can't tell costs no answer
        return
    scope.reschedule(asyncio.get_running_loop().time())
