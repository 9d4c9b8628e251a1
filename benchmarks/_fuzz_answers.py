"""Answers that no service should give, each made anew from a seed and a number.

What must never be shown is planted in them: a token, a picture and a person's name.
The name is only where persons are told of; what a refusal says in its words is shown.
"""

import base64
import functools
import json
import pathlib
import random
import re
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import attrs
from multidict import CIMultiDict

SAMPLES: Final = pathlib.Path(__file__).parents[1] / "tests/samples/search-active-user"
TOKEN: Final = "planted-token-9c41f0e2"  # noqa: S105 - nobody takes it
PICTURE: Final = base64.b64encode(random.Random(7).randbytes(450)).decode()
NAME: Final = "Plantedname Invented"
DEEP: Final = "nested deeply"

_STATUSES: Final = (*(200,) * 16, 201, 204, 307, 400, 401, 402, 403, 409, 422, 429, 503)
_WORDS: Final = (
    *("id", "_id", "$oid", "data", "persons", "search", "score", "gender", "notes"),
    *("date_of_birth", "year", "month", "day", "thumbnails", "thumbnail"),
    *("collections", "code", "count", "liveness", "liveness_score", "passed"),
    *("min_score", "result", "status", "signature", "dateTime", "success", "error"),
    *("message", "detail", "msg", "validationError", "failureReason", "extra"),
)
_ODD: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, 1, -1, 93, 101, 0.5, 1.0000001, 2**53 + 1, 2**63, 2**64),
    *(-(2**63) - 1, 10**25, 1e308, 5e-324, "", " ", "0.75", "88.5", "1e5", "nan", "-0"),
    *("1990-05-07", "0000-00-00", "January 16, 2024 3:44 PM", "token_expired"),
    *("409:liveness_failed@0.45", "insufficient credits", '"os" is required', "\u202e"),
    *("a\x00b\x1b[31m\n", "٣٤", "é" * 10, TOKEN, f"Bearer {TOKEN}", PICTURE, [], {}),
    *([[]], [None], [0.9], {"$oid": 7}, {"id": "x"}, {"year": 2**40, "month": 1}),
)
_NUMBERS: Final = (
    *("1e999", "-1e999", "1E400", "-0", "-0.0", "0e0", "1e-400", "NaN", "Infinity"),
    *("-Infinity", "0x10", "01", "1_000", "1.", ".5", "+1", "٣", "9" * 25),
    *("9" * 400, "9" * 4_301, "0." + "9" * 5_000, "1" + "0" * 300 + ".5", "1e5e5"),
)
_NUMBER: Final = re.compile(rb"-?\d[\d.]*")
_TEXT: Final = re.compile(rb'"[^"\\]*"')
_STRANGE: Final = (
    *(rb'"\ud800"', rb'"\udfff\ud800"', rb'"x\udc00y"', b'"\xed\xa0\x80"', b'"\xff"'),
    *(b'"\xc0\xaf"', rb'"\u0000"', b'"\x00"', b'"a\nb"', rb'"\q"', rb'"\u12"'),
    *(b"'single'", b'"open', '"\u2028"'.encode(), '"\U0010ffff"'.encode()),
)
# Repeated, they are what patterns of text take longest over.
_LONG: Final = (
    *("token", "jwt ", "expired", "eyJ", "eyJa.", "bearer ", "<title", "<title>", " "),
    *("A", "9", "1.", "409:", "a@", "(", "a.", "payment ", '"a" ', "\u202e", "-"),
    *(f"{PICTURE}\r\n", f"{TOKEN} ", "".join(map(chr, range(32, 127)))),
)
_WAITS: Final = (
    *("0", "1", "0.25", "-1", "1e3", "9" * 400, "nan", "inf", "٣", "", " 7 ", "7s"),
    *("Wed, 21 Oct 2099 07:28:00 GMT", "Wed, 21 Oct 2015 07:28:00 -0000", "Wed,"),
    *("Wed, 99 Oct 2099 99:99:99 +9999", "21 Oct 99999 07:28:00 GMT", "1 Jan 1 0:0"),
    *("0 0 0 0 0", "Mon, 31 Dec 9999 23:59:59 -2359", "a, b c d e f", ",,,,"),
)
_TYPES: Final = ("application/json", "text/html", "", ";", f"x/{PICTURE}", f"a {TOKEN}")
_IDS: Final = ("SAU01", "", "f" * 64, "f" * 65, TOKEN, PICTURE, "a\x01b", "é\udcff")
_PLACES: Final = (
    *(
        "",
        "/x",
        "https://other.example/x",
        f"https://u:{TOKEN}@h/",
        f"//{TOKEN}/",
        "//",
    ),
    *("http://[::1", f"https://{PICTURE}/", f"{TOKEN}://h", "a" * 999, "//h:99999999/"),
    *("https://\u2100.example", "http://a\tb\x00c/", "//" + "h" * 999, "//é\udcff/"),
)


