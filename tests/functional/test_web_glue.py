"""What joins the client to web frameworks, apart from the examples' servers."""

import asyncio
import gc
import importlib
import io
import sys
import types
import weakref

import pytest
from support import client_of

from verifik_async import (
    ClientClosedError,
    ConfigurationError,
    DeadlineExceededError,
    ImageError,
    NotFoundError,
    QueueFullError,
    RateLimitedError,
    ServerError,
    VerifikError,
)
from verifik_async.integrations._answers import answer_for
from verifik_async.integrations._leaving import Finisher
from verifik_async.testing import Fault


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConfigurationError("os is required"), 500),
        (DeadlineExceededError("host:443"), 504),
        (QueueFullError("full"), 503),
        (ClientClosedError("closed"), 503),
        (ServerError("no", status=503), 502),
        (VerifikError("of some kind"), 502),
    ],
)
def test_statuses(error, status):
    """Each kind has its status, and its text stays inside."""
    told = answer_for(error, None)
    assert (told.status, told.body) == (status, {"error": type(error).__name__})
    assert ("Retry-After" in told.headers) == (status == 503)


@pytest.mark.parametrize(
    ("asked", "told"), [(0.2, "1"), (2.1, "3"), (7, "7"), (1e9, "60")]
)
def test_what_the_service_asked_for(asked, told):
    """Whole seconds, no fewer than it asked for, and no more than a minute."""
    error = RateLimitedError("busy", status=429, retry_after=asked)
    assert answer_for(error, None).headers == {"Retry-After": told}


async def test_a_queue_that_is_long(mock, image):
    """The time that the queue will take is told."""
    mock.latency = 0.5
    async with client_of(mock.url, max_concurrency=2, max_waiting=20) as client:
        await client.search_active_user(image)  # from now on it knows how long it takes
        async with asyncio.TaskGroup() as group:
            for _ in range(2 + 20):
                group.create_task(client.search_active_user(image))
            await asyncio.sleep(0.1)
            with pytest.raises(QueueFullError) as caught:
                await client.search_active_user(image)
            told = answer_for(caught.value, client)
            mock.latency = 0.0
    # 21 in the queue and 2 slots of half a second: 5.25.
    assert told.headers == {"Retry-After": "6"}


async def test_a_search_goes_on_without_its_caller(mock, image):
    """It is answered, and leaving the context waits for it."""
    mock.latency = 0.2
    async with Finisher() as finisher, client_of(mock.url) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await finisher.finish(client.search_active_user(image))
        assert client.stats().in_flight == 1
    assert client.stats().answered == mock.hits == 1


async def test_errors_of_a_search_that_is_finished(mock, image, caplog):
    """The caller gets it, and no other search ends by it."""
    mock.script(Fault.status(404), None)
    async with Finisher() as finisher, client_of(mock.url) as client:
        with pytest.raises(NotFoundError):
            await finisher.finish(client.search_active_user(image))
        with pytest.raises(ZeroDivisionError):
            await finisher.finish(broken())
        assert (await finisher.finish(client.search_active_user(image))).matches == ()
    assert caplog.text == ""


async def test_an_error_that_nobody_is_there_to_see(mock, image, caplog):
    """Its class and what it may have cost are logged."""
    mock.script(Fault.status(404))
    async with client_of(mock.url) as client, Finisher() as finisher:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await finisher.finish(late_failure(client, image))
    assert (
        "a search whose visitor left ended in NotFoundError (answered)" in caplog.text
    )


async def late_failure(client, image):
    """Search in vain, after a while."""
    await asyncio.sleep(0.1)
    return await client.search_active_user(image)


async def broken():
    """Fail as code of a user may."""
    return 1 / 0


async def test_an_error_keeps_no_picture(mock):
    """When it is forgotten, so is what was searched for, without the collector."""

    class Upload(io.BytesIO):
        """A file that can be watched."""

    mock.script(Fault.status(404))
    gc.disable()
    try:
        async with Finisher() as finisher, client_of(mock.url) as client:
            upload = Upload(bytes(500))
            seen = weakref.ref(upload)
            with pytest.raises(NotFoundError):
                await finisher.finish(client.search_active_user(upload))
            del upload
            assert seen() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("name", ["fastapi", "django"])
def test_a_framework_that_is_missing(monkeypatch, name):
    """The line that installs it is told."""
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(
        sys.modules, f"verifik_async.integrations.{name}", raising=False
    )
    with pytest.raises(ImportError, match=rf'pip install "verifik-async\[{name}\]"'):
        importlib.import_module(f"verifik_async.integrations.{name}")


# -- FastAPI ---------------------------------------------------------------------------


@pytest.fixture
def fastapi():
    """The module, imported before the event loop is watched."""
    pytest.importorskip("fastapi")
    return importlib.import_module("verifik_async.integrations.fastapi")


