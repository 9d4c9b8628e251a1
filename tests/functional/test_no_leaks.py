"""Token, picture and names: in no log, repr, str, args or traceback."""

import asyncio
import base64
import logging
import pickle
import random
import socket
import traceback

import aiohttp
import pytest
from support import OPTIONS, QUICK

from verifik_async import ConfigurationError, Timeouts, VerifikClient, VerifikError
from verifik_async.testing import Fault, MockVerifik, assert_no_leaks

TOKEN = "marker-of-the-token-51c2e9"
NAME = "Invented Marker-Person"
PICTURE = random.Random(5).randbytes(3_000)
TEXT = base64.b64encode(PICTURE).decode()

PERSON = {"id": "p", "name": NAME, "score": 0.9}
FAULTS = {
    "400": Fault.body({"error": f"bad {TEXT} of {TOKEN}"}, status=400),
    "401": Fault.body({"message": f"Bearer {TOKEN} is bad"}, status=401),
    "402": Fault.status(402),
    "403": Fault.body({"message": f"forbidden for {TOKEN}"}, status=403),
    "404": Fault.status(404),
    "412": Fault.body(
        {"message": "person_already_set", "data": {"name": NAME}}, status=412
    ),
    "429": Fault.status(429, retry_after="9999"),
    "500": Fault.body(b'{"data": {"name": "%s"' % NAME.encode(), status=500),
    "422": Fault.body({"message": "ERR_NO_FACE_DETECTED"}, status=422),
    "shape": Fault.body({"data": [{**PERSON, "score": NAME}]}),
    "large": Fault.body({"data": [{**PERSON, "notes": "x" * 60_000}]}),
    "redirect": Fault.redirect(307, f"https://user:{TOKEN}@example.com/{TOKEN}"),
    "lost": Fault.drop_before_headers(),
    "stall": Fault.stall(),
    "truncated": Fault.truncate(500),
    "garbage": Fault.garbage(),
}


def assert_clean(*records: object) -> None:
    """Fail if anything of a search is shown that must not be."""
    assert_no_leaks(records, token=TOKEN, images=[PICTURE], names=[NAME])


@pytest.fixture
def everything_logged(caplog):
    caplog.set_level(logging.DEBUG)
    for name in ("asyncio", "aiohttp", "aiohttp.client", "verifik_async"):
        caplog.set_level(logging.DEBUG, logger=name)
    return caplog


@pytest.mark.parametrize("kind", ["bytes", "text"])
@pytest.mark.parametrize("name", FAULTS)
async def test_errors_of_the_wire(name, kind, everything_logged):
    """Each error class that a service can provoke, with DEBUG on everywhere."""
    image = PICTURE if kind == "bytes" else TEXT
    async with (
        MockVerifik() as mock,
        VerifikClient(
            TOKEN,
            base_url=mock.url,
            defaults=OPTIONS,
            retry=QUICK,
            timeouts=Timeouts(attempt=0.2),
            max_response_bytes=50_000,
        ) as client,
    ):
        mock.script(*[FAULTS[name]] * 4)
        with pytest.raises(VerifikError) as caught:
            await client.search_active_user(image)
        assert_clean(client, mock.requests)
    assert_clean(caught.value)
    assert_clean(everything_logged.records, everything_logged.text)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    copied = pickle.loads(pickle.dumps(caught.value))
    assert vars(copied) == vars(caught.value)


async def test_a_search_that_is_given_up():
    """The frames of aiohttp are in its traceback as well."""
    async with (
        MockVerifik(latency=5) as mock,
        VerifikClient(
            TOKEN, base_url=mock.url, defaults=OPTIONS, close_grace=0
        ) as client,
        asyncio.TaskGroup() as tasks,
    ):
        search = tasks.create_task(client.search_active_user(PICTURE))
        while not mock.in_flight:
            await asyncio.sleep(0.01)
        search.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await search
    frames = traceback.extract_tb(caught.tb)
    assert any("aiohttp" in frame.filename for frame in frames)
    assert_clean(caught.value)


async def test_errors_before_the_wire(everything_logged):
    """Refused connections, and refused arguments next to a picture and a token."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    async with VerifikClient(
        TOKEN, base_url=url, defaults=OPTIONS, retry=QUICK, max_image_bytes=2_500
    ) as client:
        for image, arguments in (
            (PICTURE[:2000], {}),
            (PICTURE, {}),
            (TEXT, {}),
            (TEXT + "=", {}),
            (TEXT[:40], {}),
            (PICTURE, {"min_score": 2}),
            (TEXT, {"extra": {"os": 1}}),
        ):
            with pytest.raises(VerifikError) as caught:
                await client.search_active_user(image, **arguments)
            assert_clean(caught.value)
    assert_clean(everything_logged.records, everything_logged.text)


@pytest.mark.parametrize(
    "settings", [{"max_concurrency": 0}, {"token": TOKEN + "\n"}, {"retry": 5}]
)
def test_errors_of_the_constructor(settings):
    """A token beside a wrong setting stays masked, and so does a wrong token."""
    with pytest.raises(ConfigurationError) as caught:
        VerifikClient(**{"token": TOKEN, **settings})
    assert_clean(caught.value)


async def test_a_success_shows_no_person(everything_logged):
    """Of an answer only ids and scores are shown, by result and by matches."""
    async with (
        MockVerifik(data_shape="object") as mock,
        VerifikClient(TOKEN, base_url=mock.url, defaults=OPTIONS) as client,
    ):
        mock.enroll("p", PICTURE, name=NAME)
        result = await client.search_active_user(PICTURE)
    assert result.best is not None
    assert result.best.name == NAME
    assert_clean(result)
    assert_clean(everything_logged.records, everything_logged.text)


async def test_a_file_name_is_not_told(tmp_path, client):
    """File names may name persons."""
    for path in (tmp_path / f"{NAME}.jpg", tmp_path):
        with pytest.raises(VerifikError) as caught:
            await client.search_active_user(path)
        assert_no_leaks(caught.value, names=[NAME, str(tmp_path)])


def test_the_test_would_notice():
    """The search for leaks finds one where aiohttp's own error is chained."""

    async def leak() -> None:
        async with aiohttp.ClientSession() as session:
            await session.post("http://127.0.0.1:1", headers={"Authorization": TOKEN})

    with pytest.raises(aiohttp.ClientError) as caught:
        asyncio.run(leak())
    with pytest.raises(AssertionError):
        assert_clean(caught.value)
