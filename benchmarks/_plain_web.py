"""The FastAPI example as it is often written: bare aiohttp, the picture in `json=`."""

import base64
import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from fastapi import FastAPI, Request, UploadFile

from ._job import OPTIONS, PATH, TOKEN


@contextlib.asynccontextmanager
async def _lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    connector = aiohttp.TCPConnector(limit=32)  # as many as the example has slots
    async with aiohttp.ClientSession(
        os.environ["VERIFIK_BASE_URL"], headers=headers, connector=connector
    ) as session:
        yield {"session": session}


app = FastAPI(lifespan=_lifespan)


@app.post("/search")
async def search(request: Request, picture: UploadFile) -> dict[str, Any]:
    """Search for the face in an uploaded picture."""
    fields = {
        "os": OPTIONS.os,
        "min_score": OPTIONS.min_score,
        "search_mode": OPTIONS.search_mode,
        "image": base64.b64encode(await picture.read()).decode(),
    }
    async with request.state.session.post(PATH, json=fields) as answer:
        answer.raise_for_status()
        found: dict[str, Any] = await answer.json()
    return {"matches": found["data"]}


@app.get("/health")
async def healthy() -> dict[str, Any]:
    """Tell that it is there."""
    return {}
