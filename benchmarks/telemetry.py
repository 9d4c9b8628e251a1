"""What telemetry costs a search: `python -m benchmarks.telemetry`.

The same searches by turns: without `on_search`; with `Telemetry` where only the API of
OpenTelemetry is installed, or nobody has set a provider; with providers that do
nothing, which is what all but the SDK costs; with an SDK that counts and samples no
span; and with one that makes a span of each search. Spans go through a batch processor
to an exporter that throws them away, metrics are collected once a turn: what it takes
to encode them and send them somewhere is not in it. No provider is ever global here, so
that one process has all of them.
"""

import argparse
import contextlib
import statistics
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import TypeAlias

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler

from verifik_async import VerifikClient
from verifik_async.integrations.otel import Telemetry

from . import _machine
from ._job import OPTIONS, TOKEN, Job, make_picture
from ._measure import CellFigures, Setting, measure
from ._rivals import Rival, Turn, check_result, pull
from ._servers import STAND_IN, Server, serving
from ._show import Board, flags, parser, positive, run

_SIZES, _CONCURRENCY = (20_000, 200_000), 32
_COUNT, _QUICK_COUNT = 500, 64
_ROUNDS, _QUICK_ROUNDS = 24, 2
_LIMIT = 240.0
_OFF, _API = "off", "API only"
# Who brings no SDK shall not be able to tell.
_MOST_API = 1.05

# Gives what is told of searches, if anything, and what is done at the end of a turn.
_Way: TypeAlias = Callable[
    [], contextlib.AbstractContextManager[tuple[Telemetry | None, Callable[[], object]]]
]


class _Nowhere(SpanExporter):
    """Throws spans away."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:  # noqa: ARG002
        """Say that it went well."""
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Do nothing."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures."""
    options = flags(parser("telemetry", __doc__))
    options.add_argument("--rounds", type=positive, help="of a turn each")
    given = options.parse_args(arguments)
    run(lambda board: _measure(board, given), _LIMIT, given.json)


async def _measure(board: Board, given: argparse.Namespace) -> None:
    rounds = given.rounds or (_QUICK_ROUNDS if given.quick else _ROUNDS)
    count = _QUICK_COUNT if given.quick else _COUNT
    async with serving(STAND_IN, 0) as server:
        with _machine.pinned(server.pid) as pinning:
            board.head(
                f"{count:,} searches a turn, {_CONCURRENCY} at once, "
                f"{rounds} rounds; {pinning}"
            )
            for size in _SIZES:
                _show(board, size, await _cell(server, size, rounds, count))


async def _cell(server: Server, size: int, rounds: int, count: int) -> CellFigures:
    picture = make_picture(size)
    await server.enroll(picture)
    return await measure(
        Job(url=server.url, picture=picture, concurrency=_CONCURRENCY),
        Setting(size=size, concurrency=_CONCURRENCY),
        _RIVALS,
        rounds=rounds,
        count=count,
        seconds=_LIMIT,
    )


def _show(board: Board, size: int, figures: CellFigures) -> None:
    kb = f"{size // 1000} KB"
    cpu = {
        name: [turn.cpu_per_search_us for turn in turns]
        for name, turns in figures.turns.items()
    }
    for name, taken in cpu.items():
        board.fact(f"{kb}, {name}: CPU of one", statistics.median(taken), "us")
    for name in list(cpu)[1:]:
        ratios = [mine / off for mine, off in zip(cpu[name], cpu[_OFF], strict=True)]
        label = f"{kb}, {name} / {_OFF}: CPU"
        if name == _API:
            board.at_most(label, statistics.median(ratios), _MOST_API)
        else:
            board.fact(label, statistics.median(ratios))
        ordered, quarter = sorted(ratios), len(ratios) // 4
        board.fact(f"{label}, the middle half from", ordered[quarter])
        board.fact(f"{label}, the middle half to", ordered[-1 - quarter])


# -- who takes turns ------------------------------------------------------------


@contextlib.contextmanager
def _off() -> Iterator[tuple[None, Callable[[], object]]]:
    yield None, lambda: None


@contextlib.contextmanager
def _api() -> Iterator[tuple[Telemetry, Callable[[], object]]]:
    yield Telemetry(), lambda: None


@contextlib.contextmanager
def _idle() -> Iterator[tuple[Telemetry, Callable[[], object]]]:
    yield (
        Telemetry(
            tracer_provider=trace.NoOpTracerProvider(),
            meter_provider=metrics.NoOpMeterProvider(),
        ),
        lambda: None,
    )


@contextlib.contextmanager
def _sdk(sampler: Sampler) -> Iterator[tuple[Telemetry, Callable[[], object]]]:
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader])
    traces = TracerProvider(sampler=sampler)
    traces.add_span_processor(BatchSpanProcessor(_Nowhere()))

    def settle() -> None:
        # Not in somebody else's turn.
        traces.force_flush()
        reader.get_metrics_data()

    telemetry = Telemetry(tracer_provider=traces, meter_provider=meters)
    try:
        yield telemetry, settle
    finally:
        traces.shutdown()
        meters.shutdown()


def _rival(name: str, about: str, way: _Way) -> Rival:
    @contextlib.asynccontextmanager
    async def opened(job: Job) -> AsyncIterator[Turn]:
        with way() as (telemetry, settle):
            async with VerifikClient(
                TOKEN,
                base_url=job.url,
                defaults=OPTIONS,
                max_concurrency=job.concurrency,
                on_search=telemetry,
            ) as client:

                async def search() -> None:
                    check_result(await client.search_active_user(job.picture))

                async def turn(count: int) -> list[float]:
                    took = await pull(search, count, job.concurrency)
                    settle()
                    return took

                yield turn

    return Rival(name=name, about=about, open=opened)


_RIVALS = (
    _rival(_OFF, "no `on_search`", _off),
    _rival(_API, "Telemetry, and no provider", _api),
    _rival("idle SDK", "providers that do nothing", _idle),
    _rival("SDK, no spans", "metrics; no span is sampled", lambda: _sdk(ALWAYS_OFF)),
    _rival("SDK", "metrics, and a span of each", lambda: _sdk(ALWAYS_ON)),
)


if __name__ == "__main__":
    main()
