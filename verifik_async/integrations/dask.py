"""Data sets of any size on a Dask cluster; needs the extra `dask`.

    async with Client(cluster, asynchronous=True) as dask:
        totals = await search_dataset(dask, "photos.csv", "s3://bucket/out", ...)

Each worker process has one `VerifikClient`, on its own event loop. A part of some
hundred pictures is a task that reads them, searches them and writes one Parquet file;
counts come back, rows never do. What is there is skipped by the next run.

The token is in VERIFIK_TOKEN in the environment of the workers. It is in no task, no
plugin and no message: hand it to them as you hand them other secrets.
"""

import asyncio
import contextlib
import hashlib
import itertools
import os
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from verifik_async import (
    BatchStoppedError,
    BatchSummary,
    Charge,
    ClientClosedError,
    ConfigurationError,
    JournalLockedError,
    Limiter,
    RateLimit,
    RetryPolicy,
    SearchOptions,
    Timeouts,
    VerifikClient,
    read_journal,
)

try:
    from distributed import Client, Future, WorkerPlugin, as_completed, get_worker

    from verifik_async.integrations._dataset import (
        Entries,
        Folder,
        Frozen,
        Manifest,
        Row,
        done,
        freeze,
        read_part,
        write_part,
    )
except ImportError as error:
    raise ImportError(
        "verifik_async.integrations.dask needs distributed, pyarrow and fsspec: "
        'pip install "verifik-async[dask]"',
        name=error.name,
    ) from error

__all__ = ["Totals", "search_dataset"]

_TIMEOUTS: Final = Timeouts()
_RETRY: Final = RetryPolicy()
_LOCKED_TRIES: Final = 30


@attrs.frozen(kw_only=True)
class Totals:
    """What a run has come to.

    Attributes:
        parts: Parts of the data set.
        skipped: Parts that were there when the run began.
        written: Parts that it wrote; all counts below are of the rows in them.
        images: Pictures.
        answered: Pictures with a result.
        failed: Pictures with an error.
        not_sent: Of the failed: never left the worker.
        maybe_charged: Of the failed: may have been charged.
        attempts: Requests, throttled ones apart.
        throttled: Requests that the service throttled.
        request_bytes: Bytes of the requests' bodies, the last of each picture.
        seconds: Since the run began.
        errors: Failed pictures per error class name.
    """

    parts: int = 0
    skipped: int = 0
    written: int = 0
    images: int = 0
    answered: int = 0
    failed: int = 0
    not_sent: int = 0
    maybe_charged: int = 0
    attempts: int = 0
    throttled: int = 0
    request_bytes: int = 0
    seconds: float = 0.0
    errors: Mapping[str, int] = attrs.field(factory=dict, hash=False)

    def _plus(self, part: "_Part", seconds: float) -> "Totals":
        """Return the totals with a part more."""
        sums = {name: getattr(self, name) + part.counts[name] for name in _COUNTS}
        errors = dict(Counter(self.errors) + part.errors)
        written = self.written + 1
        return attrs.evolve(
            self, **sums, written=written, seconds=seconds, errors=errors
        )


_SUMS: Final = ("attempts", "throttled", "request_bytes")
_COUNTS: Final = (
    *("images", "answered", "failed", "not_sent", "maybe_charged"),
    *_SUMS,
)


@attrs.frozen
class _Part:
    """What a task returns.

    Attributes:
        counts: By the names of `Totals`.
        errors: Failed pictures per error class name.
        stopped: What would meet every other search as well; then there is no file.
    """

    counts: Counter[str] = attrs.field(factory=Counter)
    errors: Counter[str] = attrs.field(factory=Counter)
    stopped: BatchStoppedError | None = None

    @classmethod
    def of(cls, rows: list[Row]) -> "_Part":
        counts: Counter[str] = Counter(images=len(rows))
        for row in rows:
            if row["error"] is None:
                counts["answered"] += 1
            else:
                counts["failed"] += 1
                if row["state"] != Charge.ANSWERED:
                    counts[row["state"]] += 1
            for name in _SUMS:
                counts[name] += row[name]
        return cls(counts, Counter(row["error"] for row in rows if row["error"]))


