"""What a journal says: its lines, written, read back, and looked through for a resume.

JSON Lines: a header, then a line per outcome. A line holds ids and scores, never a
picture, a token or a name; the picture is there as its digest.
"""

import hashlib
import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from verifik_async import errors
from verifik_async._convert import parse_json
from verifik_async._types import Charge
from verifik_async.errors import (
    APIStatusError,
    ConfigurationError,
    JournalError,
    JournalMismatchError,
    VerifikError,
)
from verifik_async.models import CallInfo, Match, Outcome, SearchResult

VERSION: Final = 1

_CALL_DEFAULTS: Final = {fact.name: fact.default for fact in attrs.fields(CallInfo)}
# What an error of the API keeps beside its class, in words of the API.
_STATUS_FACTS: Final = ("status", "code", "reason", "request_id")
# Lines that are parsed together: few enough that the garbage collector sees none.
_AT_ONCE: Final = 100
_TOKEN: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_KEYS: Final = (str, int)
_MATCH: Final = {"id", "score"}
_STATES: Final = tuple(map(str, Charge))


@attrs.frozen
class Searched:
    """What a line says was searched for.

    Attributes:
        image: Digest of the picture, or None if there was none to read.
        parameters: Digest of what it was searched with, where that was not what the
            batch is searched with; None: it was.
    """

    image: str | None = None
    parameters: str | None = None


# -- writing ---------------------------------------------------------------------------


def header_line(parameters: str) -> bytes:
    """Return the first line of a journal.

    Args:
        parameters: Digest of what the batch searches with.
    """
    return _line({"verifik_journal": VERSION, "parameters": parameters})


def outcome_line(outcome: Outcome, searched: Searched) -> bytes:
    """Return the line of an outcome."""
    fields: dict[str, Any] = {
        "key": outcome.key,
        "index": outcome.index,
        "image": searched.image,
        "state": outcome.state,
        "call": _call(outcome.call),
    }
    if searched.parameters is not None:
        fields["parameters"] = searched.parameters
    if outcome.result is not None:
        fields["id"] = outcome.result.id
        fields["matches"] = [
            {"id": match.id, "score": match.score} for match in outcome.result.matches
        ]
    if outcome.error is not None:
        fields["error"] = type(outcome.error).__name__
        fields["attempts"] = outcome.error.attempts
        if isinstance(outcome.error, APIStatusError):
            fields |= {name: getattr(outcome.error, name) for name in _STATUS_FACTS}
            if not _TOKEN.fullmatch(outcome.error.code or ""):
                fields["code"] = None  # whatever else the service says there
    return _line(fields)


def _call(call: CallInfo) -> dict[str, Any]:
    """Return what a search took, but for what is as always; seconds in millionths."""
    facts: dict[str, Any] = {}
    for name, default in _CALL_DEFAULTS.items():
        if (value := getattr(call, name)) != default:
            facts[name] = round(value, 6) if isinstance(value, float) else value
    return facts


