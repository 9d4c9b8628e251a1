"""Who is enrolled with the stand-in, and who matches a picture.

This is no face recogniser. Two pictures match when they are equal byte for byte, with
score 1.0; the same face in another picture is a stranger.
"""

import hashlib
from collections.abc import Iterable
from typing import Any

import attrs

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
    """People and digests of their pictures; the pictures are not kept."""

    def __init__(self, collections: Iterable[str] = ()) -> None:
        self.collections = set(collections)
        self._people: dict[str, Person] = {}
        self._ids_by_digest: dict[bytes, list[str]] = {}

    def __bool__(self) -> bool:
        return bool(self._people)

    def add(self, person: Person, image: bytes) -> None:
        """Enrol a person, or one more picture of that person.

        The newer fields replace the older ones; collections add up.
        """
        before = self._people.get(person.id)
        if before is not None:
            merged = dict.fromkeys(before.collections + person.collections)
            person = attrs.evolve(person, collections=tuple(merged))
        self._people[person.id] = person
        self.collections.update(person.collections)
        ids = self._ids_by_digest.setdefault(_digest(image), [])
        if person.id not in ids:
            ids.append(person.id)

    def search(
        self, image: bytes, min_score: float, collection_id: str | None = None
    ) -> list[Match]:
        """Return who matches the picture, best first.

        Args:
            image: The decoded picture.
            min_score: Scores below it are left out.
            collection_id: The code of the only collection to look in.
        """
        ids = self._ids_by_digest.get(_digest(image), ())
        found = [Match(self._people[person_id], 1.0) for person_id in ids]
        if collection_id is not None:
            found = [m for m in found if collection_id in m.person.collections]
        return best_first(found, min_score)


def best_first(matches: Iterable[Match], min_score: float) -> list[Match]:
    """Leave out what is below the score and sort the rest; ties keep their order."""
    kept = [match for match in matches if match.score >= min_score]
    return sorted(kept, key=lambda match: match.score, reverse=True)


def _digest(image: bytes) -> bytes:
    return hashlib.sha256(image).digest()