class Request:
    """A visitor who leaves at a time."""

    def __init__(self, leaves_after):
        self.leaves_after = leaves_after

    async def receive(self):
        """Return that the visitor has left."""
        await asyncio.sleep(self.leaves_after)
        return {"type": "http.disconnect"}


async def test_while_there(mock, image, fastapi):
    """A visitor who stays gets the result, or the error as it is."""
    stays = Request(60)
    async with client_of(mock.url) as client:
        search = client.search_active_user
        assert (await fastapi.while_there(stays, search(image))).matches == ()
        mock.script(Fault.status(404))
        with pytest.raises(NotFoundError):
            await fastapi.while_there(stays, search(image))
        mock.script(Fault.stall(1))
        with pytest.raises(DeadlineExceededError):
            await fastapi.while_there(stays, search(image, deadline=0.1))
        with pytest.raises(ZeroDivisionError):
            await fastapi.while_there(stays, broken())


async def test_a_visitor_who_has_left(mock, image, fastapi):
    """The search is cancelled, and the answer is for the log alone."""
    mock.latency = 5
    async with client_of(mock.url) as client:
        with pytest.raises(fastapi.HTTPException) as caught:
            await fastapi.while_there(Request(0.1), client.search_active_user(image))
        assert caught.value.status_code == 499
        assert client.stats().in_flight == 0


async def test_a_server_that_can_not_tell_who_has_left(mock, image, fastapi):
    """The search goes on to its end: what watches the visitor costs no answer."""

    class Broken:
        async def receive(self):
            raise RuntimeError("Unexpected message received: http.request")

    mock.latency = 0.1
    async with client_of(mock.url) as client:
        search = client.search_active_user(image)
        assert (await fastapi.while_there(Broken(), search)).matches == ()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="no task is eager before 3.12")
async def test_a_visitor_who_has_left_before(mock, image, fastapi):
    """It is noticed as well where tasks run as soon as they are made."""

    class Gone:
        async def receive(self):
            return {"type": "http.disconnect"}

    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    mock.latency = 5
    async with client_of(mock.url) as client:
        with pytest.raises(fastapi.HTTPException):
            await fastapi.while_there(Gone(), client.search_active_user(image))


async def test_a_server_that_cancels(mock, image, fastapi):
    """Being cancelled from outside is not taken for a visitor who left."""
    mock.latency = 5
    async with client_of(mock.url) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                search = client.search_active_user(image)
                await fastapi.while_there(Request(60), search)


def test_an_app_without_a_lifespan():
    """The remedy is told."""
    fastapi = pytest.importorskip("fastapi")
    glue = pytest.importorskip("verifik_async.integrations.fastapi")
    testclient = pytest.importorskip("starlette.testclient")
    app = fastapi.FastAPI()
    glue.answer_errors(app)

    @app.get("/")
    async def search(client: glue.Client):
        return str(client)

    visitor = testclient.TestClient(app)
    answer = visitor.get("/")
    assert (answer.status_code, answer.json()) == (500, {"error": "ConfigurationError"})
    with pytest.raises(ConfigurationError, match=r"lifespan=lifespan\(make_client\)"):
        glue.client_of(fastapi.Request({"type": "http"}))


# -- Django ----------------------------------------------------------------------------


async def test_a_django_server_that_can_not_start():
    """The server is told why: it would go on without a client."""
    glue = pytest.importorskip("verifik_async.integrations.django")

    def make_client():
        raise ConfigurationError("token is missing")

    async def receive():
        return {"type": "lifespan.startup"}

    async def send(message):
        sent.append(message)

    sent = []
    lifespan = glue.Lifespan(None, make_client)
    with pytest.raises(ConfigurationError):
        await lifespan({"type": "lifespan", "state": {}}, receive, send)
    [message] = sent
    assert message["type"] == "lifespan.startup.failed"
    assert message["message"] == "ConfigurationError: token is missing"


def test_a_django_request_without_a_lifespan():
    """The remedy is told."""
    glue = pytest.importorskip("verifik_async.integrations.django")
    with pytest.raises(ConfigurationError, match=r"Lifespan\(application, make_client"):
        glue.client_of(object())


async def test_a_large_upload_is_not_read_into_memory():
    """A picture of just the limit is; of a larger one hardly more is looked at."""
    glue = pytest.importorskip("verifik_async.integrations.django")

    class Upload(io.BytesIO):
        def read(self, size=-1):
            taken.append(size)
            return super().read(size)

    taken = []
    request = types.SimpleNamespace(FILES={"picture": Upload(b"a" * 100)})
    assert await glue.uploaded(request, "picture", max_bytes=100) == b"a" * 100
    request.FILES["picture"].seek(0)
    with pytest.raises(ImageError, match="larger than 99 bytes"):
        await glue.uploaded(request, "picture", max_bytes=99)
    assert taken == [101, 100]
    assert await glue.uploaded(request, "none") is None