def _line(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode("ascii") + b"\n"


# -- reading ---------------------------------------------------------------------------


def read_journal(path: str | os.PathLike[str]) -> Iterator[Outcome]:
    """Iterate over the outcomes of a journal, one per key: the last of it.

    Results hold ids and scores only, as the journal does. A torn last line, of a
    process that was killed, is passed over. A journal may be read while it is written.

    Args:
        path: The journal.

    Raises:
        JournalError: it can't be read, is no journal, or is damaged before its end.
    """
    newest = {fields["key"]: end for end, fields in _read(path)}
    for end, fields in _read(path):
        if newest.get(fields["key"]) == end:
            try:
                outcome = _outcome(fields)
            except (AttributeError, KeyError, TypeError, ValueError):
                outcome = None
            if outcome is None:
                raise _problem(f"the line that ends at byte {end} is damaged")
            yield outcome


def _read(path: str | os.PathLike[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield where each line but the header ends, and its fields."""
    problem: JournalError | None = None
    try:
        with Path(path).open("rb") as file:
            header = file.readline()
            if (problem := wrong_header(header)) is None:
                yield from whole_lines(file, len(header))
    except OSError as error:
        problem = _problem(f"it cannot be read ({type(error).__name__})")
    if problem is not None:
        raise problem


def wrong_header(line: bytes, parameters: str | None = None) -> JournalError | None:
    """Return why a journal can't be used, or None.

    Args:
        line: Its first.
        parameters: Digest of what it must have been written with; None: of anything.
    """
    header = _parsed(line)
    torn = not line.endswith(b"\n")
    if torn or header is None or "verifik_journal" not in header:
        return _problem("this file is none: its first line is not a journal's header")
    if header["verifik_journal"] != VERSION:
        return _problem("it was written by another version of the package")
    if parameters not in {None, header.get("parameters")}:
        return JournalMismatchError(
            "journal: it was written with other search parameters (os, min_score, "
            "search_mode, collection_id, extra): use those, or another file"
        )
    return None


def whole_lines(
    lines: Iterable[bytes], start: int
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield where each line ends, and its fields; a torn last one is passed over.

    Args:
        lines: All behind the header.
        start: Where that ends.

    Raises:
        JournalError: a line before the last is damaged.
    """
    torn: int | None = None
    number, end, left = 1, start, iter(lines)
    while some := [*itertools.islice(left, _AT_ONCE)]:
        for line, fields in zip(some, _all_parsed(some), strict=True):
            if torn is not None:
                raise _problem(f"line {torn} is damaged")
            if not line.endswith(b"\n"):  # or it is being written
                return
            number += 1
            end += len(line)
            if fields is None or not _is_outcome(fields):
                torn = number
            else:
                yield end, fields


def _all_parsed(lines: list[bytes]) -> list[dict[str, Any] | None]:
    """Return the fields of each line, or None; together they cost half as much."""
    try:
        found = parse_json(b"[" + b",".join(lines) + b"]")
    except ValueError:
        found = []
    if len(found) == len(lines):
        return [fields if isinstance(fields, dict) else None for fields in found]
    return [_parsed(line) for line in lines]


def _is_outcome(fields: Mapping[str, Any]) -> bool:
    """Whether a line is one of ours, as far as anybody relies on it."""
    try:
        key, index, call = fields["key"], fields["index"], fields["call"]
        state = fields["state"]
    except KeyError:
        return False
    if type(key) not in _KEYS or type(index) is not int or type(call) is not dict:
        return False
    if state not in _STATES:
        return False
    found = fields.get("matches")
    return found is None if "error" in fields else _are_matches(found)


def _are_matches(found: object) -> bool:
    if type(found) is not list:
        return False
    # No generator: this runs a million times in a resume.
    for match in found:
        if type(match) is not dict or match.keys() != _MATCH:
            return False
    return True


def _problem(text: str) -> JournalError:
    return JournalError(f"journal: {text}")


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        fields = parse_json(line)
    except ValueError:
        return None
    return fields if isinstance(fields, dict) else None


def _outcome(fields: Mapping[str, Any]) -> Outcome:
    facts = fields["call"]
    call = CallInfo(**{name: facts[name] for name in _CALL_DEFAULTS if name in facts})
    result = None
    if "matches" in fields:
        result = SearchResult(
            id=fields.get("id"),
            matches=tuple(Match(**match) for match in fields["matches"]),
            call=call,
        )
    return Outcome(
        index=fields["index"],
        key=fields["key"],
        result=result,
        error=_error(fields) if "error" in fields else None,
        call=call,
    )


def _error(fields: Mapping[str, Any]) -> VerifikError:
    kind = getattr(errors, fields["error"], VerifikError)
    facts = {"charge": Charge(fields["state"]), "attempts": fields["attempts"]}
    if issubclass(kind, APIStatusError):
        facts |= {name: fields[name] for name in _STATUS_FACTS}
    message = fields.get("reason") or "read from a journal"
    error: VerifikError = kind(message, **facts)
    return error


# -- resuming --------------------------------------------------------------------------


class Answered:
    """Which probes a journal has the answers of, and which keys this run has seen.

    A million keys must fit beside a batch: of each, and of what was searched for, a
    short digest is kept.
    """

    def __init__(self) -> None:
        # None: this run has seen the key.
        self._searched: dict[bytes, bytes | None] = {}

    def read(self, fields: Mapping[str, Any]) -> None:
        """Take note of one line: the last of a key counts."""
        key, of = _short(fields["key"]), None
        if "error" not in fields:
            of = _short_of(fields.get("image"), fields.get("parameters"))
        if of is None:
            self._searched.pop(key, None)
        else:
            self._searched[key] = of

    def claim(self, key: str | int) -> bytes | None:
        """Take note of a key of this run; return what `covers` is asked with.

        Raises:
            ConfigurationError: this run has seen it before.
        """
        short = _short(key)
        before = self._searched.get(short)
        if before is None and short in self._searched:
            raise ConfigurationError(
                "key was seen before in this batch: with a journal each probe needs "
                "a key of its own"
            )
        self._searched[short] = None
        return before

    @staticmethod
    def covers(before: bytes | None, searched: Searched) -> bool:
        """Whether what was answered under a key is what is searched for now."""
        return before is not None and before == _short_of(
            searched.image, searched.parameters
        )


def _short(key: str | int) -> bytes:
    """Return a digest that no other key has; 1 is not "1"."""
    if isinstance(key, str):  # its own bytes: members of an Enum have a text of theirs
        told = str.encode(key, "utf-8", "surrogatepass")
    else:
        told = b"\xff" + int.__repr__(key).encode()  # no text begins with that byte
    return hashlib.blake2b(told, digest_size=16).digest()


def _short_of(image: Any, parameters: Any) -> bytes | None:
    """Return as much of two digests as tells them from others; None: they are none."""
    try:
        return bytes.fromhex(image[:32] + (parameters or "")[:32])
    except (TypeError, ValueError):
        return None
