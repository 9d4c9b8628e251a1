"""Answers are recorded without what is personal, and replayed."""

import asyncio
import base64
import hashlib
import json
import logging

import aiohttp
import pytest
import requests
from support import TOKEN, client_of

from verifik_async import (
    AuthenticationError,
    MissingParameterError,
    NotFoundError,
    RedirectError,
    RetryPolicy,
    ServerError,
)
from verifik_async.testing import (
    AnswerRecorder,
    Fault,
    MockVerifik,
    assert_no_leaks,
)

ONCE = RetryPolicy(attempts=1)
NAME = "Ada Example"
PERSON = {"name": NAME, "gender": "F", "date_of_birth": "1815-12-10"}


@pytest.fixture
async def upstream(image):
    """What takes the place of the real service."""
    async with MockVerifik(tokens=[TOKEN]) as made:
        made.enroll("person-1", image, **PERSON, nationality="Atlantis")
        yield made


@pytest.fixture
def path(tmp_path):
    return tmp_path / "answers.jsonl"


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


async def replayed(path, image, **how):
    """Search at a stand-in that knows nobody but a recording."""
    async with MockVerifik() as mock, client_of(mock.url, retry=ONCE) as client:
        await asyncio.to_thread(mock.replay, path)
        return await client.search_active_user(image, **how)


@pytest.mark.parametrize("shape", ["array", "object"])
async def test_record_and_replay(shape, upstream, path, image, caplog):
    """What is replayed is what the service said, but for the personal fields."""
    caplog.set_level(logging.DEBUG)
    upstream.data_shape = shape
    async with (
        AnswerRecorder(path, upstream.url) as recorder,
        client_of(recorder.url) as client,
    ):
        live = await client.search_active_user(image)
        assert repr(recorder) == f"<AnswerRecorder {recorder.url}>"
    assert live.best.name == (NAME if shape == "object" else None)
    again = await replayed(path, image)
    assert (again.id, again.signature) == (live.id, live.signature)
    assert [(m.id, m.score) for m in again.matches] == [("person-1", 1.0)]
    assert again.best.name is None
    assert again.liveness == live.liveness
    [line] = lines(path)
    assert line["request"] == {
        "image_sha256": hashlib.sha256(image).hexdigest(),
        "os": "DESKTOP",
        "min_score": 0.7,
        "search_mode": "FAST",
    }
    told = [path.read_text(), caplog.records, repr(recorder), repr(line)]
    names = [NAME, "1815", "Atlantis", "gender", "thumbnails"]
    assert_no_leaks(told, token=TOKEN, images=[image], names=names)


async def test_others_are_answered_as_always(upstream, path, image):
    """Another picture, score or collection is another search; faults go before."""
    async with (
        AnswerRecorder(path, upstream.url) as recorder,
        client_of(recorder.url) as client,
    ):
        await client.search_active_user(image)
    assert (await replayed(path, image[::-1])).matches == ()
    assert (await replayed(path, image, min_score=0.8)).matches == ()
    assert (await replayed(path, image, extra={"includeCost": True})).matches == ()
    assert (await replayed(path, image, extra={"note": "text"})).matches
    async with MockVerifik(tokens=["x"]) as mock, client_of(mock.url) as client:
        await asyncio.to_thread(mock.replay, path)
        with pytest.raises(AuthenticationError):
            await client.search_active_user(image)
        mock.tokens = None
        mock.script(Fault.status(503))
        assert (await client.search_active_user(image)).best.id == "person-1"
        assert [one.status for one in mock.requests] == [401, 503, 200]
        mock.reset()
        assert (await client.search_active_user(image)).best.id == "person-1"


async def test_errors_are_replayed(upstream, path, image):
    """A status, its code and message, and what the service asks to wait."""
    async with (
        AnswerRecorder(path, upstream.url) as recorder,
        client_of(recorder.url, retry=ONCE) as client,
    ):
        with pytest.raises(NotFoundError):
            await client.search_active_user(image, collection_id="unknown")
        upstream.script(Fault.status(409, message='"os" is required'))
        with pytest.raises(MissingParameterError):
            await client.search_active_user(image, min_score=0.9)
        page = Fault.html(500)
        upstream.script(page)
        with pytest.raises(ServerError):
            await client.search_active_user(image, min_score=1)
    with pytest.raises(NotFoundError, match="was not found"):
        await replayed(path, image, collection_id="unknown")
    with pytest.raises(MissingParameterError, match='"os" is required'):
        await replayed(path, image, min_score=0.9)
    with pytest.raises(ServerError):
        await replayed(path, image, min_score=1)
    assert lines(path)[-1]["answer"] == {
        "status": 500,
        "retry_after": None,
        "body": None,
    }


