"""Whether records show a token, a picture or a person's name."""

import base64
import contextlib
import json
import logging
import pathlib
import re
import traceback
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping

import aiohttp
import attrs

_WINDOW = 32
_HEAD = 24
_MOST_SHOWN = 10
_RUN = re.compile(rf"[A-Za-z0-9+/_-]{{{_WINDOW},}}")
_URL_SAFE = str.maketrans("-_", "+/")
_JWT = re.compile(r"eyJ[\w-]{8,}\.[\w-]+")
_BEARER = re.compile(r"(?i)\bbearer\s+(?=\S*\d)[\w.~+/-]{8,}")
_LONG = re.compile(r"[A-Za-z0-9+/]{200,}")
# The caller's own frames hold the picture: that is no leak.
_FRAMES = (
    str(pathlib.Path(__file__).parents[1]),
    str(pathlib.Path(aiohttp.__file__).parent),
)
# What every record has; whatever else is there was put there as `extra`.
_USUAL = frozenset(vars(logging.makeLogRecord({})))


def assert_no_leaks(
    records: Iterable[object] | object,
    *,
    token: str | None = None,
    images: Iterable[bytes | str] = (),
    names: Iterable[str] = (),
) -> None:
    """Fail if a record shows a token, a picture or a person's name.

    Made for your own tests: turn logging up, let a search succeed and fail, and give
    this what was logged, raised, traced or written.

    A token and a picture that are not named are looked for by their form: JSON Web
    Tokens, `Bearer` headers, 200 characters of base64 in a row. Of an error everything
    that a crash reporter could send is looked at: message, arguments, attributes,
    notes, causes, groups, and the traceback with the locals of the frames of this
    package and of aiohttp.

    Args:
        records: `caplog.records`, texts, bytes, errors, mappings, or any objects, whose
            `repr` is looked at; one of them or several, nested as you like.
        token: The token that was used.
        images: The pictures that were searched, as bytes or base64 text.
        names: Names of persons, and whatever else must not be seen; upper and lower
            case are the same.

    Raises:
        AssertionError: something leaks. It tells what and where, but does not show it.
    """
    marks = _Marks(token, [*images], [*names])
    found = [
        f"{where} shows {what}"
        for where, text in _texts(records, "records")
        for what in marks.found_in(text)
    ]
    if found:
        more = len(found) - _MOST_SHOWN
        rest = [f"and {more} more"] if more > 0 else []
        raise AssertionError("\n".join([*found[:_MOST_SHOWN], *rest]))


def shows_secret(text: str) -> bool:
    """Whether a text shows a token or a picture, by its form alone."""
    return any(_Marks(None, (), ()).found_in(text))


class _Marks:
    """What must not be seen."""

    def __init__(
        self, token: str | None, images: Iterable[bytes | str], names: Iterable[str]
    ) -> None:
        self._token = [form for form in _forms(token) if form] if token else []
        self._names = [form.casefold() for name in names for form in _forms(name)]
        self._pictures = [_Picture.of(image) for image in images]

    def found_in(self, text: str) -> Iterator[str]:
        """Yield what a text shows."""
        if any(form in text for form in self._token):
            yield "the token"
        elif _JWT.search(text) or _BEARER.search(text):
            yield "a token"
        if any(picture.is_in(text) for picture in self._pictures):
            yield "a picture"
        elif _LONG.search(text):
            yield "a long run of base64"
        folded = text.casefold()
        if any(name in folded for name in self._names):
            yield "a name"


def _forms(text: str) -> set[str]:
    """Return a text as it is, and as it is written in JSON, URLs and Python."""
    return {
        text,
        json.dumps(text)[1:-1],
        urllib.parse.quote(text),
        urllib.parse.quote_plus(text),
        ascii(text)[1:-1],
    } - {""}


@attrs.frozen
class _Picture:
    """A picture as it could stand in a text."""

    encoded: tuple[str, ...]
    heads: tuple[str, ...]

    @classmethod
    def of(cls, image: bytes | str) -> "_Picture":
        raw = base64.b64decode(image) if isinstance(image, str) else bytes(image)
        head = raw[:_HEAD]
        # A part of it may begin at any byte: base64 has three ways to write it.
        encoded = (base64.b64encode(raw[start:]).decode() for start in range(3))
        return cls(tuple(encoded), (repr(head)[2:-1], head.hex()) if head else ())

    def is_in(self, text: str) -> bool:
        """Whether a text holds a good part of it."""
        if any(head in text for head in self.heads):
            return True
        return any(
            part in encoded
            for run in _RUN.findall(text)
            for part in _parts(run.translate(_URL_SAFE))
            for encoded in self.encoded
        )


def _parts(run: str) -> Iterator[str]:
    for start in range(0, len(run) - _WINDOW + 1, _WINDOW // 2):
        yield run[start : start + _WINDOW]


# -- what a record shows ---------------------------------------------------------------


def _texts(thing: object, where: str) -> Iterator[tuple[str, str]]:
    """Yield the texts of anything, and where they are."""
    match thing:
        case str():
            yield where, thing
        case bytes() | bytearray() | memoryview():
            yield where, bytes(thing).decode("utf-8", "replace")
            yield where, repr(bytes(thing))
        case logging.LogRecord():
            yield from _texts_of_record(thing, where)
        case BaseException():
            yield from _texts_of_error(thing, where)
        case Mapping():
            for key, value in thing.items():
                yield from _texts(key, f"a key of {where}")
                yield from _texts(value, f"{where}[...]")
        case Iterable():
            for number, one in enumerate(thing):
                yield from _texts(one, f"{where}[{number}]")
        case _:
            yield f"the repr of {where}", repr(thing)


def _texts_of_record(
    record: logging.LogRecord, where: str
) -> Iterator[tuple[str, str]]:
    where = f"{where} (logger {record.name}, {record.levelname})"
    with contextlib.suppress(TypeError, ValueError):  # its arguments do not fit
        yield f"the message of {where}", record.getMessage()
    yield f"the arguments of {where}", repr(record.args)
    yield f"the stack of {where}", f"{record.exc_text} {record.stack_info}"
    if record.exc_info and record.exc_info[1] is not None:
        yield from _texts_of_error(record.exc_info[1], where)
    extra = {key: value for key, value in vars(record).items() if key not in _USUAL}
    yield f"the extra of {where}", repr(extra)


def _texts_of_error(error: BaseException, where: str) -> Iterator[tuple[str, str]]:
    for one in _family(error):
        what = f"{type(one).__name__} in {where}"
        yield f"the message of {what}", str(one)
        yield f"the repr of {what}", repr(one)
        yield f"the arguments of {what}", repr(one.args)
        yield f"the attributes of {what}", repr(vars(one))
        summary = traceback.StackSummary.extract(
            traceback.walk_tb(one.__traceback__), capture_locals=True
        )
        for frame in summary:
            if frame.filename.startswith(_FRAMES):
                yield f"{frame.name}() in the traceback of {what}", repr(frame.locals)


def _family(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, its causes and contexts, and the members of groups, once each."""
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        one = left.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        left += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            left += one.exceptions
