"""From outcomes to the text of a report: one HTML file that needs no other.

Rows are written as they come: no more of a journal is in memory than one outcome.
"""

import base64
import hashlib
import html
import json
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from string import Template
from typing import Any, TypeAlias

import attrs

from verifik_async import Outcome, VerifikError
from verifik_async.cli._exit import printable, remedy

_IDS = "This page holds ids of persons: keep it as safe as the journal."
_FACES = (
    "This page holds biometric data, faces and ids of persons: show it only to those "
    "who may see them, and delete it when it has served."
)
# Only the page's own script and style may run, and nothing may be fetched.
_POLICY = (
    "default-src 'none'; script-src '{script}'; style-src '{style}'; img-src data:; "
    "base-uri 'none'; form-action 'none'"
)
# Inside strings, where alone they are in JSON, these mean the same; none of them can
# end the script element or begin a comment in it.
_ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "<>&"}
_COUNTS = ("probes", "answered", "with_match", "failed")
_ANSWERED = -1

# Class, reason, charge and remedy of failures that are told as one.
_Cause: TypeAlias = tuple[str, str, str, str]


@attrs.define(kw_only=True)
class Page:
    """A report in the making.

    Attributes:
        name: What it is a report of.
        pictures: Data URIs by key, or None: it shall have no pictures.
        left_out: Probes whose pictures were left out.
        counts: What `pieces` has told of so far: probes, answered, with_match, failed.
    """

    name: str
    pictures: Mapping[str, str] | None = None
    left_out: int = 0
    counts: dict[str, int] = attrs.field(
        factory=lambda: dict.fromkeys(_COUNTS, 0), init=False
    )
    _causes: dict[_Cause, int] = attrs.field(factory=dict, init=False)

    def pieces(self, outcomes: Iterable[Outcome]) -> Iterator[str]:
        """Yield the text of the page, piece by piece."""
        head, tail = map(Template, _file("page.html").split("$rows"))
        style, script = _file("page.css"), _file("page.js")
        yield head.substitute(
            policy=_POLICY.format(script=_digest(script), style=_digest(style)),
            name=html.escape(printable(self.name)),
            style=style,
            notice=self._notice(),
        )
        separator = "\n"
        for outcome in outcomes:
            self._count(outcome)
            yield separator + _json(self._row(outcome))
            separator = ",\n"
        facts = {"causes": list(self._causes), "pictures": self.pictures is not None}
        yield tail.substitute(
            facts=_json(facts), summary=self._summary(), script=script
        )

    def _count(self, outcome: Outcome) -> None:
        self.counts["probes"] += 1
        if outcome.result is None:
            self.counts["failed"] += 1
        else:
            self.counts["answered"] += 1
            self.counts["with_match"] += bool(outcome.result.matches)

    def _row(self, outcome: Outcome) -> list[Any]:
        """Return what `readProbe` of page.js reads."""
        cause = _ANSWERED
        if outcome.error is not None:
            # A cause is told once; the rows have its number.
            cause = self._causes.setdefault(_cause(outcome.error), len(self._causes))
        key = str(outcome.key)  # JavaScript would round a large number
        picture = self.pictures.get(key, "") if self.pictures else ""
        milliseconds = round(outcome.call.elapsed_s * 1000, 1)
        facts = [milliseconds, outcome.call.attempts, cause, picture]
        matches = outcome.result.matches if outcome.result else ()
        found = [value for match in matches for value in (match.id, match.score)]
        return [outcome.index, key, *facts, *found]

    def _notice(self) -> str:
        if self.pictures is None:
            return _IDS
        if self.left_out:
            return f"{_FACES} Pictures of {self.left_out:,} probes were left out."
        return _FACES

    def _summary(self) -> str:
        told = "{probes} probes: {answered} answered, {with_match} with a match; "
        return (told + "{failed} failed.").format(**self.counts)


def _cause(error: VerifikError) -> _Cause:
    reason = getattr(error, "reason", None) or ""
    return type(error).__name__, reason, error.charge, remedy(error) or ""


def _file(name: str) -> str:
    return (resources.files(__package__) / "page" / name).read_text("utf-8")


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _json(value: object) -> str:
    # ASCII: whatever a name is made of, half of a surrogate pair included, can be
    # written, and no character of it ends a line of JavaScript.
    text = json.dumps(value, separators=(",", ":"))
    return text.translate(_ESCAPES)