async def test_a_success_replaces_an_error(upstream, path, image):
    """What a client sends again after a throttle is replayed as the answer only."""
    upstream.script(Fault.status(429, retry_after="0.01"))
    async with (
        AnswerRecorder(path, upstream.url) as recorder,
        client_of(recorder.url) as client,
    ):
        for _ in range(3):
            await client.search_active_user(image)
    statuses = [
        (a["status"], a["retry_after"]) for a in (x["answer"] for x in lines(path))
    ]
    assert statuses == [(429, "0.01"), (200, None)]
    assert (await replayed(path, image)).call.attempts == 1


async def test_two_at_once_and_a_second_run(upstream, path, image):
    """Searches at once have a line each; a later run adds what is new."""
    upstream.latency = 0.05

    async def record(*images):
        async with (
            AnswerRecorder(path, upstream.url) as recorder,
            client_of(recorder.url) as client,
            asyncio.TaskGroup() as tasks,
        ):
            for one in images:
                tasks.create_task(client.search_active_user(one))

    await record(image, image[:-1], image, image[:-1])
    assert upstream.max_in_flight == 4
    assert len(lines(path)) == 2
    path.write_text(path.read_text().rstrip("\n"))  # as some editors do
    await record(image, image[:-2])
    assert len(lines(path)) == 3


async def test_redirects_are_not_followed(upstream, path, image):
    """Picture and token go where the caller sent them, and nowhere else."""
    async with MockVerifik() as elsewhere:
        upstream.script(Fault.redirect(307, elsewhere.url))
        async with (
            AnswerRecorder(path, upstream.url) as recorder,
            client_of(recorder.url) as client,
        ):
            with pytest.raises(RedirectError):
                await client.search_active_user(image)
        assert elsewhere.hits == 0
    assert elsewhere.url not in path.read_text()
    with pytest.raises(RedirectError):
        await replayed(path, image)


async def test_no_answer_no_line(upstream, path, image):
    """A lost connection is told as a gateway would, and not kept."""
    upstream.script(Fault.drop_before_headers())
    async with (
        AnswerRecorder(path, upstream.url) as recorder,
        client_of(recorder.url, retry=ONCE) as client,
    ):
        with pytest.raises(ServerError, match="upstream_unreachable"):
            await client.search_active_user(image)
    assert lines(path) == []


async def test_what_is_no_search(upstream, path):
    """Other routes are not sent on; a body without a picture is, and is not kept."""
    async with AnswerRecorder(path, upstream.url) as recorder:
        get, post = requests.get, requests.post
        other = await asyncio.to_thread(get, recorder.url + "/v2/credits", timeout=5)
        route = recorder.url + "/v2/face-recognition/search-active-user"
        odd = await asyncio.to_thread(
            post,
            route,
            json=[1],
            headers={"Authorization": f"Bearer {TOKEN}"},
            timeout=5,
        )
        large = await asyncio.to_thread(post, route, data=bytes(33 << 20), timeout=20)
    assert (other.status_code, odd.status_code, large.status_code) == (404, 409, 413)
    assert upstream.hits == 1
    assert lines(path) == []


def test_synchronous(path):
    """Recorder and stand-in serve a test without an event loop."""
    picture = base64.b64encode(bytes(300)).decode()
    search = {"image": picture, "os": "IOS", "min_score": 1, "search_mode": "FAST"}
    route = "/v2/face-recognition/search-active-user"
    headers = {"Authorization": "Bearer any"}

    def send(server):
        told = requests.post(
            server.url + route, json=search, headers=headers, timeout=9
        )
        return told.json()

    with MockVerifik() as service, AnswerRecorder(path, service.url) as recorder:
        first = send(recorder)
    with MockVerifik(seed=1) as mock:
        mock.replay(path)
        search["min_score"] = 1.0
        assert send(mock) == first


LONG = base64.b64encode(bytes(range(256))).decode()


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        (
            {"data": [{"_id": {"$oid": "a"}, "score": "0.9", "notes": "n", "x": 1}]},
            {"data": [{"_id": {"$oid": "a"}, "score": "0.9"}]},
        ),
        (
            {"data": {"search": [{"id": 5, "images": [LONG]}], "name": NAME}},
            {"data": {"search": [{"id": 5}]}},
        ),
        (
            {"data": {"liveness": {"result": {"passed": True, "face": LONG}}}},
            {"data": {"liveness": {"result": {"passed": True}}}},
        ),
        (
            {"data": {"code": "E", "message": LONG, "detail": [{"loc": [NAME]}]}},
            {"data": {"code": "E", "message": None}},
        ),
        ({"data": NAME, "signature": "s", "id": LONG}, None),
        ({"data": [NAME, [{"id": "b"}], {"id": ["c"], "score": {"a": 1}}]}, None),
        ([{"id": "a"}], None),
    ],
)
async def test_what_is_kept(answer, kept, upstream, path, image):
    """What is not on the list is left out, wherever it is."""
    upstream.script(Fault.body(answer))
    async with (
        AnswerRecorder(path, upstream.url) as recorder,
        client_of(recorder.url) as client,
    ):
        await client.search_all([image])
    [line] = lines(path)
    if kept is not None:
        assert line["answer"]["body"] == kept
    assert_no_leaks(path.read_text(), images=[bytes(range(256))], names=[NAME])


