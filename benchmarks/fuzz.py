"""Odd answers through the client's decoder: `python -m benchmarks.fuzz`.

Each comes out as a result or as one of the package's errors, in time, with nothing in
it that must not be shown. All are tried twice, with orjson and with the standard
library's JSON, in a process each; both must find the same, but for what is nested so
deeply that only one of them reads it. `--only NUMBER` shows one.
"""

import argparse
import asyncio
import datetime as dt
import multiprocessing
import pickle
import re
import time
import zlib
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeAlias

import attrs

from verifik_async import SearchResult, VerifikError, _convert, _wire
from verifik_async._types import Masked
from verifik_async.models import CallInfo, Liveness, Match, Signature

from ._child import in_child
from ._fuzz_answers import DEEP, KINDS, NAME, PICTURE, TOKEN, Answer, make
from ._show import Board, flags, parser, positive, run

_INPUTS, _QUICK_INPUTS = 1_000_000, 300
_SEED = 1
_MOST_SECONDS = 1.0  # of CPU, for one answer
_PICKLED = 50  # one in so many
_SHOWN = 5  # inputs that are named where something is wrong
_START_LIMIT, _LIMIT_EACH = 60.0, 0.005
_ORIGIN = "http://127.0.0.1:9"

# What of the picture counts as shown, and how long what the server wrote may be.
_RUN: Final = re.compile(r"[A-Za-z0-9+/=]{40,}")
_MOST_TEXT, _MOST_MESSAGE = 200, 600
_OWN_TEXT: Final = frozenset({"args", "origin"})

Found: TypeAlias = SearchResult | VerifikError


@attrs.frozen(kw_only=True)
class _Task:
    """What a process has to do.

    Attributes:
        seed: Of the inputs.
        inputs: How many, from number 0.
        with_orjson: Whether it may be used.
        at: Shared: the number that is tried.
    """

    seed: int
    inputs: int
    with_orjson: bool
    at: Any


