"""What every rival has to do, and the check that it did."""

import base64
import json
import random
from typing import Any

import attrs

from verifik_async import SearchOptions

PATH = "/v2/face-recognition/search-active-user"
TOKEN = "benchmark"  # noqa: S105 - the stand-in takes any
PERSON = "person-1"
OPTIONS = SearchOptions(os="DESKTOP", min_score=0.7, search_mode="FAST")

_PERSON_IN_JSON = json.dumps(PERSON).encode()
_OK = 200
_SEED = 20_240_116


class UnansweredError(Exception):
    """A search came back without the person that it was for."""


@attrs.frozen(kw_only=True)
class Job:
    """One picture to search for, again and again.

    Attributes:
        url: Base URL of the stand-in.
        picture: The encoded picture.
        concurrency: Searches in flight at once.
    """

    url: str
    picture: bytes = attrs.field(repr=False)
    concurrency: int

    @property
    def headers(self) -> dict[str, str]:
        """Headers that the API asks for."""
        return {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}

    def fields(self) -> dict[str, Any]:
        """Return the JSON fields of a search, the picture encoded anew."""
        return {
            "os": OPTIONS.os,
            "min_score": OPTIONS.min_score,
            "search_mode": OPTIONS.search_mode,
            "image": base64.b64encode(self.picture).decode(),
        }


def make_picture(size: int) -> bytes:
    """Return `size` bytes, the same in every run."""
    return random.Random(_SEED + size).randbytes(size)


def check_reply(status: int, body: bytes) -> None:
    """Check that a reply names the person who was searched for.

    Raises:
        UnansweredError: it does not.
    """
    if status != _OK or _PERSON_IN_JSON not in body:
        raise UnansweredError(f"status {status}, {len(body)} bytes")


def check_answer(answer: Any) -> None:
    """Check the same of an answer that its client has decoded.

    Raises:
        UnansweredError: it names somebody else, or nobody.
    """
    if [person["id"] for person in answer["data"]] != [PERSON]:
        raise UnansweredError("an answer without the person")
