"""Who is enrolled with the stand-in, and who matches a picture.

This is no face recogniser. Pictures equal byte for byte match with score 1.0. Where
Pillow is installed, altered copies of a picture match too, by how alike they look; see
`_likeness`. Another picture of the same face is a stranger.
"""

import functools
import hashlib
import threading
from collections.abc import Iterable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from ._likeness import Sketch

_SAME = 1.0
# No more than this for what is not equal, however alike it looks.
_BEST_COPY = 0.999
_DECIMALS = 4
# How files begin that are worth a look; for all others Pillow is not even loaded.
_JPEG_OR_PNG = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
# Rounded like the service's own: microseconds and no time zone.
_CREATED = "2024-01-16T15:44:00.000000"


@attrs.frozen(kw_only=True)
class Person:
    """Someone enrolled; the fields are the API's."""

    id: str
    name: str | None = None
    gender: str | None = None
    date_of_birth: str | None = None
    nationality: str | None = None
    collections: tuple[str, ...] = ()


@attrs.frozen
class Match:
    """A person with the score of the best of that person's pictures."""

    person: Person
    score: float

    def brief(self) -> dict[str, Any]:
        """Return what the documents show: id and score."""
        return {"id": self.person.id, "score": self.score}

    def full(self) -> dict[str, Any]:
        """Return the fields that the vendor's own front ends read."""
        person = self.person
        return {
            "id": person.id,
            "name": person.name,
            "gender": person.gender,
            "date_of_birth": person.date_of_birth,
            "nationality": person.nationality,
            "notes": None,
            "score": self.score,
            "create_date": _CREATED,
            "modified_date": _CREATED,
            "thumbnails": [],
            "collections": list(person.collections),
        }


class Gallery:
    """People, with digests and thumbnails of their pictures.

    The pictures themselves are not kept. An enrolled one takes about 40 kB.
    """

    def __init__(self, collections: Iterable[str] = ()) -> None:
        self.collections = set(collections)
        self._people: dict[str, Person] = {}
        self._ids_by_digest: dict[bytes, list[str]] = {}
        self._sketches: list[tuple[str, Sketch]] = []
        # People may be enrolled from several threads; searches take snapshots.
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        return bool(self._people)

    def add(self, person: Person, image: bytes) -> None:
        """Enrol a person, or one more picture of that person.

        The newer fields replace the older ones; collections add up.

        Raises:
            TypeError: The picture is not bytes.
            ValueError: The picture is empty.
        """
        check_image(image)
        with self._lock:
            self._add(person, image)

    def _add(self, person: Person, image: bytes) -> None:
        before = self._people.get(person.id)
        if before is not None:
            merged = dict.fromkeys(before.collections + person.collections)
            person = attrs.evolve(person, collections=tuple(merged))
        self._people[person.id] = person
        self.collections.update(person.collections)
        ids = self._ids_by_digest.setdefault(_digest(image), [])
        if person.id in ids:
            return
        ids.append(person.id)
        likeness = _likeness_for(image)
        sketch = likeness and likeness.sketch(image)
        if sketch:
            self._sketches.append((person.id, sketch))

    def search(
        self, image: bytes, min_score: float, collection_id: str | None = None
    ) -> list[Match]:
        """Return who matches the picture, best first, each person once.

        Args:
            image: The decoded picture.
            min_score: Scores below it are left out.
            collection_id: The code of the only collection to look in.
        """
        scores = dict.fromkeys(self._ids_by_digest.get(_digest(image), ()), _SAME)
        for person_id, score in self._look_alikes(image, collection_id):
            copy = round(min(score, _BEST_COPY), _DECIMALS)
            scores[person_id] = max(copy, scores.get(person_id, 0.0))
        found = (Match(self._people[who], score) for who, score in scores.items())
        if collection_id is not None:
            found = (m for m in found if collection_id in m.person.collections)
        return best_first(found, min_score)

    def _look_alikes(
        self, image: bytes, collection_id: str | None
    ) -> Iterable[tuple[str, float]]:
        rivals = list(self._sketches)
        if collection_id is not None:
            rivals = [
                (person_id, sketch)
                for person_id, sketch in rivals
                if collection_id in self._people[person_id].collections
            ]
        likeness = _likeness_for(image) if rivals else None
        probe = likeness and likeness.thumbnail(image)
        if not likeness or not probe:
            return ()
        scores = likeness.scores(probe, [sketch for _, sketch in rivals])
        return zip((person_id for person_id, _ in rivals), scores, strict=True)


def check_image(image: object) -> None:
    """Refuse what cannot be an encoded picture.

    Raises:
        TypeError: It is not bytes.
        ValueError: It is empty.
    """
    if not isinstance(image, bytes | bytearray | memoryview):
        kind = type(image).__name__
        raise TypeError(f"image must be bytes, an encoded picture, not {kind}")
    if not len(image):
        raise ValueError("image is empty")


def best_first(matches: Iterable[Match], min_score: float) -> list[Match]:
    """Leave out what is below the score and sort the rest; ties keep their order."""
    kept = [match for match in matches if match.score >= min_score]
    return sorted(kept, key=lambda match: match.score, reverse=True)


def _digest(image: bytes) -> bytes:
    return hashlib.sha256(image).digest()


def _likeness_for(image: bytes) -> ModuleType | None:
    """Return what compares such a picture; None when only equal ones can match."""
    return _likeness() if bytes(image[:8]).startswith(_JPEG_OR_PNG) else None


@functools.cache
def _likeness() -> ModuleType | None:
    # Loading Pillow takes longer than loading all of the stand-in.
    try:
        from . import _likeness as module  # noqa: PLC0415
    except ImportError:
        return None
    return module
