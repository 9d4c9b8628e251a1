"""The journal's lines: what is kept of an outcome, and how it is read back.

JSON Lines: a header, then a line per outcome. A line holds ids and scores, never a
picture, a token or a name; the picture is there as its digest.
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from verifik_async import errors
from verifik_async._types import Charge
from verifik_async.errors import APIStatusError, JournalError, VerifikError
from verifik_async.models import CallInfo, Match, Outcome, SearchResult

VERSION: Final = 1

_CALL_FIELDS: Final = [field.name for field in attrs.fields(CallInfo)]
# What an error of the API keeps beside its class, in words of the API.
_STATUS_FACTS: Final = ("status", "code", "reason", "request_id")


def header_line(parameters: str) -> bytes:
    """Return the first line of a journal.

    Args:
        parameters: Digest of what the batch searches with.
    """
    return _line({"verifik_journal": VERSION, "parameters": parameters})


def outcome_line(outcome: Outcome, image: str | None) -> bytes:
    """Return the line of an outcome.

    Args:
        outcome: What became of a probe.
        image: Digest of its picture, or None if there was none to read.
    """
    fields: dict[str, Any] = {
        "key": outcome.key,
        "index": outcome.index,
        "image": image,
        "state": outcome.state,
        "call": attrs.asdict(outcome.call),
    }
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
    return _line(fields)


def read_journal(path: str | os.PathLike[str]) -> Iterator[Outcome]:
    """Iterate over the outcomes of a journal, one per key: the last of it.

    Results hold ids and scores only, as the journal does. A torn last line, of a
    process that was killed, is passed over.

    Args:
        path: The journal.

    Raises:
        JournalError: it can't be read, is no journal, or is damaged before its end.
    """
    newest = {fields["key"]: number for number, fields in _lines(path)}
    for number, fields in _lines(path):
        if newest[fields["key"]] == number:
            yield _outcome(fields)


def _line(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode("ascii") + b"\n"


def _lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number and the fields of each line but the header."""
    problem: str | None = None
    try:
        with Path(path).open("rb") as file:
            if (problem := _wrong_header(file.readline())) is None:
                for number, line in enumerate(file, 2):
                    fields = _parsed(line)
                    if fields is None and line.endswith(b"\n"):
                        problem = f"line {number} is damaged"
                        break
                    if fields is not None:
                        yield number, fields
    except OSError as error:
        problem = f"it cannot be read ({type(error).__name__})"
    if problem is not None:
        raise JournalError(f"journal: {problem}")


def _wrong_header(line: bytes) -> str | None:
    try:
        header = json.loads(line)
    except ValueError:
        header = None
    if not isinstance(header, dict) or "verifik_journal" not in header:
        return "this file is none: its first line is not a journal's header"
    if header["verifik_journal"] != VERSION:
        return "it was written by another version of the package"
    return None


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        fields = json.loads(line)
    except ValueError:
        return None
    needed = {"key", "index", "state", "call"}
    return fields if isinstance(fields, dict) and needed <= fields.keys() else None


def _outcome(fields: Mapping[str, Any]) -> Outcome:
    call = CallInfo(**{name: fields["call"].get(name) for name in _CALL_FIELDS})
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
