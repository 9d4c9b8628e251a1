"""Search the face of a visitor: a web backend with Django under ASGI, in one file.

`python examples/run.py django` tries it with a stand-in; with the real service:
`VERIFIK_TOKEN=... uvicorn --app-dir examples django_app:application`.
"""

import os
import pathlib
import secrets

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.urls import path
from django.views.decorators.http import require_GET, require_POST

from verifik_async import SearchOptions, VerifikClient
from verifik_async.integrations.django import (
    Lifespan,
    answer_errors,
    client_of,
    finish,
    health,
    uploaded,
)

PAGE = pathlib.Path(__file__).with_name("page.html").read_text(encoding="utf-8")
# What becomes of a search whose visitor has left: "cancel" saves what is still in the
# queue; "finish" is for who keeps the answer, since one on the wire may be charged.
WHEN_LEFT = os.environ.get("WHEN_LEFT", "cancel")

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    ROOT_URLCONF=__name__,
    SECRET_KEY=secrets.token_hex(),
)


def make_client() -> VerifikClient:
    """Return the client of a server process: 32 searches at once, 200 may wait."""
    options = SearchOptions(os="DESKTOP", min_score=0.7, search_mode="FAST")
    return VerifikClient(defaults=options, max_concurrency=32, max_waiting=200)


@require_POST
@answer_errors
async def search(request: HttpRequest) -> HttpResponseBase:
    """Search for the face in an uploaded picture."""
    picture = await uploaded(request, "picture")
    if picture is None:
        return JsonResponse({"error": "picture is missing"}, status=400)
    searching = client_of(request).search_active_user(picture)
    if WHEN_LEFT == "finish":
        searching = finish(request, searching)
    result = await searching
    matches = [{"id": m.id, "score": m.score} for m in result.matches]
    return JsonResponse({"matches": matches})


@require_GET
async def healthy(request: HttpRequest) -> HttpResponseBase:
    """Tell how the client is doing."""
    return JsonResponse(health(client_of(request).stats()))


@require_GET
async def page(_: HttpRequest) -> HttpResponseBase:
    """Show the page."""
    return HttpResponse(PAGE)


urlpatterns = [path("search", search), path("health", healthy), path("", page)]
application = Lifespan(get_asgi_application(), make_client)
