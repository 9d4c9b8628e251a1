"""One of every error class, with all logging and tracing on: nothing leaks."""

import asyncio
import copy
import logging
import pickle
import random
import socket

import aiohttp
import pytest
from support import OPTIONS, QUICK

from verifik_async import Probe, Timeouts, VerifikClient, errors
from verifik_async.testing import Fault, assert_no_leaks

TOKEN = "marker-of-the-token-51c2e9"
NAME = "Invented Marker-Person"
PICTURE = random.Random(5).randbytes(3_000)
PERSON = {"id": "p", "name": NAME, "score": 0.9}
# What nobody is meant to catch alone is made as one of the classes below it.
BASES = {"VerifikError", "TransportError"}


class Scene:
    """A client, its server, and everything that they leave behind."""

    def __init__(self, mock, folder):
        self.mock = mock
        self.journal = folder / "out.jsonl"
        self.traced = []

    def client(self, **settings):
        """Return a client that is traced, with logging of all that aiohttp tells."""
        return VerifikClient(
            TOKEN,
            **{
                "base_url": self.mock.url,
                "defaults": OPTIONS,
                "retry": QUICK,
                "trace_configs": [self._trace()],
                "on_attempt": self.traced.append,
                "on_search": lambda: self.traced.append,
                **settings,
            },
        )

    def _trace(self):
        config = aiohttp.TraceConfig()

        async def note(_session, _context, params):
            self.traced.append(repr(params))

        for name in (
            *("request_start", "request_end", "request_exception"),
            *(
                "connection_create_start",
                "connection_reuseconn",
                "request_headers_sent",
            ),
            "response_chunk_received",
        ):
            getattr(config, f"on_{name}").append(note)
        return config

    async def search(self, image=PICTURE, *faults, **settings):
        """Search once, with these faults for the requests of it."""
        self.mock.script(*faults * 4)
        async with self.client(**settings) as client:
            return await client.search_active_user(image)

    async def batch(self, *faults, **settings):
        """Search for two pictures, with a journal."""
        self.mock.script(*faults)
        probes = [Probe(PICTURE, key=key) for key in ("first", "second")]
        async with (
            self.client() as client,
            client.search_many(probes, journal=self.journal, **settings) as batch,
        ):
            return [outcome async for outcome in batch]


def answers(status, body=None, **settings):
    """Return a scene in which the service answers with that."""
    fault = Fault.status(status) if body is None else Fault.body(body, status=status)
    return lambda scene: scene.search(PICTURE, fault, **settings)


async def closed(scene):
    client = scene.client()
    await client.aclose()
    await client.search_active_user(PICTURE)


async def queue_full(scene):
    scene.mock.latency = 5
    async with scene.client(max_concurrency=1, max_waiting=0, close_grace=0) as client:
        first = asyncio.get_running_loop().create_task(
            client.search_active_user(PICTURE)
        )
        while not scene.mock.in_flight:
            await asyncio.sleep(0.01)
        try:
            await client.search_active_user(PICTURE)
        finally:
            first.cancel()
            await asyncio.wait([first])


async def refused(scene):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    await scene.search(base_url=url)


async def other_parameters(scene):
    await scene.batch()
    await scene.batch(min_score=0.9)


async def journal_locked(scene):
    async with (
        scene.client() as client,
        client.search_many([Probe(PICTURE, key=1)], journal=scene.journal),
    ):
        await scene.batch()


async def no_journal(scene):
    scene.journal.mkdir()
    await scene.batch()


SCENES = {
    "APIStatusError": answers(418, {"message": f"no tea for {TOKEN}"}),
    "AttemptTimeoutError": lambda scene: scene.search(
        PICTURE, Fault.stall(), timeouts=Timeouts(attempt=0.2)
    ),
    "AuthenticationError": answers(401, {"message": f"Bearer {TOKEN} is bad"}),
    "BatchStoppedError": lambda scene: scene.batch(Fault.status(402)),
    "ClientClosedError": closed,
    "ConfigurationError": lambda scene: scene.search(max_concurrency=0),
    "ConnectError": refused,
    "ConnectionLostError": lambda scene: scene.search(PICTURE, Fault.truncate(30)),
    "DeadlineExceededError": lambda scene: scene.search(
        PICTURE, Fault.stall(), timeouts=Timeouts(deadline=0.2)
    ),
    "FaceRejectedError": answers(422, {"message": "no_face_detected", "data": PERSON}),
    "ImageError": lambda scene: scene.search(PICTURE, max_image_bytes=2_000),
    "InvalidRequestError": answers(412, {"message": "only_images_in_base64"}),
    "JournalError": no_journal,
    "JournalLockedError": journal_locked,
    "JournalMismatchError": other_parameters,
    "MissingParameterError": answers(409),
    "NotFoundError": answers(404),
    "PaymentRequiredError": answers(402),
    "PermissionDeniedError": answers(403, {"message": f"forbidden for {TOKEN}"}),
    "QueueFullError": queue_full,
    "RateLimitedError": lambda scene: scene.search(
        PICTURE, Fault.status(429, retry_after=9_999)
    ),
    "RedirectError": lambda scene: scene.search(
        PICTURE, Fault.redirect(307, "https://elsewhere.example/")
    ),
    "ResponseShapeError": answers(200, {"data": [{**PERSON, "score": NAME}]}),
    "ResponseTooLargeError": answers(
        200, {"data": [PERSON] * 99}, max_response_bytes=9
    ),
    "ServerError": answers(500, {"message": "internal_error", "data": PERSON}),
}


@pytest.fixture
async def scene(mock, tmp_path):
    return Scene(mock, tmp_path)


def test_every_class_has_its_scene():
    """A new class does not go unnoticed."""
    assert set(SCENES) == set(errors.__all__) - BASES


@pytest.mark.parametrize("name", SCENES)
async def test_an_error_shows_nothing_and_survives_travel(name, scene, caplog):
    """In logs, trace, journal and the error itself; pickled and copied it is whole."""
    for logger in (None, "asyncio", "aiohttp", "aiohttp.client", "verifik_async"):
        caplog.set_level(logging.DEBUG, logger=logger)
    with pytest.raises(getattr(errors, name)) as caught:
        await SCENES[name](scene)
    error = caught.value
    assert type(error).__name__ == name
    journal = scene.journal.read_bytes() if scene.journal.is_file() else b""
    assert_no_leaks(
        [error, caplog.records, caplog.text, scene.traced, journal],
        token=TOKEN,
        images=[PICTURE],
        names=[NAME],
    )
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (type(twin), twin.args, str(twin)) == (
            type(error),
            error.args,
            str(error),
        )
        assert repr(vars(twin)) == repr(vars(error))
    deep = copy.deepcopy(error)
    assert vars(deep).keys() == vars(error).keys()
    assert (deep.charge, deep.attempts) == (error.charge, error.attempts)


async def test_a_success_shows_nothing(scene, caplog):
    """Nor does its journal, whose lines hold ids and scores only."""
    scene.mock.data_shape = "object"
    scene.mock.enroll("p", PICTURE, name=NAME)
    for logger in (None, "asyncio", "aiohttp", "aiohttp.client", "verifik_async"):
        caplog.set_level(logging.DEBUG, logger=logger)
    result = await scene.search()
    assert result.best is not None
    assert result.best.name == NAME
    outcomes = await scene.batch()
    assert [outcome.ok for outcome in outcomes] == [True, True]
    assert scene.traced
    assert_no_leaks(
        [result, outcomes, caplog.records, scene.traced, scene.journal.read_bytes()],
        token=TOKEN,
        images=[PICTURE],
        names=[NAME],
    )
