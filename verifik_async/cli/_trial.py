"""What `demo` does: draw, enrol, search, and judge every answer."""

import asyncio
import io
import math
import random
import time
from collections.abc import Sequence

import attrs
from PIL import Image

from verifik_async import Outcome, Probe, SearchOptions, VerifikClient
from verifik_async.cli import _faces, _show
from verifik_async.testing import MockProcess

# What the stand-in takes for a search: without it, it would answer in no time, and
# searching side by side would gain nothing.
SERVICE_SECONDS = (0.02, 0.06)
OPTIONS = SearchOptions(os="DESKTOP", min_score=0.7, search_mode="FAST")

VERDICTS = ("found", "missed", "refused", "wrong", "failed")


@attrs.frozen(kw_only=True)
class Plan:
    """How large the trial is."""

    people: int
    probes: int
    strangers: int
    concurrency: int
    seed: int


@attrs.frozen
class Face:
    """A picture, and the person who is on it; None for a stranger."""

    label: str
    picture: bytes = attrs.field(repr=False)
    person: str | None


@attrs.frozen(kw_only=True)
class Checked:
    """One search and what came of it.

    Attributes:
        face: What was searched.
        found: Id of the best match, or None.
        score: Its score, or None.
        error: Class name of the error, or None.
        seconds: From its beginning to its end, waiting for a slot included.
    """

    face: Face
    found: str | None = None
    score: float | None = None
    error: str | None = None
    seconds: float

    @property
    def verdict(self) -> str:
        """One of VERDICTS; wrong is another person, or anybody for a stranger."""
        if self.error is not None:
            return "failed"
        if self.found is None:
            return "refused" if self.face.person is None else "missed"
        return "found" if self.found == self.face.person else "wrong"


@attrs.frozen(kw_only=True)
class Report:
    """Everything that was measured."""

    plan: Plan
    url: str
    enrolled: Sequence[Face] = attrs.field(repr=False)
    searches: Sequence[Checked] = attrs.field(repr=False)
    drawing_s: float
    searching_s: float
    max_in_flight: int
    connections: int

    def count(self, verdict: str) -> int:
        """Return how many searches ended so."""
        return sum(search.verdict == verdict for search in self.searches)

    @property
    def throughput(self) -> float:
        """Searches a second."""
        return len(self.searches) / self.searching_s

    @property
    def latencies(self) -> list[float]:
        """Seconds of the answered searches, in order of size."""
        return sorted(s.seconds for s in self.searches if s.error is None)

    @property
    def as_expected(self) -> bool:
        """Whether every probe was found and every stranger refused."""
        good = self.count("found") + self.count("refused")
        return good == len(self.searches)


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest value that `share` of all do not exceed; NaN for none."""
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


async def hold(plan: Plan, mock: MockProcess) -> Report:
    """Run the trial against a stand-in that runs already."""
    began = time.perf_counter()
    people, strangers = await _draw(plan)
    drawn = time.perf_counter()
    for person in people:
        await mock.enroll(str(person.person), person.picture)
    faces = await _probes(plan, people) + strangers
    random.Random(plan.seed).shuffle(faces)  # noqa: S311 - an order, not a secret
    start = time.perf_counter()
    searches = await _search_all(plan, mock.url, faces)
    end = time.perf_counter()
    counts = await mock.counts()
    return Report(
        plan=plan,
        url=mock.url,
        enrolled=people,
        searches=searches,
        drawing_s=drawn - began,
        searching_s=end - start,
        max_in_flight=counts["max_in_flight"],
        connections=counts["connections"],
    )


async def _draw(plan: Plan) -> tuple[list[Face], list[Face]]:
    total = plan.people + plan.strangers
    # No seed twice: a stranger must not be one of the persons.
    rng = random.Random(plan.seed)  # noqa: S311 - pictures, not secrets
    seeds = rng.sample(range(10**9), total)
    pictures = []
    with _show.progress("drawing faces", total) as step:
        for seed in seeds:
            pictures.append(await asyncio.to_thread(_picture, seed))
            step()
    people = [
        Face(f"person-{number:03}", picture, f"person-{number:03}")
        for number, picture in enumerate(pictures[: plan.people], 1)
    ]
    strangers = [
        Face(f"stranger {number}", picture, None)
        for number, picture in enumerate(pictures[plan.people :], 1)
    ]
    return people, strangers


def _picture(seed: int) -> bytes:
    return _faces.encode(_faces.draw_face(seed))


async def _probes(plan: Plan, people: Sequence[Face]) -> list[Face]:
    probes = []
    with _show.progress("altering", plan.probes) as step:
        for number in range(plan.probes):
            person = people[number % len(people)]
            picture = await asyncio.to_thread(_altered, person.picture, number)
            label = f"probe {number + 1}"
            probes.append(attrs.evolve(person, label=label, picture=picture))
            step()
    return probes


def _altered(picture: bytes, seed: int) -> bytes:
    with Image.open(io.BytesIO(picture)) as image:
        return _faces.encode(_faces.alter(image, seed))


async def _search_all(plan: Plan, url: str, faces: Sequence[Face]) -> list[Checked]:
    token = "demo"  # noqa: S105 - the stand-in takes any
    probes = (Probe(face.picture, context=face) for face in faces)
    done = []
    async with VerifikClient(
        token, base_url=url, defaults=OPTIONS, max_concurrency=plan.concurrency
    ) as client:
        with _show.progress("searching", len(faces)) as step:
            async with client.search_many(probes) as outcomes:
                async for outcome in outcomes:
                    done.append(_checked(outcome))
                    step()
    return done


def _checked(outcome: Outcome) -> Checked:
    best = outcome.result.best if outcome.result else None
    return Checked(
        face=outcome.context,
        found=best.id if best else None,
        score=best.score if best else None,
        error=type(outcome.error).__name__ if outcome.error else None,
        seconds=outcome.call.elapsed_s,
    )
