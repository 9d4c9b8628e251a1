"""`verifik-async demo`: the whole story on this machine, without a token."""

import contextlib
import sys
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from verifik_async.cli import _demo_report, _show, _trial
from verifik_async.cli._app import Flag
from verifik_async.cli._exit import Exit, UsageError
from verifik_async.testing import MockProcess

_AtLeastOne = Parameter(validator=Number(gte=1))
_NotNegative = Parameter(validator=Number(gte=0))


async def demo(
    *,
    people: Annotated[int, _AtLeastOne] = 48,
    probes: Annotated[int, _NotNegative] = 300,
    strangers: Annotated[int, _NotNegative] = 100,
    concurrency: Annotated[int, _AtLeastOne] = 32,
    seed: int = 0,
    json: Flag = False,
    debug: Flag = False,
) -> int:
    """Show it all: enrol faces, search many at once, count what was found.

    Args:
        people: Persons to draw and enrol.
        probes: Searches for pictures of them.
        strangers: Searches for persons who are not enrolled.
        concurrency: Searches on the way at once.
        seed: Which faces are drawn, and in which order they are searched.
        json: One JSON object instead of the tables.
        debug: Show tracebacks.
    """
    del debug  # looked for by what catches errors
    if probes + strangers == 0:
        raise UsageError("there is nothing to search (raise --probes or --strangers)")
    plan = _trial.Plan(
        people=people,
        probes=probes,
        strangers=strangers,
        concurrency=concurrency,
        seed=seed,
    )
    async with contextlib.AsyncExitStack() as stack:
        mock = MockProcess(latency=_trial.SERVICE_SECONDS, seed=seed)
        try:
            await stack.enter_async_context(mock)
        except (OSError, RuntimeError) as error:
            raise UsageError(
                f"the stand-in did not start: {type(error).__name__} "
                "(try python -m verifik_async.testing; --debug tells more)"
            ) from error
        report = await _trial.hold(plan, mock)
    if json:
        sys.stdout.write(_demo_report.as_json(report) + "\n")
    else:
        _demo_report.show(report, _show.console())
    return Exit.OK if report.as_expected else Exit.SOME_FAILED
