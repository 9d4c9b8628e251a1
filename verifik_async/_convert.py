"""From an answer's bytes to the models, strictly; the only user of cattrs.

An answer is brought into one of the shapes on record first, then structured. A
scalar of a wrong type is refused, never coerced; what is not known is kept. What
is wrong comes back as a `ShapeFault`, a path without a value, instead of an
exception, whose traceback would show the personal data.
"""

import datetime as dt
import functools
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn, TypeVar

import attrs
from cattrs import Converter
from cattrs.gen import make_dict_structure_fn, override
from cattrs.v import transform_error

from verifik_async.models import (
    CallInfo,
    Collection,
    Liveness,
    Match,
    SearchResult,
    Signature,
    Thumbnail,
)

try:
    import orjson
except ImportError:
    orjson = None  # type: ignore[assignment]  # the extra `speed` is not installed

T = TypeVar("T")

# What an answer may hold: more would hold up the event loop, within the limit of
# bytes too. A value here is whatever a comma or a bracket begins.
MAX_MATCHES: Final = 20_000
MAX_PARTS: Final = 1_000  # of a match: thumbnails, collections
MAX_VALUES: Final = 200_000
MAX_DEPTH: Final = 100

_PERCENT: Final = 100.0
_BEYOND: Final = 2.0**63
_CACHED_TEXT: Final = 128
_MONTHS: Final = (
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
)
# "January 16, 2024 3:44 PM": English whatever the locale, so no strptime.
_ENGLISH: Final = re.compile(
    r"([A-Za-z]+) (\d{1,2}), (\d{4}),? (?:at )?"
    r"(0?[1-9]|1[0-2]):(\d{2})(?::(\d{2}))? ?([AP]M)",
    re.IGNORECASE,
)
_NUMERIC: Final = re.compile(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)


@attrs.frozen
class ShapeFault:
    """What is wrong with an answer.

    Attributes:
        path: Where, `$.data[0].score` for one.
        expected: What should be there.
        request_id: The answer's id if it could be read, or None.
    """

    path: str
    expected: str
    request_id: str | None = None


class _WrongError(ValueError):
    """A value is not what it must be; carries what was expected, never the value."""

    def __init__(self, expected: str, path: str = "") -> None:
        super().__init__(expected)
        self.expected = expected
        self.path = path


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


_DECODER: Final = json.JSONDecoder(parse_constant=_no_constant)


def parse_json(body: bytes) -> Any:
    """Return the JSON of a body.

    Raises:
        ValueError: it is no JSON, or JSON too deep or with numbers too long.
    """
    if orjson is not None:
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError:
            # What it refuses (a lone surrogate, 1e999) may still be an answer that
            # was paid for: whether it is installed must not decide that.
            pass
    try:
        # NaN and Infinity are no JSON, and UTF-8 is the only encoding of it.
        return _DECODER.decode(body.decode("utf-8-sig"))
    except RecursionError:
        raise ValueError("too deep") from None


def parse_answer(body: bytes) -> Any:
    """Return the JSON of an answer that is no larger than answers may be.

    Raises:
        _WrongError: it holds too much, or too deep.
        ValueError: it is no JSON.
    """
    openings = body.count(b"[") + body.count(b"{")
    if len(body) > MAX_VALUES and openings + body.count(b",") > MAX_VALUES:
        raise _WrongError(f"at most {MAX_VALUES:,} values")
    raw = parse_json(body)
    if openings > MAX_DEPTH and _is_deep(raw):
        raise _WrongError(f"at most {MAX_DEPTH} levels")
    return raw


def _is_deep(raw: Any) -> bool:
    """Whether a value has too many levels; looked through level by level."""
    level = [raw]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if type(outer) is dict else outer)
            if type(inner) is list or type(inner) is dict
        ]
        if not level:
            return False
    return True


@attrs.frozen
class _Parts:
    """How the parts of an answer are structured that have classes of their own.

    Both take the JSON and its path.
    """

    matches: Callable[[list[Any], str], tuple[Match, ...]]
    liveness: Callable[[dict[str, Any], str], Liveness]