@attrs.frozen(kw_only=True)
class _Settings:
    """What a worker needs to know. It is pickled: no token, no picture, no path of one.

    Attributes:
        out: Folder of the data set.
        part_size: Pictures in a part.
        journals: Folder of the journals of parts that are searched; None: none.
        limiter: Makes the worker's own limiter; None: `rate_limit` holds.
    """

    out: str
    part_size: int
    journals: Path | None
    defaults: SearchOptions
    base_url: str | None
    allow_insecure_http: bool
    max_concurrency: int
    max_image_bytes: int
    rate_limit: RateLimit | None
    limiter: Callable[[], Limiter] | None
    timeouts: Timeouts
    retry: RetryPolicy

    def client(self, limiter: Limiter | None = None) -> VerifikClient:
        """Return a client; it opens nothing yet, and asks its environment later."""
        return VerifikClient(
            base_url=self.base_url,
            allow_insecure_http=self.allow_insecure_http,
            defaults=self.defaults,
            max_concurrency=self.max_concurrency,
            max_image_bytes=self.max_image_bytes,
            rate_limit=self.rate_limit if limiter is None else limiter,
            timeouts=self.timeouts,
            retry=self.retry,
        )


class _Searcher(WorkerPlugin):  # type: ignore[misc]  # untyped: see pyproject.toml
    """Gives each worker what searches its parts, from its start to its end."""

    def __init__(self, name: str, settings: _Settings) -> None:
        self.name = name
        self._settings = settings
        self.at_work: _AtWork | None = None

    async def setup(self, worker: Any) -> None:  # noqa: ARG002 - Dask's signature
        """Begin, on the worker's event loop."""
        self.at_work = _AtWork(self._settings)

    async def teardown(self, worker: Any) -> None:  # noqa: ARG002 - Dask's signature
        """Close the client."""
        if self.at_work is not None:
            await self.at_work.close()


class _AtWork:
    """One worker's only client, and what it searches."""

    def __init__(self, settings: _Settings) -> None:
        self._limiter = None if settings.limiter is None else settings.limiter()
        self._client = settings.client(self._limiter)
        self._out = Folder(settings.out)
        self._manifest = Manifest(self._out, settings.part_size)
        self._journals = settings.journals
        self._stopped: BatchStoppedError | None = None

    async def close(self) -> None:
        """Close the client, and a limiter that can be closed."""
        await self._client.aclose()
        close = getattr(self._limiter, "aclose", None)
        if close is not None:
            await close()

    async def search(self, number: int) -> _Part:
        """Search a part and write its file.

        Raises:
            ClientClosedError: the worker ends.
            Exception: of a disk, an object store or a limiter; the part is tried again.
        """
        for _ in range(_LOCKED_TRIES):
            with contextlib.suppress(JournalLockedError):
                return await self._search(number)
            await asyncio.sleep(1.0)  # whoever had the part before is being ended
        return await self._search(number)

    async def _search(self, number: int) -> _Part:
        if self._stopped is not None:  # nothing has to be sent to know it
            return _Part(stopped=self._stopped)
        entries: Entries = await asyncio.to_thread(self._manifest.part, number)
        written = await asyncio.to_thread(read_part, self._out, number)
        if written is not None:  # by who had the part before
            return _Part.of(written)
        journal = await asyncio.to_thread(self._journal, number)
        probes = (entry.probe(index) for index, entry in entries.items())
        rows: dict[Any, Row] = {}
        try:
            async with self._client.search_many(probes, journal=journal) as outcomes:
                async for outcome in outcomes:
                    rows[outcome.key] = entries[outcome.key].row(outcome)
        except BatchStoppedError as error:
            if isinstance(error.cause, ClientClosedError):
                raise
            self._stopped = error
            return _Part(stopped=error)
        return await asyncio.to_thread(self._write, number, entries, rows, journal)

    def _journal(self, number: int) -> Path | None:
        if self._journals is None:
            return None
        self._journals.mkdir(parents=True, exist_ok=True)
        return self._journals / f"part-{number:08}.jsonl"

    def _write(
        self,
        number: int,
        entries: Entries,
        rows: dict[Any, Row],
        journal: Path | None,
    ) -> _Part:
        if journal is not None and len(rows) < len(entries):  # an earlier try's
            for outcome in read_journal(journal):
                rows.setdefault(outcome.key, entries[outcome.key].row(outcome))
        ordered = [rows[index] for index in entries]
        write_part(self._out, number, ordered)
        if journal is not None:
            journal.unlink(missing_ok=True)
        return _Part.of(ordered)


