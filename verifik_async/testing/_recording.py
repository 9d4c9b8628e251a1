"""The file of recorded answers: what of a search and of its answer is kept in it.

A line of JSON each. What is not known to be free of personal data is left out.
"""

import pathlib
from collections.abc import Mapping
from typing import Any, TypeAlias

from ._answers import JSON_HEADERS, Reply, dump_json, load_json
from ._faults import retry_after_header
from ._leaks import shows_secret
from ._records import describe_body

_Allowed: TypeAlias = Mapping[str, Any]

_LONGEST_TEXT = 200
_STATUSES = range(200, 600)
# What may be kept, by its place; "" stands for a text, a number or a boolean there.
_PLAIN: _Allowed = {"": {}}
_ID = {**_PLAIN, "$oid": _PLAIN}
_MATCH: _Allowed = {"id": _ID, "_id": _ID, "score": _PLAIN}
_SCORES = dict.fromkeys(
    ("score", "liveness_score", "min_score", "passed", "status"), _PLAIN
)
_LIVENESS = {**_PLAIN, **_SCORES, "result": _SCORES}
_DATA: _Allowed = {
    **dict.fromkeys(("persons", "search"), _MATCH),
    **dict.fromkeys(("liveness_score", "code", "message"), _PLAIN),
    "liveness": _LIVENESS,
}
_ENVELOPE: _Allowed = {
    "id": _ID,
    "signature": {**_PLAIN, "message": _PLAIN, "dateTime": _PLAIN},
    **dict.fromkeys(("success", "code", "message", "error"), _PLAIN),
}


def request_key(fields: Mapping[str, Any]) -> str | None:
    """Return what one search is told from another by; None if it has no picture.

    That is the picture's digest and the parameters. Of other fields numbers count.
    """
    told = describe_body(fields)
    if "image_sha256" not in told:
        return None
    more = told.pop("extra").items()
    del told["image_bytes"]
    numbers = {name: one for name, one in more if isinstance(one, bool | int | float)}
    return _key({**numbers, **told})


def _key(told: Mapping[str, Any]) -> str:
    return dump_json({name: _number(told[name]) for name in sorted(told)}).decode()


def _number(value: object) -> object:
    # 1 and 1.0 are the same score.
    return float(value) if type(value) is int else value


def line_of(key: str, reply: Reply) -> bytes:
    """Return the line of a search and its answer."""
    waits = [text for name, text in reply.headers if name == "Retry-After"]
    answer = {
        "status": reply.status,
        "retry_after": _text(waits[0]) if waits else None,
        "body": cleaned(reply.body),
    }
    return dump_json({"request": load_json(key.encode()), "answer": answer}) + b"\n"


def cleaned(body: bytes) -> Any:
    """Return the JSON of an answer without what is personal; None if it is no object.

    Request id, signature, ids, scores, liveness and the texts of errors stay.
    """
    try:
        answer = load_json(body)
    except ValueError:
        return None
    if not isinstance(answer, dict):
        return None
    data = _MATCH if isinstance(answer.get("data"), list) else _DATA
    return _kept(answer, {**_ENVELOPE, "data": data})


def _kept(value: Any, allowed: _Allowed) -> Any:
    if isinstance(value, dict):
        return {
            name: _kept(inner, allowed[name])
            for name, inner in value.items()
            if name in allowed
        }
    if isinstance(value, list):
        inners = (inner for inner in value if not isinstance(inner, list))
        return [_kept(inner, allowed) for inner in inners]
    if "" not in allowed:
        return None
    return _text(value) if isinstance(value, str) else value


def _text(text: str) -> str | None:
    return None if len(text) > _LONGEST_TEXT or shows_secret(text) else text


def load(path: pathlib.Path) -> dict[str, Reply]:
    """Return the answers of a file by the key of their search; later lines count.

    Raises:
        OSError: The file can't be read.
        ValueError: A line is damaged; it is named.
    """
    # No line is a local of this frame, which an error would carry along.
    entries = [_read(line) for line in path.read_bytes().splitlines()]
    if None in entries:
        number = entries.index(None) + 1
        raise ValueError(f"line {number} of {path} is no recorded answer")
    return dict(entry for entry in entries if entry is not None)


def _read(line: bytes) -> tuple[str, Reply] | None:
    """Return the key and the answer of a line; None if it is damaged."""
    try:
        entry = load_json(line)
        request, answer = entry["request"], entry["answer"]
        status, body, wait = answer["status"], answer["body"], answer["retry_after"]
        fits = type(status) is int and status in _STATUSES
        if not (fits and isinstance(request["image_sha256"], str)):
            return None
        content = b"" if body is None else dump_json(body)
        headers = JSON_HEADERS + retry_after_header(wait)
        return _key(request), Reply(status=status, body=content, headers=headers)
    except (KeyError, TypeError, ValueError):
        return None