@attrs.define(kw_only=True)
class _Tried:
    """What came of that.

    Attributes:
        kinds: Inputs by how they were made.
        classes: Inputs by the class of what came out.
        wrong: What must not be, by the numbers of the inputs.
        sights: A checksum for each input of all that can be seen of what came out.
        slowest: Seconds of CPU of the slowest input, and its number.
        seconds: In all.
    """

    kinds: Counter[str] = attrs.field(factory=Counter)
    classes: Counter[str] = attrs.field(factory=Counter)
    wrong: dict[int, str] = attrs.field(factory=dict)
    sights: "array[int]" = attrs.field(factory=lambda: array("L"), repr=False)
    slowest: tuple[float, int] = (0.0, 0)
    seconds: float = 0.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures; fail if one was missed."""
    options = flags(parser("fuzz", __doc__))
    options.add_argument("--inputs", type=positive, help=f"{_INPUTS:,} by default")
    options.add_argument("--seed", type=int, default=_SEED, help="of the inputs")
    options.add_argument("--only", type=int, metavar="NUMBER", help="show one input")
    given = options.parse_args(arguments)
    if given.only is not None:
        _show(given.seed, given.only)
        return
    inputs = given.inputs or (_QUICK_INPUTS if given.quick else _INPUTS)
    limit = _START_LIMIT + inputs * _LIMIT_EACH
    run(lambda board: _measure(board, given, inputs, limit), limit + 60, given.json)


async def _measure(
    board: Board, given: argparse.Namespace, inputs: int, limit: float
) -> None:
    board.head(f"{inputs:,} inputs of seed {given.seed}, tried with each parser")
    tasks = {
        name: _Task(
            seed=given.seed,
            inputs=inputs,
            with_orjson=name == "orjson",
            at=multiprocessing.get_context("spawn").RawValue("q", 0),
        )
        for name in ("orjson", "json")
    }
    async with asyncio.TaskGroup() as group:
        running = {
            name: group.create_task(_tried(board, name, task, limit))
            for name, task in tasks.items()
        }
    tried = {name: found for name, one in running.items() if (found := one.result())}
    if len(tried) == len(tasks):
        _show_all(board, given.seed, tried["orjson"], tried["json"])


async def _tried(board: Board, name: str, task: _Task, limit: float) -> _Tried | None:
    try:
        return await in_child(_try_all, task, limit)
    except TimeoutError:
        board.miss(f"{name}: still at {_which(task.seed, task.at.value)}")
    except EOFError:
        board.miss(f"{name}: the process ended at {_which(task.seed, task.at.value)}")
    return None


def _show_all(board: Board, seed: int, fast: _Tried, plain: _Tried) -> None:
    for kind in KINDS:
        board.fact(f"inputs: {kind}", fast.kinds[kind])
    board.head("what came out")
    for name, count in fast.classes.most_common():
        board.fact(name, count)
    for parser_name, tried in (("orjson", fast), ("json", plain)):
        board.head(f"with {parser_name}")
        board.fact(f"{parser_name}: in all", tried.seconds, "s")
        rate = len(tried.sights) / tried.seconds
        board.fact(f"{parser_name}: inputs a second", rate)
        seconds, number = tried.slowest
        board.at_most(f"{parser_name}: CPU of the slowest", seconds, _MOST_SECONDS, "s")
        print(f"    {_which(seed, number)}")
        board.exactly(f"{parser_name}: wrong", len(tried.wrong), 0)
        for number in sorted(tried.wrong)[:_SHOWN]:
            print(f"    {_which(seed, number)}: {tried.wrong[number]}")
    _compare(board, seed, fast, plain)


def _compare(board: Board, seed: int, fast: _Tried, plain: _Tried) -> None:
    pairs = enumerate(zip(fast.sights, plain.sights, strict=True))
    differ = [number for number, (one, other) in pairs if one != other]
    shallow = [number for number in differ if make(seed, number).kind != DEEP]
    board.head("both parsers")
    board.fact("found something else, nested deeply", len(differ) - len(shallow))
    board.exactly("found something else, all others", len(shallow), 0)
    for number in shallow[:_SHOWN]:
        print(f"    {_which(seed, number)}")


def _which(seed: int, number: int) -> str:
    return f"--seed {seed} --only {number} ({make(seed, number).kind})"


# -- in a process of its own -----------------------------------------------------------


def _try_all(task: _Task) -> _Tried:
    if not task.with_orjson:
        _parse_with(None)
    tried, decoder, began = _Tried(), _convert.Decoder(), time.perf_counter()
    for number in range(task.inputs):
        task.at.value = number
        answer = make(task.seed, number)
        tried.kinds[answer.kind] += 1
        before = time.process_time()
        found = _interpret(answer, decoder)
        tried.slowest = max(tried.slowest, (time.process_time() - before, number))
        tried.classes[type(found).__name__] += 1
        wrong = next(_wrong(found, pickled=number % _PICKLED == 0), None)
        if wrong is not None:
            tried.wrong[number] = wrong
        tried.sights.append(zlib.crc32(_sight(found).encode("utf-8", "replace")))
    tried.seconds = time.perf_counter() - began
    return tried


def _parse_with(module: object) -> None:
    """Let the package find this in the place of orjson; None: as if not installed."""
    vars(_convert)["orjson"] = module


def _interpret(answer: Answer, decoder: _convert.Decoder) -> object:
    """Return what an answer means; an exception, which must not be, as it is."""
    reply = _wire.Reply(answer.status, answer.headers, answer.body)
    try:
        return _wire.interpret(
            reply, decoder, call=CallInfo(), origin=_ORIGIN, secret=Masked(TOKEN)
        )
    except Exception as error:  # noqa: BLE001 - this is what is looked for
        return error


def _sight(found: object) -> str:
    if not isinstance(found, VerifikError):
        return repr(found)
    facts = {
        name: value for name, value in vars(found).items() if name != "retry_after"
    }
    return f"{found!r} {found} {facts}"


def _wrong(found: object, *, pickled: bool) -> Iterator[str]:
    """Yield what must not be."""
    if isinstance(found, SearchResult):
        yield from _wrong_types(found)
    elif isinstance(found, VerifikError):
        yield from _shown(found)
    else:
        yield f"{type(found).__name__} was raised"
        return
    if pickled and (problem := _unlike_its_pickle(found)):
        yield problem


def _unlike_its_pickle(found: Found) -> str | None:
    try:
        copy = pickle.loads(pickle.dumps(found))  # noqa: S301 - our own
    except RecursionError:
        # Python's own limit, for JSON nested as deeply as only `raw` may be.
        return None
    if isinstance(found, VerifikError):
        same = type(copy) is type(found) and vars(copy) == vars(found)
        same = same and copy.args == found.args
    else:
        same = copy == found
    return None if same else "its pickle is something else"


# -- results ---------------------------------------------------------------------------


def _wrong_types(result: SearchResult) -> Iterator[str]:
    if not _is(result.id, str):
        yield "id"
    scores = [match.score for match in result.matches]
    ordered = sorted(scores, key=lambda score: -1.0 if score is None else score)
    if scores != ordered[::-1]:
        yield "matches are not the best first"
    for match in result.matches:
        yield from _wrong_in_match(match)
    if result.liveness is not None:
        yield from _wrong_in_liveness(result.liveness)
    if result.signature is not None:
        yield from _wrong_in_signature(result.signature)


def _wrong_in_match(match: Match) -> Iterator[str]:
    if type(match.id) is not str:
        yield "matches.id"
    if not _is_score(match.score):
        yield "matches.score"
    if not all(
        _is(text, str) for text in (match.name, match.gender, match.nationality)
    ):
        yield "text of a match"
    if not _is(match.date_of_birth, dt.date):
        yield "matches.date_of_birth"
    pictures = (
        text for small in match.thumbnails for text in (small.id, small.thumbnail)
    )
    if not all(_is(text, str) for text in pictures):
        yield "matches.thumbnails"
    for collection in match.collections:
        if type(collection) is not str and not _is(collection.count, int):
            yield "matches.collections.count"


def _wrong_in_liveness(liveness: Liveness) -> Iterator[str]:
    if not _is_score(liveness.score) or not _is_score(liveness.min_score):
        yield "liveness.score"
    if not _is(liveness.passed, bool) or not _is(liveness.status, str):
        yield "liveness"


def _wrong_in_signature(signature: Signature) -> Iterator[str]:
    if not _is(signature.message, str) or not _is(signature.date_time, str):
        yield "signature"
    time_stamp = signature.timestamp
    if not _is(time_stamp, dt.datetime) or (time_stamp and time_stamp.tzinfo):
        yield "signature.timestamp"


def _is(value: object, kind: type) -> bool:
    return value is None or type(value) is kind


def _is_score(value: object) -> bool:
    return value is None or (type(value) is float and 0.0 <= value <= 1.0)


# -- errors ----------------------------------------------------------------------------


def _shown(error: VerifikError) -> Iterator[str]:
    """Yield what an error shows and must not, its text that is too long included."""
    texts = {"args": " ".join(map(str, error.args)), **vars(error)}
    for name, text in texts.items():
        if not isinstance(text, str):
            continue
        most = _MOST_MESSAGE if name in _OWN_TEXT else _MOST_TEXT
        if len(text) > most:
            yield f"{name} has {len(text)} characters"
        if not text.isprintable():
            yield f"{name} is not printable"
    everything = f"{error} {error!r} {texts}"
    if TOKEN in everything:
        yield "the token is shown"
    if any(word in everything for word in NAME.split()):
        yield "a name is shown"
    if any(run[:40] in PICTURE for run in _RUN.findall(everything)):
        yield "the picture is shown"
    if not str(error):
        yield "it says nothing"


# -- one input -------------------------------------------------------------------------


def _show(seed: int, number: int) -> None:
    """Print an input and what comes out, with both parsers where there are two."""
    answer = make(seed, number)
    print(f"{answer.kind}: {answer.status} {dict(answer.headers)}")
    print(f"{len(answer.body)} bytes: {answer.body[:4_000]!r}")
    parsers = {"orjson": vars(_convert)["orjson"], "json": None}
    for name, module in parsers.items():
        _parse_with(module)
        before = time.process_time()
        found = _interpret(answer, _convert.Decoder())
        took = time.process_time() - before
        print(f"{name}: {_sight(found)}, {took:.4f} s of CPU")
        for problem in _wrong(found, pickled=True):
            print(f"  wrong: {problem}")


if __name__ == "__main__":
    main()