class Decoder:
    """Turns answers of a search into `SearchResult`; one per client."""

    def __init__(self) -> None:
        self._fast = _fast_parts()
        self._detailed: _Parts | None = None

    def decode(self, body: bytes, call: CallInfo) -> SearchResult | ShapeFault:
        """Return the result that a 2xx body holds, or what is wrong with it."""
        try:
            raw = parse_answer(body)
        except _WrongError as wrong:
            return ShapeFault("$", wrong.expected)
        except ValueError:
            return ShapeFault("$", "JSON")
        try:
            return _result(raw, self._fast, call)
        except Exception:  # noqa: BLE001 - the second pass tells what it was
            return self._explain(raw)

    def _explain(self, raw: Any) -> ShapeFault:
        """Go over the answer again, slowly, for the path of what is wrong."""
        if self._detailed is None:
            self._detailed = _detailed_parts()
        request_id = raw.get("id") if isinstance(raw, dict) else None
        try:
            _result(raw, self._detailed, CallInfo())
        except _WrongError as wrong:
            path, expected = wrong.path, wrong.expected
        except Exception:  # noqa: BLE001 - whatever it was, it is no answer
            path, expected = "$", "an answer of this API"
        else:  # pragma: no cover - both passes follow the same rules
            path, expected = "$", "an answer of this API"
        known = request_id if isinstance(request_id, str) else None
        return ShapeFault(path, expected, known)


def _result(raw: Any, parts: _Parts, call: CallInfo) -> SearchResult:
    persons, path, liveness = _locate(raw)
    if len(persons) > MAX_MATCHES:
        raise _WrongError(f"at most {MAX_MATCHES:,} matches", path)
    return SearchResult(
        id=name if type(name := raw.get("id")) is str else _part(raw, "id", _id),
        # Nobody found is the commonest answer: it costs no conversion.
        matches=_best_first(parts.matches(persons, path)) if persons else (),
        signature=_part(raw, "signature", _signature),
        liveness=parts.liveness(liveness, "$.data.liveness") if liveness else None,
        raw=raw,
        call=call,
    )


def _locate(raw: Any) -> tuple[list[Any], str, dict[str, Any] | None]:
    """Return the list of persons, its path and the liveness, of any known shape."""
    if not isinstance(raw, dict):
        raise _WrongError("an object", "$")
    if raw.get("success") is False:
        raise _WrongError("success", "$.success")
    if "data" not in raw:
        raise _WrongError("data", "$.data")
    data = raw["data"]
    if type(data) is list:
        return data, "$.data", None
    if data is None or data == {}:
        return [], "$.data", None
    if not isinstance(data, dict):
        raise _WrongError("an array or an object", "$.data")
    return _locate_in_object(data)


def _locate_in_object(
    data: dict[str, Any],
) -> tuple[list[Any], str, dict[str, Any] | None]:
    liveness = _liveness_part(data)
    names = [name for name in ("persons", "search") if name in data]
    if not names and liveness is None:
        raise _WrongError("persons or search", "$.data")
    name = next((name for name in names if data[name] is not None), None)
    if name is None:
        return [], "$.data", liveness
    persons = data[name]
    if not isinstance(persons, list):
        raise _WrongError("an array", f"$.data.{name}")
    return persons, f"$.data.{name}", liveness


def _liveness_part(data: dict[str, Any]) -> dict[str, Any] | None:
    """Return the one of the four forms of liveness that the data has, flat."""
    liveness = data.get("liveness")
    if liveness is None:
        if data.get("liveness_score") is None:
            return None
        return {"score": data["liveness_score"]}
    if not isinstance(liveness, dict):
        raise _WrongError("an object", "$.data.liveness")
    inner = liveness.get("result")
    flat = {**liveness, **inner} if isinstance(inner, dict) else dict(liveness)
    if flat.get("score") is None:
        flat["score"] = flat.get("liveness_score", data.get("liveness_score"))
    return flat


def _at(converter: Converter, value: Any, path: str, kind: Any) -> Any:
    """Structure `value` in detail; the complaint gets its full path."""
    try:
        return converter.structure(value, kind)
    except Exception as error:  # noqa: BLE001 - cattrs has groups and others
        expected, _, where = transform_error(error, path, _expected)[0].rpartition(
            " @ "
        )
    raise _WrongError(expected, where)


