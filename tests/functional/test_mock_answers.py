"""What the stand-in answers to searches, good and bad."""

import base64
import io
import json
import random
import re
import time

import aiohttp
import pytest
from PIL import Image

from verifik_async.testing import MockVerifik

PATH = "/v2/face-recognition/search-active-user"
IMAGE = bytes(range(256))
GOOD = {
    "image": base64.b64encode(IMAGE).decode(),
    "os": "DESKTOP",
    "min_score": 0.7,
    "search_mode": "FAST",
}
OTHER = base64.b64encode(b"\x01" + IMAGE).decode()


@pytest.fixture
async def mock():
    async with MockVerifik() as server:
        yield server


@pytest.fixture
async def session():
    headers = {"Authorization": "Bearer token-1"}
    async with aiohttp.ClientSession(headers=headers) as made:
        yield made


async def search(session, mock, *, without=(), **fields):
    """Post the good search with changes and return status and decoded body."""
    body = {k: v for k, v in (GOOD | fields).items() if k not in without}
    async with session.post(mock.url + PATH, json=body) as response:
        assert response.headers["Content-Type"] == "application/json; charset=utf-8"
        return response.status, await response.json()


async def test_nobody_enrolled_is_an_empty_answer(session, mock):
    """A search of an empty gallery is a normal answer with the documented envelope."""
    status, body = await search(session, mock)
    assert status == 200
    assert list(body) == ["id", "data", "signature"]
    assert re.fullmatch(r"[A-Za-z0-9]{5}", body["id"])
    assert body["data"] == []
    assert body["signature"]["message"] == "Certified by Verifik.co"
    assert re.fullmatch(
        r"[A-Z][a-z]+ \d{1,2}, \d{4} \d{1,2}:\d\d [AP]M", body["signature"]["dateTime"]
    )


@pytest.mark.parametrize("name", ["image", "os", "min_score", "search_mode"])
async def test_missing_parameter(session, mock, name):
    """Each missing parameter is named in a 409."""
    status, body = await search(session, mock, without=[name])
    assert status == 409
    assert body == {"message": f'"{name}" is required', "code": "MissingParameter"}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("image", 5, '"image" must be a string'),
        ("image", "", '"image" is not allowed to be empty'),
        ("os", "LINUX", '"os" must be one of [ANDROID, IOS, DESKTOP]'),
        ("os", None, '"os" must be one of [ANDROID, IOS, DESKTOP]'),
        ("os", ["IOS"], '"os" must be one of [ANDROID, IOS, DESKTOP]'),
        ("min_score", 0.49, '"min_score" must be greater than or equal to 0.5'),
        ("min_score", 1.01, '"min_score" must be less than or equal to 1'),
        ("min_score", "0.7", '"min_score" must be a number'),
        ("min_score", True, '"min_score" must be a number'),
        ("min_score", None, '"min_score" must be a number'),
        ("search_mode", "fast", '"search_mode" must be one of [FAST, ACCURATE]'),
        ("collection_id", 7, '"collection_id" must be a string'),
        ("collection_id", "", '"collection_id" is not allowed to be empty'),
    ],
)
async def test_wrong_parameter(session, mock, name, value, message):
    """Each wrong parameter gets a 409 with the text of its rule."""
    status, body = await search(session, mock, **{name: value})
    assert status == 409
    assert body == {"message": message, "code": "MissingParameter"}


async def test_first_fault_of_the_table_wins(session, mock):
    """Parameters are looked at in the order of the documents' table."""
    status, body = await search(session, mock, without=["os", "search_mode"], image=1)
    assert (status, body["message"]) == (409, '"image" must be a string')
    _, body = await search(session, mock, without=["os", "search_mode"], min_score=9)
    assert body["message"] == '"os" is required'


@pytest.mark.parametrize("value", [0.5, 1, 1.0])
async def test_bounds_of_the_score_are_good(session, mock, value):
    """The range of min_score includes its ends."""
    assert (await search(session, mock, min_score=value))[0] == 200


@pytest.mark.parametrize(
    "image",
    [
        "QUJD" * 24,
        "data:image/png;base64," + "QUJD" * 40,
        "QUJD" * 40 + "Q",
        "QUJD" * 40 + "=QUJ",
        "QUJD" * 40 + "QUJD=",
        "QUJD" * 40 + "Q===",
        "QUJD\n" * 40,
        "QU-_" * 40,
        "QUJ\u00e9" * 40,
    ],
    ids=range(9),
)
async def test_image_that_is_no_base64(session, mock, image):
    """Short texts and whatever is not strict base64 get a 412."""
    status, body = await search(session, mock, image=image)
    assert status == 412
    assert body == {"message": "only_images_in_base64", "code": "ERROR"}