@attrs.frozen(kw_only=True)
class Answer:
    """An answer to try.

    Attributes:
        kind: How it was made.
        status: HTTP status.
        headers: Header fields.
        body: The body.
    """

    kind: str
    status: int
    headers: CIMultiDict[str]
    body: bytes


Maker: TypeAlias = Callable[[random.Random], bytes]


def make(seed: int, number: int) -> Answer:
    """Return the answer of a number; the same in every run."""
    chance = random.Random((seed << 40) + number)
    [kind] = chance.choices(tuple(KINDS), _WEIGHTS)
    body, status = KINDS[kind](chance), chance.choice(_STATUSES)
    if chance.random() < 0.1:  # noqa: PLR2004 - one in ten
        status = chance.randrange(200, 600)
    return Answer(kind=kind, status=status, headers=_headers(chance), body=body)


def _headers(chance: random.Random) -> CIMultiDict[str]:
    headers: CIMultiDict[str] = CIMultiDict()
    for name, values in (
        ("Retry-After", _WAITS),
        ("Content-Type", _TYPES),
        ("X-Request-Id", _IDS),
        ("Location", _PLACES),
    ):
        if chance.random() < 0.4:  # noqa: PLR2004 - some have them
            headers[name] = chance.choice(values)
    return headers


# -- JSON ------------------------------------------------------------------------------


@functools.cache
def _samples(names: str) -> tuple[str, ...]:
    return tuple(file.read_text("utf-8") for file in sorted(SAMPLES.glob(names)))


def _sample(chance: random.Random) -> Any:
    # The names of refusals begin with their status.
    names = chance.choice(("[a-z]*.json", "[a-z]*.json", "[0-9]*.json"))
    return json.loads(chance.choice(_samples(names)))


def _mutated(chance: random.Random) -> Any:
    value = _sample(chance)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        value = _change(chance, value)
    return value


def _change(chance: random.Random, value: Any) -> Any:
    """Return JSON with one of its parts changed."""
    is_inner = isinstance(value, dict | list) and value
    if not is_inner or chance.random() < 0.1:  # noqa: PLR2004 - else it is its root
        return chance.choice((_odd, _wrapped))(chance, value)
    if isinstance(value, list):
        place = chance.randrange(len(value))
        return [
            *value[:place],
            *_changed_item(chance, value[place]),
            *value[place + 1 :],
        ]
    return dict(_changed_pairs(chance, value))


def _odd(chance: random.Random, _: Any) -> Any:
    return chance.choice(_ODD)


def _wrapped(chance: random.Random, value: Any) -> Any:
    return chance.choice(([value], {chance.choice(_WORDS): value}, {"data": value}))


def _changed_item(chance: random.Random, item: Any) -> list[Any]:
    changed = _change(chance, item)
    return chance.choice(([changed], [changed], [changed], [], [item, item], [item, 0]))


def _changed_pairs(chance: random.Random, value: dict[str, Any]) -> list[Any]:
    pairs = list(value.items())
    place = chance.randrange(len(pairs))
    name, inner = pairs[place]
    match chance.randrange(8):
        case 0:
            del pairs[place]
        case 1:
            pairs[place] = (chance.choice(_WORDS), inner)
        case 2:
            pairs.append((chance.choice(_WORDS), chance.choice(_ODD)))
        case _:
            pairs[place] = (name, _change(chance, inner))
    return pairs


def _tree(chance: random.Random, depth: int = 0) -> Any:
    """Return JSON of the API's words in an order of chance."""
    if chance.random() < depth / 4:
        return chance.choice(_ODD)
    size = chance.randrange(4)
    if chance.random() < 0.3:  # noqa: PLR2004 - fewer lists than objects
        return [_tree(chance, depth + 1) for _ in range(size)]
    return {chance.choice(_WORDS): _tree(chance, depth + 1) for _ in range(size + 1)}


def _planted(value: Any) -> Any:
    """Return JSON in which persons bear the name, and their pictures are the one."""
    if isinstance(value, list):
        return [_planted(item) for item in value]
    if not isinstance(value, dict):
        return value
    planted = {name: _planted(inner) for name, inner in value.items()}
    if isinstance(planted.get("thumbnail"), str):
        planted["thumbnail"] = PICTURE
    if isinstance(planted.get("name"), str):
        planted |= {"name": NAME, "alias": NAME, NAME: NAME}
    return planted


def _text(chance: random.Random, value: Any) -> bytes:
    return json.dumps(_planted(value), ensure_ascii=chance.random() < 0.5).encode(  # noqa: PLR2004
        "utf-8", "surrogatepass"
    )


# -- bodies ----------------------------------------------------------------------------


