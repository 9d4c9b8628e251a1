"""A client for aiohttp.web.

    app = web.Application(middlewares=[answer_errors])
    app.cleanup_ctx.append(client_context(lambda: VerifikClient(max_waiting=100)))

    async def search(request):
        form = await request.post()
        result = await request.app[CLIENT].search_active_user(form["picture"].file)

Each server process has a client of its own: its limits count once per process.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, TypeVar

from aiohttp import web

from verifik_async import VerifikClient, VerifikError
from verifik_async.integrations._answers import answer_for, health
from verifik_async.integrations._leaving import Finisher

__all__ = ["CLIENT", "answer_errors", "client_context", "finish", "health"]

T = TypeVar("T")
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

CLIENT: Final = web.AppKey("verifik", VerifikClient)
_FINISHER: Final = web.AppKey("verifik_finisher", Finisher)


def client_context(
    make_client: Callable[[], VerifikClient],
) -> Callable[[web.Application], AsyncIterator[None]]:
    """Return what makes `app[CLIENT]` and closes it; for `app.cleanup_ctx`.

    Args:
        make_client: Called as the application starts.
    """

    async def of_client(app: web.Application) -> AsyncIterator[None]:
        async with Finisher() as finisher, make_client() as client:
            app[CLIENT], app[_FINISHER] = client, finisher
            yield

    return of_client


@web.middleware
async def answer_errors(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Answer the errors of searches: 422, 502, 503 with Retry-After, 504."""
    try:
        return await handler(request)
    except VerifikError as error:
        told = answer_for(error, request.config_dict.get(CLIENT))
    return web.json_response(told.body, status=told.status, headers=told.headers)


async def finish(request: web.Request, search: Awaitable[T]) -> T:
    """Let a search go on to its end though the visitor leaves.

    It is of use where handlers are cancelled then: `web.run_app(app,
    handler_cancellation=True)`. Without that they never are.

    Args:
        request: Of the visitor.
        search: What is awaited.
    """
    return await request.config_dict[_FINISHER].finish(search)
