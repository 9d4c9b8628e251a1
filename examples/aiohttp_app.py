"""Search the face of a visitor: a web backend with aiohttp.web.

`python examples/run.py aiohttp` tries it with a stand-in; with the real service:
`VERIFIK_TOKEN=... python examples/aiohttp_app.py 8000`.
"""

import os
import pathlib
import sys
from typing import IO

from aiohttp import web

from verifik_async import SearchOptions, SearchResult, VerifikClient
from verifik_async.integrations.aiohttp_web import (
    CLIENT,
    answer_errors,
    client_context,
    finish,
    health,
)

PAGE = pathlib.Path(__file__).with_name("page.html")
# What becomes of a search whose visitor has left: "cancel" saves what is still in the
# queue; "finish" is for who keeps the answer, since one on the wire may be charged.
WHEN_LEFT = os.environ.get("WHEN_LEFT", "cancel")


def make_client() -> VerifikClient:
    """Return the client of a server process: 32 searches at once, 200 may wait."""
    options = SearchOptions(os="DESKTOP", min_score=0.7, search_mode="FAST")
    return VerifikClient(defaults=options, max_concurrency=32, max_waiting=200)


async def search(request: web.Request) -> web.Response:
    """Search for the face in an uploaded picture."""
    picture = (await request.post()).get("picture")
    if not isinstance(picture, web.FileField):
        raise web.HTTPBadRequest(text="picture is missing")
    searching = search_in(picture.file, request.app[CLIENT])
    if WHEN_LEFT == "finish":
        searching = finish(request, searching)
    result = await searching
    matches = [{"id": m.id, "score": m.score} for m in result.matches]
    return web.json_response({"matches": matches})


async def search_in(file: IO[bytes], client: VerifikClient) -> SearchResult:
    """Search, then close the file: for a handler that is cancelled nobody does."""
    with file:
        return await client.search_active_user(file)


async def healthy(request: web.Request) -> web.Response:
    """Tell how the client is doing."""
    return web.json_response(health(request.app[CLIENT].stats()))


async def page(_: web.Request) -> web.FileResponse:
    """Show the page."""
    return web.FileResponse(PAGE)


def make_app() -> web.Application:
    """Return the application."""
    app = web.Application(middlewares=[answer_errors], client_max_size=20 * 1024**2)
    app.cleanup_ctx.append(client_context(make_client))
    app.router.add_post("/search", search)
    app.router.add_get("/health", healthy)
    app.router.add_get("/", page)
    return app


if __name__ == "__main__":
    # Without handler_cancellation a handler goes on when its visitor has left.
    web.run_app(
        make_app(), host="127.0.0.1", port=int(sys.argv[1]), handler_cancellation=True
    )
