"""What a server that is not ours sees of a search."""

import asyncio
import base64
import io
import json
import random

import pytest
from support import OPTIONS, TOKEN
from support.raw_server import RawRequest, raw_server

from verifik_async import Probe, SearchOptions, VerifikClient, __version__
from verifik_async._images import PIECE, SLICE

BOUNDARIES = [1, 2, 3, 99, SLICE - 1, SLICE, SLICE + 1, 2 * SLICE, 2 * SLICE + 2]
FILE_BOUNDARIES = [1, SLICE, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 2]


def picture(size: int) -> bytes:
    return random.Random(size).randbytes(size)


async def seen_of(image: object, **arguments: object) -> RawRequest:
    """Search once and return the request as the server saw it."""
    async with (
        raw_server() as server,
        VerifikClient(TOKEN, base_url=server.url, defaults=OPTIONS) as client,
    ):
        result = await client.search_active_user(image, **arguments)
        assert result.matches == ()
    (request,) = server.requests
    return request


def sent_image(request: RawRequest) -> bytes:
    return base64.b64decode(json.loads(request.body)["image"], validate=True)


async def test_method_path_and_headers(image):
    """The request line and each header are as the API wants them, once."""
    request = await seen_of(image)
    assert request.start_line == (
        "POST /v2/face-recognition/search-active-user HTTP/1.1"
    )
    assert request.header("Authorization") == f"Bearer {TOKEN}"
    assert request.header("Content-Type") == "application/json"
    assert request.header("Accept") == "application/json"
    assert request.header("User-Agent").startswith(f"verifik_async/{__version__} ")
    assert request.header("Content-Length") == str(len(request.body))
    assert request.header("Transfer-Encoding") is None
    assert request.header("Expect") is None
    assert request.header("Cookie") is None


async def test_fields(image):
    """The body holds the documented fields, and none that was not given."""
    request = await seen_of(image)
    fields = json.loads(request.body)
    assert fields.pop("image") == base64.b64encode(image).decode()
    assert fields == {"os": "DESKTOP", "min_score": 0.7, "search_mode": "FAST"}


async def test_arguments_go_before_defaults_and_a_probe_before_both(image):
    """Probe, then call, then client."""
    probe = Probe(image, min_score=0.9, extra={"from": "probe"})
    request = await seen_of(
        probe, os="IOS", min_score=0.6, collection_id="c-1", extra={"from": "call"}
    )
    fields = json.loads(request.body)
    del fields["image"]
    assert fields == {
        "os": "IOS",
        "min_score": 0.9,
        "search_mode": "FAST",
        "collection_id": "c-1",
        "from": "probe",
    }


@pytest.mark.parametrize("given", [None, "taken away"])
async def test_none_takes_a_default_collection_away(given, image):
    """`collection_id=None` searches all persons, whatever the default is."""
    defaults = SearchOptions(
        os="IOS", min_score=1, search_mode="ACCURATE", collection_id="default"
    )
    async with (
        raw_server() as server,
        VerifikClient(TOKEN, base_url=server.url, defaults=defaults) as client,
    ):
        arguments = {} if given is None else {"collection_id": None}
        await client.search_active_user(image, **arguments)
    fields = json.loads(server.requests[0].body)
    assert fields.get("collection_id") == ("default" if given is None else None)
    assert fields["min_score"] == 1.0


@pytest.mark.parametrize("size", BOUNDARIES)
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, io.BytesIO])
async def test_bytes_are_exact_around_every_slice_boundary(size, kind):
    """What is decoded from the wire is the picture, whatever it came in."""
    data = picture(size)
    request = await seen_of(kind(data))
    assert sent_image(request) == data


@pytest.mark.parametrize("size", FILE_BOUNDARIES)
async def test_files_are_exact_around_every_piece_boundary(size, tmp_path):
    """A file in one piece or in several is the same picture on the wire."""
    path = tmp_path / "probe.jpg"
    path.write_bytes(picture(size))
    request = await seen_of(path)
    assert sent_image(request) == picture(size)


@pytest.mark.parametrize("size", [75, SLICE, SLICE + 1, 2 * SLICE + 2])
async def test_base64_text_is_passed_on_as_it_is(size):
    """Text is sent without data-URI prefix and white space, otherwise untouched."""
    text = base64.encodebytes(picture(size)).decode()
    request = await seen_of("data:image/jpeg;base64," + text)
    assert json.loads(request.body)["image"] == text.replace("\n", "")
    assert sent_image(request) == picture(size)


@pytest.mark.parametrize(
    "collection_id",
    [
        "",
        " ",
        '"',
        "\\",
        "\n\0",
        "ñandú",
        "人",
        "😀",
        "\ud800",
        "</script>",
        "x" * 9000,
    ],
)
async def test_any_text_as_collection(collection_id, image):
    """The collection's code is sent verbatim, whatever characters it has."""
    request = await seen_of(image, collection_id=collection_id)
    assert json.loads(request.body)["collection_id"] == collection_id
    assert sent_image(request) == image


async def test_extra_fields_are_sent_as_they_are(image):
    """The way out for fields that are not documented."""
    extra = {"liveness_min_score": 0.65, "includeCost": True, "a": [None, {"b": "ñ"}]}
    request = await seen_of(image, extra=extra)
    fields = json.loads(request.body)
    assert {name: fields[name] for name in extra} == extra


async def test_base_url_with_a_path(image):
    """A proxy may serve the API below a path of its own."""
    async with (
        raw_server() as server,
        VerifikClient(
            TOKEN, base_url=f"{server.url}/proxy/", defaults=OPTIONS
        ) as client,
    ):
        await client.search_active_user(image)
    assert server.requests[0].start_line.split()[1] == (
        "/proxy/v2/face-recognition/search-active-user"
    )


async def test_a_retry_sends_the_whole_body_again(tmp_path):
    """Each attempt has a fresh body, of a file, a file object or bytes."""

    async def busy_once(request, writer):
        status = b"503 Busy" if request.number % 2 else b"200 OK"
        writer.write(
            b"HTTP/1.1 %s\r\nContent-Length: 11\r\n\r\n" % status + b'{"data":[]}'
        )

    data = picture(2 * SLICE + 1)
    path = tmp_path / "probe.jpg"
    path.write_bytes(data)
    async with (
        raw_server(busy_once) as server,
        VerifikClient(TOKEN, base_url=server.url, defaults=OPTIONS) as client,
    ):
        for image in (data, path, io.BytesIO(data)):
            result = await client.search_active_user(image)
            assert result.call.attempts == 2
    assert [sent_image(request) for request in server.requests] == [data] * 6


async def test_a_file_object_is_read_from_its_start_rewound_and_left_open():
    """A file object that was just written to serves again and again."""
    file = io.BytesIO()
    file.write(picture(500))
    for _ in range(2):
        assert sent_image(await seen_of(file)) == picture(500)
        assert file.tell() == 0
    assert not file.closed


async def test_the_picture_may_be_changed_by_the_caller_meanwhile(image):
    """A mutable buffer is searched as it was when the search was asked for."""
    data = bytearray(image)
    async with (
        raw_server() as server,
        VerifikClient(TOKEN, base_url=server.url, defaults=OPTIONS) as client,
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(client.search_active_user(data))
        await asyncio.sleep(0)  # it has begun, and waits for its connection
        data[:] = bytes(len(data))
    assert sent_image(server.requests[0]) == image


def test_slices_are_multiples_of_three_bytes():
    """Else there would be padding in the middle of the picture."""
    assert SLICE % 3 == 0
    assert PIECE % SLICE == 0
