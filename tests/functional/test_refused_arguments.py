"""Bad input: an error that names the argument and the remedy, nothing on the wire."""

import math
import pathlib

import pytest
from support import OPTIONS, TOKEN

from verifik_async import (
    ConfigurationError,
    ImageError,
    Probe,
    SearchOptions,
    VerifikClient,
)

PICTURE = bytes(range(256))

ARGUMENTS = [
    ({"min_score": 0.49}, "min_score must be a number from 0.5 to 1"),
    ({"min_score": 1.01}, "min_score must be a number from 0.5 to 1"),
    ({"min_score": math.nan}, "min_score must be a number from 0.5 to 1"),
    ({"min_score": "0.7"}, "min_score must be a number"),
    ({"min_score": True}, "min_score must be a number"),
    ({"os": "LINUX"}, "os must be one of"),
    ({"os": "android"}, "os must be one of"),
    ({"os": 1}, "os must be one of"),
    ({"search_mode": "SLOW"}, "search_mode must be one of"),
    ({"collection_id": 5}, "collection_id must be text"),
    ({"extra": {"os": "IOS"}}, "extra must not hold os"),
    ({"extra": {"a": math.nan}}, "extra must hold JSON"),
    ({"extra": {"a": object()}}, "extra must hold JSON"),
    ({"extra": [1]}, "extra must be a mapping"),
    ({"deadline": 0}, "deadline must be a positive number of seconds"),
    ({"deadline": "1"}, "deadline must be a positive number of seconds"),
    ({"timeouts": 5}, "timeouts must be Timeouts"),
    ({"retry": 5}, "retry must be RetryPolicy"),
]

PICTURES = [
    (b"", "image is empty"),
    (bytearray(), "image is empty"),
    ("photo.jpg", "pathlib.Path"),
    ("/srv/photos/" + "a" * 200 + ".jpg", "pathlib.Path"),
    ("https://example.com/" + "a" * 100, "no base64"),
    ("A" * 99, "99 characters"),
    ("A" * 101, "padding"),
    ("A" * 100 + "====", "padding"),
    ("Ä" * 100, "no base64"),
    ("data:image/png," + "A" * 100, "data URI"),
    (None, "not NoneType"),
    (5, "not int"),
    ([b"x"], "not list"),
    (pathlib.Path("does-not-exist.jpg"), "no such file"),
    (pathlib.Path(), "directory"),
    (bytes(1001), "too large"),
    ("A" * 1400, "too large"),
]


@pytest.mark.parametrize(("arguments", "message"), ARGUMENTS)
async def test_arguments(arguments, message, client, mock):
    """An argument out of its range is refused before anything is sent."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        await client.search_active_user(PICTURE, **arguments)
    assert isinstance(caught.value, ValueError)
    assert caught.value.charge == "not_sent"
    assert mock.connections == 0


@pytest.mark.parametrize("name", ["os", "min_score", "search_mode"])
async def test_a_required_argument_that_nobody_gave(name, mock):
    """The API has no defaults: the error says where to set one."""
    given = {"os": "IOS", "min_score": 0.5, "search_mode": "FAST"}
    del given[name]
    async with VerifikClient(
        TOKEN, base_url=mock.url, defaults=SearchOptions(**given)
    ) as client:
        with pytest.raises(ConfigurationError) as caught:
            await client.search_active_user(PICTURE)
    assert str(caught.value) == (
        f"{name} is required: pass it or set VerifikClient(defaults=SearchOptions(...))"
    )
    assert mock.connections == 0


@pytest.mark.parametrize(("picture", "message"), PICTURES)
async def test_pictures(picture, message, mock):
    """A picture that is none is refused before anything is sent."""
    async with VerifikClient(
        TOKEN, base_url=mock.url, defaults=OPTIONS, max_image_bytes=1000
    ) as client:
        for image in (picture, Probe(picture)):
            with pytest.raises(ImageError, match=message) as caught:
                await client.search_active_user(image)
            assert isinstance(caught.value, ValueError)
            assert "image" in str(caught.value)
    assert mock.connections == 0


async def test_a_file_that_is_too_large_or_empty(tmp_path, mock):
    """A file is measured before it is read."""
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "large.jpg").write_bytes(bytes(1001))
    async with VerifikClient(
        TOKEN, base_url=mock.url, defaults=OPTIONS, max_image_bytes=1000
    ) as client:
        with pytest.raises(ImageError, match="empty"):
            await client.search_active_user(tmp_path / "empty.jpg")
        with pytest.raises(ImageError, match="1001 bytes of at most 1000"):
            await client.search_active_user(tmp_path / "large.jpg")
    assert mock.connections == 0


SETTINGS = [
    ({"token": ""}, "token is empty"),
    ({"token": "Bearer "}, "token is empty"),
    ({"token": "a\r\nX: y"}, "token holds line breaks"),
    ({"token": "añb"}, "token holds"),
    ({"token": 5}, "token must be text"),
    ({"base_url": ""}, "base_url"),
    ({"base_url": "ftp://api.verifik.co"}, "base_url"),
    ({"base_url": "api.verifik.co"}, "base_url"),
    ({"base_url": "https://u:p@api.verifik.co"}, "base_url"),
    ({"base_url": "http://api.verifik.co"}, "allow_insecure_http"),
    ({"base_url": "http://127.0.0.1.example.com"}, "allow_insecure_http"),
    ({"max_concurrency": 0}, "max_concurrency"),
    ({"max_concurrency": True}, "max_concurrency"),
    ({"max_waiting": -1}, "max_waiting"),
    ({"max_image_bytes": 1.5}, "max_image_bytes"),
    ({"max_response_bytes": 0}, "max_response_bytes"),
    ({"rate_limit": 20}, "rate_limit must be RateLimit"),
    ({"defaults": {"os": "IOS"}}, "defaults must be SearchOptions"),
    ({"timeouts": 30}, "timeouts must be Timeouts"),
    ({"retry": 4}, "retry must be RetryPolicy"),
    ({"session": object()}, "session must be an aiohttp.ClientSession"),
    ({"ssl": False}, "ssl must be an ssl.SSLContext"),
    ({"proxy": "proxy:3128"}, "proxy must be an http"),
    ({"trace_configs": [1]}, "trace_configs"),
    ({"on_attempt": 5}, "on_attempt must be callable"),
    ({"on_search": 5}, "on_search must be callable"),
    ({"close_grace": -1}, "close_grace"),
]


@pytest.mark.parametrize(("settings", "message"), SETTINGS)
def test_settings(settings, message):
    """A wrong setting is refused when the client is made, without a loop."""
    with pytest.raises(ConfigurationError, match=message):
        VerifikClient(**{"token": TOKEN, **settings})


async def test_no_token_at_all(mock):
    """The environment is read at first use, and its variables are named."""
    client = VerifikClient(base_url=mock.url, defaults=OPTIONS)
    with pytest.raises(ConfigurationError, match="VERIFIK_TOKEN or VERIFIK_CLIENT_JWT"):
        await client.search_active_user(PICTURE)
    await client.aclose()
    assert mock.connections == 0
