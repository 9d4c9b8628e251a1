"""What the stand-in reads out of tokens."""

import base64
import json

import pytest

from verifik_async.testing._jwt import expiry
from verifik_async.testing._rules import check_token


def part(data):
    """Return base64 of the URL alphabet without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def jwt(payload, header=b'{"alg":"HS256"}', signature=b"\xfb\xff" * 16):
    """Return a token with this payload."""
    text = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return ".".join(part(data) for data in (header, text, signature))


GOOD = jwt({"exp": 5, "who": "\u00ff\u00fe?>"})


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        (GOOD, 5),
        (jwt({"exp": 1.5}), 1.5),
        (jwt({"exp": -1}), -1),
        (jwt({"exp": 5}, signature=b""), 5),
        (jwt({"exp": "5"}), None),
        (jwt({"exp": True}), None),
        (jwt({"exp": None}), None),
        (jwt({}), None),
        (jwt([5]), None),
        (jwt(b"no json"), None),
        (jwt(b"\xff"), None),
        (jwt(b""), None),
        (jwt(b"[" * 100_000), None),
        (GOOD + ".", None),
        (GOOD.rpartition(".")[0], None),
        (GOOD + "=", None),
        (GOOD + "+/", None),
        ("!" + GOOD, None),
        ("opaque", None),
        ("..", None),
    ],
    ids=range(20),
)
def test_expiry(token, expected):
    """Three parts of base64url with a number in the middle one are needed."""
    assert expiry(token) == expected


@pytest.mark.parametrize(("now", "status"), [(4.9, None), (5.0, 403), (9e9, 403)])
@pytest.mark.parametrize("tokens", [None, [GOOD]])
def test_a_token_expires_by_itself(tokens, now, status):
    """From its `exp` on it gets 403, listed as good or not."""
    refusal = check_token(f"Bearer {GOOD}", tokens, (), now)
    assert (refusal and refusal.status) == status
    assert refusal is None or refusal.message == "token_expired"