@pytest.mark.parametrize("image", ["QUJD" * 25, "QUJD" * 25 + "QUI=", "Q+/D" * 30])
async def test_image_that_is_base64(session, mock, image):
    """100 characters of base64 are an image."""
    assert (await search(session, mock, image=image))[0] == 200


@pytest.mark.parametrize(
    ("headers", "status", "body"),
    [
        ({}, 401, {"message": "Authentication required", "code": "UNAUTHORIZED"}),
        (
            {"Authorization": "Bearer "},
            401,
            {"message": "Authentication required", "code": "UNAUTHORIZED"},
        ),
        (
            {"Authorization": "Basic good"},
            401,
            {"message": "Authentication required", "code": "UNAUTHORIZED"},
        ),
        (
            {"Authorization": "Bearer unknown"},
            401,
            {"message": "Authentication required", "code": "UNAUTHORIZED"},
        ),
        (
            {"Authorization": "Bearer old"},
            403,
            {"message": "token_expired", "code": "FORBIDDEN"},
        ),
    ],
)
async def test_bad_tokens(headers, status, body):
    """No token and unknown ones get 401, expired ones 403, before any validation."""
    async with (
        MockVerifik(tokens=["good"], expired_tokens=["old"]) as mock,
        aiohttp.ClientSession(headers=headers) as session,
        session.post(mock.url + PATH, json={}) as response,
    ):
        assert response.status == status
        assert await response.json() == body
        assert mock.requests[0].token_ok is False


async def test_tokens_may_change_while_it_runs(session, mock):
    """A token can expire, and others be replaced, between two requests."""
    assert (await search(session, mock))[0] == 200
    mock.expired_tokens.add("token-1")
    assert (await search(session, mock))[0] == 403
    mock.expired_tokens.clear()
    mock.tokens = {"token-2"}
    assert (await search(session, mock))[0] == 401
    mock.tokens.add("token-1")
    assert (await search(session, mock))[0] == 200


async def test_an_equal_picture_matches(session, mock):
    """The enrolled picture is found with score 1, any other is not."""
    mock.enroll("person-1", IMAGE)
    assert (await search(session, mock))[1]["data"] == [{"id": "person-1", "score": 1}]
    assert (await search(session, mock, image=OTHER))[1]["data"] == []


async def test_several_pictures_and_several_people(session, mock):
    """A person may have two pictures, a picture two people; each is named once."""
    mock.enroll("person-1", IMAGE)
    mock.enroll("person-1", IMAGE)
    mock.enroll("person-1", b"\x01" + IMAGE)
    mock.enroll("person-2", IMAGE)
    both = (await search(session, mock))[1]["data"]
    assert [match["id"] for match in both] == ["person-1", "person-2"]
    one = (await search(session, mock, image=OTHER))[1]["data"]
    assert [match["id"] for match in one] == ["person-1"]


async def test_collection_cuts_the_gallery(session, mock):
    """Only people of the collection are found when one is named."""
    mock.enroll("person-1", IMAGE, collection_id="code-a")
    mock.enroll("person-2", IMAGE, collection_id="code-b")
    mock.enroll("person-2", IMAGE, collection_id="code-c")
    found = {}
    for code in ("code-a", "code-b", "code-c"):
        _, body = await search(session, mock, collection_id=code)
        found[code] = [match["id"] for match in body["data"]]
    assert found == {
        "code-a": ["person-1"],
        "code-b": ["person-2"],
        "code-c": ["person-2"],
    }


async def test_unknown_collection(session, mock):
    """A collection that does not exist is an error with a nested code."""
    status, body = await search(session, mock, collection_id="nowhere")
    assert status == 404
    assert body["data"]["code"] == "ERR_ENTITY_NOT_FOUND"


async def test_known_collection_without_people(session):
    """A collection can exist before anyone is in it."""
    async with MockVerifik(collections=["empty"]) as mock:
        assert (await search(session, mock, collection_id="empty"))[1]["data"] == []


async def test_object_shape(session):
    """The other shape holds whole persons and a liveness block."""
    async with MockVerifik(data_shape="object") as mock:
        mock.enroll(
            "person-1",
            IMAGE,
            name="Ada Example",
            collection_id="code-a",
            gender="F",
            date_of_birth="1990-01-15",
            nationality="Nowhere",
        )
        _, body = await search(session, mock)
        person = body["data"]["persons"][0]
        assert person | {"create_date": 0, "modified_date": 0} == {
            "id": "person-1",
            "name": "Ada Example",
            "gender": "F",
            "date_of_birth": "1990-01-15",
            "nationality": "Nowhere",
            "notes": None,
            "score": 1.0,
            "create_date": 0,
            "modified_date": 0,
            "thumbnails": [],
            "collections": ["code-a"],
        }
        assert body["data"]["liveness"]["status"] == "success"
        _, body = await search(session, mock, liveness_min_score=0.99, image=OTHER)
        assert body["data"]["persons"] == []
        assert body["data"]["liveness"]["passed"] is False


