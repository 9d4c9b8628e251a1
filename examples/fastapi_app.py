"""Search the face of a visitor: a web backend with FastAPI, and a small page.

`python examples/run.py fastapi` tries it with a stand-in; with the real service:
`VERIFIK_TOKEN=... uvicorn --app-dir examples fastapi_app:app`.
"""

import os
import pathlib
from typing import Any

from fastapi import FastAPI, Request, UploadFile
from fastapi.responses import FileResponse

from verifik_async import SearchOptions, VerifikClient
from verifik_async.integrations.fastapi import (
    Client,
    answer_errors,
    health,
    lifespan,
    while_there,
)

PAGE = pathlib.Path(__file__).with_name("page.html")
# What becomes of a search whose visitor has left: "cancel" saves what is still in the
# queue; "finish" is for who keeps the answer, since one on the wire may be charged.
WHEN_LEFT = os.environ.get("WHEN_LEFT", "cancel")


def make_client() -> VerifikClient:
    """Return the client of a server process: 32 searches at once, 200 may wait."""
    options = SearchOptions(os="DESKTOP", min_score=0.7, search_mode="FAST")
    return VerifikClient(defaults=options, max_concurrency=32, max_waiting=200)


app = FastAPI(lifespan=lifespan(make_client))
answer_errors(app)  # 503 with Retry-After when the queue is full, and so on


@app.post("/search")
async def search(
    request: Request, picture: UploadFile, client: Client
) -> dict[str, Any]:
    """Search for the face in an uploaded picture."""
    searching = client.search_active_user(picture.file)
    if WHEN_LEFT == "cancel":
        searching = while_there(request, searching)
    result = await searching
    return {"matches": [{"id": m.id, "score": m.score} for m in result.matches]}


@app.get("/health")
async def healthy(client: Client) -> dict[str, Any]:
    """Tell how the client is doing."""
    return health(client.stats())


@app.get("/")
async def page() -> FileResponse:
    """Show the page."""
    return FileResponse(PAGE)