async def _search_part(name: str, number: int) -> _Part:
    """Search a part; a task, on the event loop of its worker."""
    at_work: _AtWork = get_worker().plugins[name].at_work
    return await at_work.search(number)


async def search_dataset(
    dask: Client,
    manifest: str | os.PathLike[str] | None,
    out: str | os.PathLike[str],
    *,
    defaults: SearchOptions,
    part_size: int = 128,
    max_concurrency: int = 32,
    rate: float | None = None,
    limiter: Callable[[], Limiter] | None = None,
    base_url: str | None = None,
    allow_insecure_http: bool = False,
    max_image_bytes: int = 20 * 1024 * 1024,
    timeouts: Timeouts = _TIMEOUTS,
    retry: RetryPolicy = _RETRY,
    journals: str | os.PathLike[str] | bool = True,
    retries: int = 2,
    window: int = 2000,
    on_progress: Callable[[Totals], object] | None = None,
) -> Totals:
    """Search all pictures of a data set on a cluster, or go on with it.

    With a client that is not asynchronous: `dask.sync(search_dataset, dask, ...)`.

    Args:
        dask: Client of the cluster. Each worker searches as many parts at once as it
            has threads; some few are enough.
        manifest: A folder, searched with all below it (.jpg, .jpeg, .png), or a list,
            .csv or .parquet, with the column path, and perhaps key, collection_id and
            min_score. Local, or a URL that fsspec knows (s3://...); paths in a list
            are relative to it. None: the one that `out` was begun with.
        out: Folder, local to all machines or in an object store, of the frozen list
            and the parts. One run at a time uses it.
        defaults: What to search with.
        part_size: Pictures in a part, at least 1; 64 to 256 are right.
        max_concurrency: Searches on the wire at once, and connections, of each worker.
            As many pictures of each part are in memory.
        rate: Searches a second of the whole cluster, shared out evenly over the
            workers that are there when the run begins; None: no limit of ours.
        limiter: In place of `rate`: picklable, called in each worker, for a `Limiter`
            that all of them share. One that has `aclose()` is closed in the end.
        base_url: None: VERIFIK_BASE_URL of the workers, then the API's own.
        allow_insecure_http: As for `VerifikClient`.
        max_image_bytes: Size of a picture at most; a larger one is a failed row.
        timeouts: Of each search.
        retry: When a search is sent again.
        journals: Whether what is answered of a part is kept beside the parts while it
            is searched, so that a worker that is killed has only what was on the wire
            searched again; or the folder for it, on a disk that all workers share.
            Without, as for `out` in an object store unless a folder is given, a part
            is searched again as a whole.
        retries: Times that a part is tried again whose worker was lost or whose disk
            failed. Pictures that fail are rows, and no reason to try again.
        window: Parts that the scheduler knows of at once, more than there are threads.
        on_progress: Called with the totals so far after each part.

    Returns:
        The totals of this run.

    Raises:
        ConfigurationError: an argument, the manifest or a row of it is wrong. Nothing
            was sent.
        JournalMismatchError: `out` was begun with another manifest, part size or other
            search parameters. Nothing was sent.
        BatchStoppedError: credits, token or service would fail every other search as
            well; `summary` counts the parts that were written. All workers stopped.
        Exception: what ended a part for good, `KilledWorker` for one. As with all
            others, the next call with the same arguments goes on.
    """
    if not bool(dask.asynchronous):
        raise ConfigurationError("call it as dask.sync(search_dataset, dask, ...)")
    _check("part_size", part_size)
    _check("window", window)
    if rate is not None and limiter is not None:
        raise ConfigurationError("rate and limiter exclude each other: give one")
    await dask.wait_for_workers(1)
    workers = len(await dask.nthreads())
    folder = await asyncio.to_thread(Folder, os.fspath(out))
    settings = _Settings(
        out=folder.url,
        part_size=part_size,
        journals=_journals(folder, asked=journals),
        defaults=defaults,
        base_url=base_url,
        allow_insecure_http=allow_insecure_http,
        max_concurrency=max_concurrency,
        max_image_bytes=max_image_bytes,
        rate_limit=None if rate is None else RateLimit(rate / workers),
        limiter=limiter,
        timeouts=timeouts,
        retry=retry,
    )
    settings.client().search_many(())  # it checks them
    source = None if manifest is None else os.fspath(manifest)
    frozen = await asyncio.to_thread(freeze, source, folder, part_size, defaults)
    run = _Run(dask, settings, frozen, retries, on_progress)
    return await run.over(await asyncio.to_thread(done, folder), window)