async def test_undocumented_fields(session, mock):
    """Unknown fields are let through, and one of them asks for the cost."""
    status, body = await search(session, mock, liveness_min_score=0.6, whatever=[1])
    assert status == 200
    assert "credits" not in body
    _, body = await search(session, mock, includeCost=True)
    assert set(body) >= {"credits", "creditsCharged", "charged", "featureCode"}


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "/v2/face-recognition/nowhere", 404, "NotFound"),
        ("GET", "/", 404, "NotFound"),
        ("GET", PATH, 405, "MethodNotAllowed"),
        ("GET", "/_mock/counts", 404, "NotFound"),
    ],
)
async def test_other_routes(session, mock, method, path, status, code):
    """Unknown routes and wrong methods get JSON errors, and are counted."""
    async with session.request(method, mock.url + path) as response:
        assert response.status == status
        assert (await response.json())["code"] == code
    assert mock.hits == 1


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("application/json", b"{", 400),
        ("application/json", b'{"image": NaN}', 400),
        ("application/json", b"[1]", 409),
        ("application/json", b"", 409),
        ("text/plain", json.dumps(GOOD).encode(), 409),
        ("Application/JSON; charset=utf-8", json.dumps(GOOD).encode(), 200),
    ],
)
async def test_bodies_that_are_no_json_object(
    session, mock, content_type, body, status
):
    """Only a JSON object of a JSON content type has parameters."""
    headers = {"Content-Type": content_type}
    async with session.post(mock.url + PATH, data=body, headers=headers) as response:
        assert response.status == status


async def test_large_bodies(session, mock):
    """A picture of 20 MiB is taken, a body far larger is refused."""
    size = 20 * 1024 * 1024
    good = json.dumps(GOOD | {"image": base64.b64encode(bytes(size)).decode()}).encode()
    headers = {"Content-Type": "application/json"}
    for body, status in ((good, 200), (bytes(33 * 1024 * 1024), 413)):
        async with session.post(
            mock.url + PATH, data=io.BytesIO(body), headers=headers
        ) as response:
            assert response.status == status
    assert mock.requests[0].image_bytes == size


async def test_chunked_body_and_expect(session, mock):
    """Bodies may come chunked, and after a 100 Continue."""

    async def parts():
        yield json.dumps(GOOD).encode()

    headers = {"Content-Type": "application/json"}
    async with session.post(
        mock.url + PATH, data=parts(), headers=headers, expect100=True
    ) as response:
        assert response.status == 200


async def test_a_copy_of_a_picture_matches(session, mock):
    """A JPEG saved again is found with a lower score, which min_score cuts."""
    draw = random.Random(5)
    image = Image.new("RGB", (64, 64))
    for _ in range(30):
        corner = (draw.randrange(64), draw.randrange(64))
        image.paste(draw.randrange(1 << 24), (*corner, *(edge + 16 for edge in corner)))
    files = []
    for quality in (90, 40):
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        files.append(file.getvalue())
    mock.enroll("person-1", files[0], collection_id="code-a")
    copy = {"image": base64.b64encode(files[1]).decode()}
    [match] = (await search(session, mock, **copy))[1]["data"]
    assert match["id"] == "person-1"
    assert 0.7 < match["score"] < 1
    assert (await search(session, mock, min_score=0.999, **copy))[1]["data"] == []
    assert (await search(session, mock))[1]["data"] == []


@pytest.mark.parametrize(("image", "error"), [(b"", ValueError), ("text", TypeError)])
async def test_enrolling_no_picture(mock, image, error):
    """What cannot be a picture is refused at once."""
    with pytest.raises(error, match="image"):
        mock.enroll("person-1", image)


@pytest.mark.parametrize(("age", "status"), [(60, 403), (-60, 200)])
async def test_token_that_says_when_it_expires(session, mock, age, status):
    """A JWT expires by its own claim, without being listed."""
    claims = {"exp": int(time.time()) - age}
    parts = (b'{"alg":"HS256"}', json.dumps(claims).encode(), b"signature")
    token = ".".join(base64.urlsafe_b64encode(p).rstrip(b"=").decode() for p in parts)
    headers = {"Authorization": f"Bearer {token}"}
    async with session.post(mock.url + PATH, json=GOOD, headers=headers) as response:
        assert response.status == status
        assert ((await response.json()).get("message") == "token_expired") == (age > 0)
    assert mock.requests[0].token_ok is (age < 0)