def _json(source: Callable[[random.Random], Any]) -> Maker:
    return lambda chance: _text(chance, source(chance))


def _replaced(pattern: re.Pattern[bytes], others: tuple[bytes, ...]) -> Maker:
    """Put something else in the place of some parts of an answer's text."""

    def make_body(chance: random.Random) -> bytes:
        share = chance.choice((0.1, 0.5, 1.0))
        return pattern.sub(
            lambda found: (
                chance.choice(others) if chance.random() < share else found[0]
            ),
            _text(chance, _mutated(chance)),
        )

    return make_body


def _flipped(chance: random.Random) -> bytes:
    body = bytearray(_text(chance, _sample(chance)))
    for _ in range(chance.choice((1, 1, 2, 8))):
        body[chance.randrange(len(body))] ^= 1 << chance.randrange(8)
    return bytes(body)


def _cut(chance: random.Random) -> bytes:
    body = _text(chance, _mutated(chance))
    start = chance.choice((0, 0, 0, chance.randrange(len(body))))
    return body[start : chance.randrange(len(body) + 1)]


def _doubled(chance: random.Random) -> bytes:
    """Name fields twice in one object."""
    parts = _text(chance, _mutated(chance)).split(b"{")
    place = chance.randrange(len(parts))
    field = {chance.choice(_WORDS): chance.choice(_ODD)}
    parts[place] += json.dumps(field).encode()[:-1] + b"," if place else b""
    return b"{".join(parts)


def _recoded(chance: random.Random) -> bytes:
    text = _text(chance, _mutated(chance)).decode("utf-8", "replace")
    return text.encode(
        chance.choice(("utf-8-sig", "utf-16", "utf-32", "utf-16-be", "utf-7"))
    )


def _deep(chance: random.Random) -> bytes:
    depth = chance.choice((50, 200, 500, 900, 1_000, 1_023, 1_025, 5_000, 50_000))
    start, end = chance.choice(((b"[", b"]"), (b'{"data":', b"}"), (b'{"id":[', b"]}")))
    inner = start * depth + b"1" + end * chance.choice((depth, depth, depth - 1, 0))
    word = chance.choice(_WORDS).encode()
    return chance.choice((b'{"%s":%s}', b'{"data":[{"id":"a","%s":%s}]}')) % (
        word,
        inner,
    )


def _long(chance: random.Random) -> bytes:
    size = int(10 ** chance.uniform(2, 5.2))
    text = chance.choice(_LONG)
    text = chance.choice(("", "eyJ", "<title", "409:a@")) + text * (size // len(text))
    word = chance.choice(("message", "code", "id", "error", "detail", "signature"))
    person = {"id": text, "score": chance.choice((0.5, text))}
    value: Any = chance.choice(
        ({word: text}, {word: [{"msg": text}]}, {"data": [person]})
    )
    return chance.choice((json.dumps(value).encode(), text.encode("utf-8")))


def _many(chance: random.Random) -> bytes:
    value: Any = chance.choice(
        (0, {}, {"id": 1}, {"id": "a"}, {"id": "a", "score": 101}, [])
    )
    few = [value] * int(10 ** chance.uniform(1, 3.7))
    person = {"id": "a", "collections": few, "thumbnails": few}
    return _text(chance, {"data": chance.choice((few, {"persons": few}, [person]))})


def _page(chance: random.Random) -> bytes:
    title = chance.choice(("502", "", TOKEN, PICTURE, "\x1b[2J", "a\nb", "é" * 300))
    page = f"<!DOCTYPE html><html><head><TITLE>{title}</title></head>{title}</html>"
    return chance.choice(
        (b"", b" ", b"\xef\xbb\xbf", page.encode(), page.encode()[:30])
    )


def _noise(chance: random.Random) -> bytes:
    return chance.randbytes(chance.randrange(200))


# By their names: how an answer is made, and how often in a thousand.
_MADE: Final[dict[str, tuple[Maker, int]]] = {
    "a sample": (_json(_sample), 40),
    "fields changed": (_json(_mutated), 300),
    "words in any order": (_json(_tree), 150),
    "odd numbers": (
        _replaced(_NUMBER, tuple(number.encode() for number in _NUMBERS)),
        100,
    ),
    "odd text": (_replaced(_TEXT, _STRANGE), 100),
    "fields twice": (_doubled, 60),
    "bits flipped": (_flipped, 100),
    "cut off": (_cut, 60),
    "other encodings": (_recoded, 20),
    DEEP: (_deep, 10),
    "long text": (_long, 9),
    "many persons": (_many, 1),
    "a page, or nothing": (_page, 30),
    "noise": (_noise, 20),
}
KINDS: Final = {kind: made[0] for kind, made in _MADE.items()}
_WEIGHTS: Final = [made[1] for made in _MADE.values()]
