"""`verifik-async batch`: many pictures, into a journal that can be gone on with."""

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from cyclopts import Parameter
from cyclopts.validators import Number

from verifik_async import SearchOptions
from verifik_async.cli import _access
from verifik_async.cli._app import Flag
from verifik_async.cli._batch_run import Form, Task, estimate, run
from verifik_async.cli._inputs import PICTURES, PREPARED, Inputs
from verifik_async.cli._signals import interruptible

_Positive: TypeAlias = Annotated[float | None, Parameter(validator=Number(gt=0))]


async def batch(
    # The hyphen is for - alone; what else begins with one is refused.
    inputs: Annotated[list[str], Parameter(allow_leading_hyphen=True)],
    /,
    *,
    output: Annotated[Path, Parameter(alias="-o")],
    resume: Flag = False,
    os: Literal["ANDROID", "IOS", "DESKTOP"] = "DESKTOP",
    min_score: float = 0.7,
    search_mode: Literal["FAST", "ACCURATE"] = "FAST",
    collection_id: str | None = None,
    base_url: str | None = None,
    token_file: Path | None = None,
    concurrency: Annotated[int, Parameter(validator=Number(gte=1))] = 8,
    rate: _Positive = None,
    max_searches: Annotated[int | None, Parameter(validator=Number(gte=0))] = None,
    deadline: _Positive = None,
    coalesce: Flag = False,
    ordered: Flag = False,
    prepare: Flag = False,
    max_side: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    quality: Annotated[int, Parameter(validator=Number(gte=1, lte=95))] = 90,
    csv: Path | None = None,
    parquet: Path | None = None,
    dry_run: Flag = False,
    price: Annotated[float | None, Parameter(validator=Number(gte=0))] = None,
    json: Flag = False,
    debug: Flag = False,
) -> int:
    """Search many pictures, and keep what became of each.

    Args:
        inputs: Folders (with those below), patterns such as "photos/**/*.jpg", lists
            (.csv, .jsonl) with the column path and perhaps key, collection_id and
            min_score, pictures; - reads paths from standard input, one a line.
        output: The journal: a line of JSON for each picture, ids and scores only.
        resume: Go on with a journal: what it has the answer of is not searched again.
        os: Platform that captured the pictures.
        min_score: Threshold for a match, from 0.5 to 1.0.
        search_mode: FAST, or ACCURATE, which takes longer.
        collection_id: The code of the one collection to search; all, if left out.
        base_url: Where the API is, else VERIFIK_BASE_URL, else https://api.verifik.co.
        token_file: File that holds the token and nothing else.
        concurrency: Searches on the way at once.
        rate: Searches a second at most; as many as the service takes, if left out.
        max_searches: Searches to pay for at most.
        deadline: Seconds for all of it.
        coalesce: Send equal pictures once.
        ordered: Tables in the order of the input, not as searches ended.
        prepare: Turn pictures upright, and make JPEG of what is neither JPEG nor PNG
            (HEIC, WebP, TIFF); needs the extra images.
        max_side: Shrink pictures whose longer side has more pixels; includes --prepare.
        quality: Of JPEG that is made, from 1 to 95.
        csv: A table of all outcomes, written at the end.
        parquet: The same as Parquet; needs pyarrow.
        dry_run: Tell how much there is, how long it would take and what it would cost,
            and send nothing.
        price: Of one search, in any currency, for --dry-run.
        json: One JSON object in the end instead of a table.
        debug: Show tracebacks, and every request in one line, on stderr.
    """
    prepares = prepare or max_side is not None
    suffixes = PREPARED if prepares else PICTURES
    with interruptible():
        named = Inputs(inputs, suffixes)
    task = Task(
        inputs=named,
        output=output,
        resume=resume,
        options=SearchOptions(
            os=os,
            min_score=min_score,
            search_mode=search_mode,
            collection_id=collection_id,
        ),
        concurrency=concurrency,
        rate=rate,
        settings={
            "max_searches": max_searches,
            "deadline": deadline,
            "coalesce": coalesce,
            "ordered": ordered,
        },
        form=Form(max_side=max_side, quality=quality) if prepares else None,
        tables={"csv": csv, "parquet": parquet},
        as_json=json,
    )
    if dry_run:
        return estimate(task, price)
    if debug:
        _access.log_requests()
    token = _access.token(token_file)
    return await run(task, token, _access.base_url(base_url), debug=debug)