def _check(name: str, number: object) -> None:
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ConfigurationError(f"{name} must be a whole number of at least 1")


def _journals(out: Folder, *, asked: str | os.PathLike[str] | bool) -> Path | None:
    """Return the folder of the journals, or None."""
    if not isinstance(asked, bool):
        return Path(asked).absolute()
    return out.local / "journals" if asked and out.local is not None else None


class _Run:
    """The driver's side of a run."""

    def __init__(
        self,
        dask: Client,
        settings: _Settings,
        frozen: Frozen,
        retries: int,
        on_progress: Callable[[Totals], object] | None,
    ) -> None:
        self._dask = dask
        # One of the same data set takes the place of what a driver has left that is
        # no more: its searches on the wire finish, the others are not sent.
        name = hashlib.sha256(settings.out.encode()).hexdigest()[:16]
        self._searcher = _Searcher(f"verifik-{name}", settings)
        self._key = f"verifik-{uuid.uuid4().hex}"
        self._frozen = frozen
        self._retries = retries
        self._on_progress = on_progress
        self._known: set[Future] = set()

    async def over(self, there: set[int], window: int) -> Totals:
        """Search all parts but those that are there; leave nothing on the cluster."""
        await self._dask.register_plugin(self._searcher)
        try:
            return await self._all(there, window)
        finally:
            await self._dask.cancel([*self._known])
            await self._dask.unregister_worker_plugin(self._searcher.name)

    async def _all(self, there: set[int], window: int) -> Totals:
        began, parts = time.monotonic(), self._frozen.parts
        totals = Totals(parts=parts, skipped=len(there))
        left = (number for number in range(parts) if number not in there)
        working = as_completed(map(self._submit, itertools.islice(left, window)))
        async for future in working:
            part: _Part = await future
            if part.stopped is not None:
                raise _stopped(part.stopped, totals)
            self._known.discard(future)
            future.release()
            for number in itertools.islice(left, 1):
                working.add(self._submit(number))
            totals = totals._plus(part, time.monotonic() - began)  # noqa: SLF001 - ours
            if self._on_progress is not None:
                self._on_progress(totals)
        return totals

    def _submit(self, number: int) -> Future:
        future = self._dask.submit(
            _search_part,
            self._searcher.name,
            number,
            key=(self._key, number),
            pure=False,
            retries=self._retries,
        )
        self._known.add(future)
        return future


def _stopped(error: BatchStoppedError, totals: Totals) -> BatchStoppedError:
    """Return the error of a run that a part has stopped."""
    names = {fact.name for fact in attrs.fields(BatchSummary)}
    counts = {name: getattr(totals, name) for name in (*_COUNTS, "errors")}
    cause = error.cause
    return BatchStoppedError(
        f"the run was stopped ({type(cause or error).__name__}): {cause or error}",
        charge=error.charge,
        attempts=error.attempts,
        cause=cause,
        summary=BatchSummary(
            **{name: count for name, count in counts.items() if name in names},
            elapsed_s=totals.seconds,
            stopped_by=type(cause or error).__name__,
        ),
    )