def _part(raw: dict[str, Any], name: str, hook: Callable[[Any], T]) -> T | None:
    """Convert one part of the envelope; what is wrong gets its path."""
    if (value := raw.get(name)) is None:
        return None
    try:
        return hook(value)
    except _WrongError as wrong:
        expected = wrong.expected
    raise _WrongError(expected, f"$.{name}")


def _expected(error: BaseException, _: type | None) -> str:
    """Say what was expected; cattrs would add the type, users know the API's words."""
    if isinstance(error, _WrongError):
        return error.expected
    return "a value" if isinstance(error, KeyError) else "another value"


def _best_first(matches: tuple[Match, ...]) -> tuple[Match, ...]:
    if len(matches) < 2:  # noqa: PLR2004 - nothing to sort
        return matches
    return tuple(
        sorted(
            matches, key=lambda m: -1.0 if m.score is None else m.score, reverse=True
        )
    )


def _id(value: Any, _: Any = None) -> str:
    """Return an id, wrapped as `{"$oid": ...}` or not."""
    if type(value) is dict:
        value = value.get("$oid")
    if type(value) is not str:
        raise _WrongError("text")
    return value


def _text(value: Any, _: Any = None) -> str:
    if type(value) is not str:
        raise _WrongError("text")
    return value


def _flag(value: Any, _: Any = None) -> bool:
    if type(value) is not bool:
        raise _WrongError("true or false")
    return value


def _whole(value: Any, _: Any = None) -> int:
    if type(value) is float and abs(value) >= _BEYOND and value.is_integer():
        return int(value)  # of a whole number that long, orjson makes a float
    if type(value) is not int:
        raise _WrongError("a whole number")
    return value


def _score(value: Any, _: Any = None) -> float:
    """Return a score from 0 to 1 of a number, numeric text or percent."""
    if type(value) is str and _NUMERIC.fullmatch(value):
        value = float(value)
    if type(value) is not float and type(value) is not int:
        raise _WrongError("a number")
    if not 0 <= value <= _PERCENT:  # NaN fails every comparison
        raise _WrongError("a score from 0 to 1, or percent")
    return float(value) if value <= 1 else value / _PERCENT


def _date(value: Any, _: Any = None) -> dt.date | None:
    """Return a date of `YYYY-MM-DD...` or {year, month, day}; None if it is none."""
    if type(value) is dict:
        parts: list[Any] = [value.get(name) for name in ("year", "month", "day")]
        try:
            return dt.date(*parts)
        except (TypeError, ValueError, OverflowError):
            return None
    try:
        return dt.date.fromisoformat(_text(value)[:10])
    except ValueError:
        return None


def parse_date_time(text: str) -> dt.datetime | None:
    """Return the API's date text as a datetime without zone, None if it is none."""
    if not (found := _ENGLISH.fullmatch(text.strip())):
        try:
            return dt.datetime.fromisoformat(text.strip()).replace(tzinfo=None)
        except ValueError:
            return None
    month, day, year, hour, minute, second, half = found.groups()
    try:
        return dt.datetime(  # noqa: DTZ001 - the API tells no zone
            int(year),
            _MONTHS.index(month.lower()) + 1,
            int(day),
            int(hour) % 12 + (12 if half.upper() == "PM" else 0),
            int(minute),
            int(second or 0),
        )
    except ValueError:
        return None


def _signature(value: Any, _: Any = None) -> Signature:
    if type(value) is str:
        return Signature(message=value)
    if type(value) is not dict:
        raise _WrongError("an object or text")
    message, date_time = value.get("message"), value.get("dateTime")
    for text in (message, date_time):
        if text is not None and type(text) is not str:
            raise _WrongError("text")
    # The cache keeps what it is asked for: no text of any length.
    if len(message or "") + len(date_time or "") <= _CACHED_TEXT:
        return _signature_of(message, date_time)
    return _signature_of.__wrapped__(message, date_time)


@functools.lru_cache(maxsize=64)  # answers of one minute bear the same
def _signature_of(message: str | None, date_time: str | None) -> Signature:
    timestamp = None if date_time is None else parse_date_time(date_time)
    return Signature(message=message, date_time=date_time, timestamp=timestamp)


_MATCH_FIELDS: Final = frozenset(field.name for field in attrs.fields(Match))
_KNOWN: Final = _MATCH_FIELDS - {"extra"}
_LEAST: Final = {"id", "score"}


