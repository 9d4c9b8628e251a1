"""`verifik-async search`: one search for each picture named."""

import asyncio
import stat
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from verifik_async import (
    AuthenticationError,
    PaymentRequiredError,
    PermissionDeniedError,
    SearchOptions,
    Timeouts,
    VerifikClient,
    VerifikError,
)
from verifik_async.cli import _access, _show
from verifik_async.cli._answers import Answer, JsonLines, Rows
from verifik_async.cli._app import Flag
from verifik_async.cli._exit import Exit, UsageError, one_line, printable

_STDIN = "-"
# They would meet every further picture as well.
_STOP_ON = (AuthenticationError, PermissionDeniedError, PaymentRequiredError)


async def search(
    # The hyphen is for - alone; what else begins with one is refused below.
    images: Annotated[list[str], Parameter(allow_leading_hyphen=True)],
    /,
    *,
    os: Literal["ANDROID", "IOS", "DESKTOP"] = "DESKTOP",
    min_score: float = 0.7,
    search_mode: Literal["FAST", "ACCURATE"] = "FAST",
    collection_id: str | None = None,
    base_url: str | None = None,
    token_file: Path | None = None,
    concurrency: Annotated[int, Parameter(validator=Number(gte=1))] = 8,
    deadline: Annotated[float | None, Parameter(validator=Number(gt=0))] = None,
    json: Flag = False,
    debug: Flag = False,
) -> int:
    """Search the enrolled persons for the face in each picture.

    Args:
        images: JPEG or PNG files; - reads one picture from standard input.
        os: Platform that captured the pictures.
        min_score: Threshold for a match, from 0.5 to 1.0.
        search_mode: FAST, or ACCURATE, which takes longer.
        collection_id: The code of the one collection to search; all, if left out.
        base_url: Where the API is, else VERIFIK_BASE_URL, else https://api.verifik.co.
        token_file: File that holds the token and nothing else.
        concurrency: Searches on the way at once.
        deadline: Seconds for each search, retries included; 60 if left out.
        json: One JSON object a line for each picture instead of a table.
        debug: Show tracebacks, and every request in one line, on stderr.
    """
    await asyncio.to_thread(_check_images, images)
    options = SearchOptions(
        os=os,
        min_score=min_score,
        search_mode=search_mode,
        collection_id=collection_id,
    )
    token = await asyncio.to_thread(_access.token, token_file)
    client = VerifikClient(
        token,
        base_url=_access.base_url(base_url),
        defaults=options,
        max_concurrency=concurrency,
        timeouts=Timeouts() if deadline is None else Timeouts(deadline=deadline),
    )
    if debug:
        _access.log_requests()
    report = JsonLines(images) if json else Rows(images)
    async with client:
        failed = await _search_all(client, images, concurrency, report, debug=debug)
    report.finish()
    if failed and len(images) > 1:
        sys.stderr.write(
            f"verifik-async: {failed} of {len(images)} pictures have no answer\n"
        )
    return Exit.SOME_FAILED if failed else Exit.OK


async def _search_all(
    client: VerifikClient,
    images: list[str],
    concurrency: int,
    report: Rows | JsonLines,
    *,
    debug: bool,
) -> int:
    """Search for all pictures and return how many have no answer."""
    source, answered = iter(enumerate(images)), 0
    stopped = asyncio.Event()

    async def worker(step: Callable[[], None]) -> None:
        nonlocal answered
        while not stopped.is_set() and (probe := next(source, None)) is not None:
            index, image = probe
            answer = await _search_one(client, image)
            if answer.error is None:
                answered += 1
            else:
                _complain(answer.error, image, debug=debug)
            if isinstance(answer.error, _STOP_ON):
                stopped.set()
            report.add(index, answer)
            step()

    with _show.progress("searching", len(images), hidden=report.live) as step:
        async with asyncio.TaskGroup() as tasks:
            for number in range(min(concurrency, len(images))):
                tasks.create_task(worker(step), name=f"search-{number}")
    return len(images) - answered


async def _search_one(client: VerifikClient, image: str) -> Answer:
    source = sys.stdin.buffer if image == _STDIN else Path(image)
    try:
        return Answer(image, result=await client.search_active_user(source))
    except VerifikError as error:
        return Answer(image, error=error)


def _complain(error: VerifikError, image: str, *, debug: bool) -> None:
    if debug:
        traceback.print_exception(error)
    sys.stderr.write(f"verifik-async: {printable(image)}: {one_line(error)}\n")


def _check_images(images: list[str]) -> None:
    """Refuse what cannot be sent before anything is, and charged."""
    if images.count(_STDIN) > 1:
        raise UsageError("- can be given once: standard input holds one picture")
    for image in images:
        if image == _STDIN:
            continue
        name = printable(image)
        if image.startswith("-"):
            raise UsageError(f"unknown option {name} (see --help; or ./{name}, a file)")
        try:
            mode = Path(image).stat().st_mode
        except (OSError, ValueError):
            raise UsageError(
                f"{name}: there is no such file (nothing was sent; check the path)"
            ) from None
        if stat.S_ISDIR(mode):
            raise UsageError(f"{name} is a folder (name its pictures: {name}/*.jpg)")
        if not stat.S_ISREG(mode):
            raise UsageError(f"{name} is no regular file (use - and a pipe instead)")