async def test_deep_answers(upstream, path, image):
    """An answer without an end of levels is kept as far as it makes sense."""
    upstream.script(Fault.body(b'{"data":' + b"[" * 900 + b"]" * 900 + b"}"))
    async with (
        AnswerRecorder(path, upstream.url) as recorder,
        client_of(recorder.url) as client,
    ):
        await client.search_all([image])
    assert lines(path)[0]["answer"]["body"] == {"data": []}


GOOD = (
    '{"request":{"image_sha256":"00","os":"IOS"},'
    '"answer":{"status":200,"retry_after":null,"body":{"id":"a"}}}'
)


@pytest.mark.parametrize(
    "bad",
    [
        GOOD[:-1],
        "[]",
        "7",
        "",
        GOOD.replace("200", '"secret"'),
        GOOD.replace("200", "100"),
        GOOD.replace("200", "200.0"),
        GOOD.replace('"00"', "null"),
        GOOD.replace("null", "[]"),
        GOOD.replace('"answer"', '"secret"'),
    ],
)
def test_a_damaged_file(bad, path):
    """The line is named and not shown, by who replays and by who would add to it."""
    path.write_text(f"{GOOD}\n{bad}\n{GOOD}\n")
    with pytest.raises(ValueError, match=r"line 2 of .*answers\.jsonl") as caught:
        MockVerifik().replay(path)
    assert_no_leaks(caught.value, names=["secret"])
    with pytest.raises(ValueError, match="line 2 of"):
        AnswerRecorder(path).__enter__()


def test_bytes_that_are_no_text(path):
    """So is a file that is none at all."""
    path.write_bytes(b"\xff\xfe\n")
    with pytest.raises(ValueError, match="line 1 of"):
        MockVerifik().replay(path)


@pytest.mark.parametrize(
    "upstream",
    [
        "http://api.verifik.co",
        "http://10.0.0.1",
        "ftp://127.0.0.1",
        "api.verifik.co",
        "https://user:pass@api.verifik.co",
        "https://api.verifik.co?a=b",
        "https://",
    ],
)
def test_refused_upstreams(upstream):
    """Plain http would show the token; the rest is no base URL."""
    with pytest.raises(ValueError, match="upstream must be"):
        AnswerRecorder("answers.jsonl", upstream)


@pytest.mark.parametrize("host", ["localhost", "[::1]", "127.9.9.9"])
def test_upstreams_on_this_machine(host):
    """They may speak plain http."""
    recorder = AnswerRecorder("answers.jsonl", f"http://{host}:8080/")
    with pytest.raises(RuntimeError, match="not started"):
        _ = recorder.url


def test_life_of_a_recorder(path, tmp_path):
    """Entered once; a file that can't be made is an error at the start."""
    recorder = AnswerRecorder(path)
    with recorder:
        pass
    with pytest.raises(RuntimeError, match="only once"), recorder:
        pass
    with pytest.raises(FileNotFoundError), AnswerRecorder(tmp_path / "no" / "file"):
        pass


async def test_a_file_that_can_not_be_written(upstream, tmp_path, image):
    """The answer is passed on all the same, and the error told at the end."""
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "answers.jsonl"
    with pytest.raises(FileNotFoundError):
        async with (
            AnswerRecorder(path, upstream.url) as recorder,
            client_of(recorder.url) as client,
        ):
            path.unlink()
            folder.rmdir()
            assert (await client.search_active_user(image)).best.id == "person-1"


async def test_the_client_goes_away(upstream, path, image):
    """A search that nobody waits for is given up."""
    upstream.latency = 60
    async with (
        AnswerRecorder(path, upstream.url) as recorder,
        client_of(recorder.url, retry=ONCE) as client,
    ):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await client.search_active_user(image)
        while upstream.in_flight:
            await asyncio.sleep(0.001)


async def test_a_body_that_can_not_be_read(upstream, path):
    """One that is not compressed as announced is not sent on."""
    async with (
        AnswerRecorder(path, upstream.url) as recorder,
        aiohttp.ClientSession(headers={"Content-Encoding": "gzip"}) as session,
    ):
        route = recorder.url + "/v2/face-recognition/search-active-user"
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await session.post(route, data=b"x" * 99)
    assert upstream.hits == 0
