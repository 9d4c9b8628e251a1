"""What unit tests share: samples, a clock without waiting, a look for secrets."""

import asyncio
import datetime as dt
import json
import pathlib
import traceback
import types
import typing

import attrs
import pytest

import verifik_async
from verifik_async import _convert

SAMPLES = pathlib.Path(__file__).parents[1] / "samples" / "search-active-user"
PACKAGE = str(pathlib.Path(verifik_async.__file__).parent)


@pytest.fixture(scope="session")
def sample():
    """Return the body of a recorded answer by its name."""
    return lambda name: (SAMPLES / f"{name}.json").read_bytes()


@pytest.fixture(scope="session")
def sample_json(sample):
    """Return a recorded answer by its name, decoded."""
    return lambda name: json.loads(sample(name))


@pytest.fixture(params=["orjson", "stdlib"])
def convert(request, monkeypatch):
    """The module that reads answers, with orjson and as it is without."""
    if request.param == "orjson":
        pytest.importorskip("orjson")
    else:
        monkeypatch.setattr(_convert, "orjson", None)
    return _convert


def _frames(error):
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    while told is not None:
        for frame in told.stack:
            if frame.filename.startswith(PACKAGE):
                yield from (frame.locals or {}).values()
        yield str(told)
        told = told.__cause__ or told.__context__


@pytest.fixture(scope="session")
def shown():
    """Return all that an error shows: texts, attributes, locals of our frames."""

    def everything(error):
        texts = [str(error), repr(error), repr(error.args), repr(vars(error))]
        return "\n".join([*texts, *_frames(error)])

    return everything


def _fits(value, kind):
    if kind is typing.Any:
        return True
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, one) for one in arguments)
    if origin is tuple:
        return type(value) is tuple and all(_fits(v, arguments[0]) for v in value)
    if origin is not None:
        return isinstance(value, origin)
    if attrs.has(kind):
        return type(value) is kind and not list(_misfits(value))
    if kind in (dt.date, dt.datetime, str, int, float, bool, types.NoneType):
        return type(value) is kind
    raise AssertionError(f"no rule for {kind}")


def _misfits(model):
    hints = typing.get_type_hints(type(model))
    for field in attrs.fields(type(model)):
        value = getattr(model, field.name)
        if not _fits(value, hints[field.name]):
            yield f"{type(model).__name__}.{field.name}: {value!r}"


@pytest.fixture(scope="session")
def misfits():
    """Return the fields of a model whose value is not of the annotated type."""
    return lambda model: list(_misfits(model))


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer instead of waiting."""

    def __init__(self):
        super().__init__()
        self.now = 1000.0
        really_select = self._selector.select

        def select(timeout):
            if timeout is None:
                raise AssertionError("everybody waits, and no timer is left")
            self.now += max(timeout, 0.0)
            return really_select(0)

        self._selector.select = select

    def time(self):
        return self.now


@pytest.fixture(scope="session")
def virtual():
    """Run a coroutine function on a loop whose clock never makes anybody wait."""

    def run(function, *, resolution=None):
        def factory():
            loop = VirtualLoop()
            if resolution is not None:
                loop._clock_resolution = resolution
            return loop

        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(function())

    return run