def _flat_match(value: Any) -> Mapping[str, Any]:
    """Return a person with its id under `id` and what is not known under `extra`."""
    if type(value) is not dict:
        raise _WrongError("an object")
    flat = {name: value[name] for name in value.keys() & _KNOWN}
    if flat.get("id") is None and value.get("_id") is not None:
        flat["id"] = value["_id"]
    for name in ("thumbnails", "collections"):
        if flat.get(name, ()) is None:
            del flat[name]
    flat["extra"] = {
        name: value[name] for name in value if name not in _KNOWN and name != "_id"
    }
    return flat


def _flat_record(value: Any) -> Mapping[str, Any]:
    if type(value) is not dict:
        raise _WrongError("an object")
    known = value.get("id") is not None
    return value if known else {**value, "id": value.get("_id")}


def _liveness(value: Liveness) -> Liveness:
    """Let the API's `passed` decide, else compare, strictly greater."""
    if value.passed is None and None not in (value.score, value.min_score):
        return attrs.evolve(value, passed=value.score > value.min_score)  # type: ignore[operator]  # neither is None
    return value


def _optional(hook: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda value, _: None if value is None else hook(value)


def _array(converter: Converter, kind: Any) -> Callable[[Any, Any], tuple[Any, ...]]:
    """Return a hook for a JSON array; text and objects are iterable but none."""

    def structure(value: Any, _: Any) -> tuple[Any, ...]:
        if type(value) is not list:
            raise _WrongError("an array")
        if len(value) > MAX_PARTS:
            raise _WrongError(f"at most {MAX_PARTS:,} items")
        result: tuple[Any, ...] = converter.structure(value, tuple[kind, ...])
        return result

    return structure


def _fast_parts() -> _Parts:
    made = _build_converter(detailed=False)
    match: Callable[[Any, Any], Match] = made.get_structure_hook(Match)
    liveness: Callable[[Any, Any], Liveness] = made.get_structure_hook(Liveness)
    score = _optional(_score)

    def structure(person: Any) -> Match:
        if type(person) is dict and person.keys() == _LEAST:  # the documented answer
            return Match(id=_id(person["id"]), score=score(person["score"], None))
        return match(person, Match)

    return _Parts(
        lambda persons, _: tuple([structure(person) for person in persons]),
        lambda value, _: liveness(value, Liveness),
    )


def _detailed_parts() -> _Parts:
    made = _build_converter(detailed=True)
    return _Parts(
        # One by one: cattrs would collect what is wrong with all of them.
        lambda persons, path: tuple(
            _at(made, person, f"{path}[{number}]", Match)
            for number, person in enumerate(persons)
        ),
        lambda value, path: _at(made, value, path, Liveness),
    )


def _build_converter(*, detailed: bool) -> Converter:
    """Build a converter with strict scalars.

    The default hooks coerce: None becomes "None", "false" becomes True.
    """
    made = Converter(detailed_validation=detailed)
    for kind, hook in ((str, _text), (bool, _flag), (int, _whole), (float, _score)):
        made.register_structure_hook(kind, hook)
    made.register_structure_hook(dt.date, _date)
    an_id = override(struct_hook=_optional(_id))
    for record in (Thumbnail, Collection):
        _register(made, record, _flat_record, id=an_id)
    made.register_structure_hook(
        str | Collection,
        lambda value, _: (
            value if type(value) is str else made.structure(value, Collection)
        ),
    )
    _register(
        made,
        Match,
        _flat_match,
        id=override(struct_hook=_id),
        date_of_birth=override(struct_hook=_optional(_date)),
        thumbnails=override(struct_hook=_array(made, Thumbnail)),
        collections=override(struct_hook=_array(made, str | Collection)),
        extra=override(struct_hook=lambda value, _: value),
        notes=override(struct_hook=lambda value, _: value),
    )
    liveness = make_dict_structure_fn(Liveness, made)
    made.register_structure_hook(
        Liveness, lambda value, kind: _liveness(liveness(value, kind))
    )
    return made


def _register(
    made: Converter, kind: type, flatten: Callable[[Any], Any], **fields: Any
) -> None:
    generated: Any = make_dict_structure_fn(kind, made, **fields)
    made.register_structure_hook(
        kind, lambda value, cls: generated(flatten(value), cls)
    )
