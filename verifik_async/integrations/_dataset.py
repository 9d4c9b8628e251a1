"""A data set of pictures: its frozen list, the parts of it, and what was found.

Nothing here knows of the engine. All of it blocks, and runs in threads.
"""

import contextlib
import csv
import hashlib
import itertools
import json
import os
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import attrs
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from verifik_async import (
    APIStatusError,
    ConfigurationError,
    JournalError,
    JournalMismatchError,
    Outcome,
    Probe,
    SearchOptions,
)

_VERSION: Final = 1
_RUN: Final = "run.json"
_MANIFEST: Final = "manifest.parquet"
_PARTS: Final = "parts"
_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png"})
# Columns of a list, and what else they may be called.
_COLUMNS: Final = {
    "path": ("path", "image", "file"),
    "key": ("key",),
    "collection_id": ("collection_id", "collection"),
    "min_score": ("min_score", "score"),
}
# Rows that are read together: neither many reads for a part nor a large list of them.
_GROUP: Final = 8192

_LIST: Final = pa.schema(
    [
        ("path", pa.string()),
        ("key", pa.string()),
        ("collection_id", pa.string()),
        ("min_score", pa.float64()),
    ]
)
# Those of `verifik-async batch --parquet`, and where the picture is and who was found.
_FOUND: Final = pa.schema(
    [
        ("index", pa.int64()),
        ("key", pa.string()),
        ("state", pa.string()),
        ("matches", pa.int32()),
        ("best_id", pa.string()),
        ("best_score", pa.float64()),
        ("error", pa.string()),
        ("reason", pa.string()),
        ("status", pa.int32()),
        ("attempts", pa.int32()),
        ("throttled", pa.int32()),
        ("elapsed_s", pa.float64()),
        ("path", pa.string()),
        ("request_bytes", pa.int64()),
        ("found", pa.list_(pa.struct([("id", pa.string()), ("score", pa.float64())]))),
    ]
)
Row: TypeAlias = dict[str, Any]


class Entry(NamedTuple):
    """A picture of the data set."""

    path: str
    key: str
    collection_id: str | None
    min_score: float | None

    def probe(self, index: int) -> Probe:
        """Return what is searched; the picture is read when it is its turn."""
        return Probe(
            _Remote(self.path) if "://" in self.path else Path(self.path),
            key=index,
            collection_id=self.collection_id,
            min_score=self.min_score,
        )

    def row(self, outcome: Outcome) -> Row:
        """Return what became of it."""
        result, error, call = outcome.result, outcome.error, outcome.call
        best = None if result is None else result.best
        of_api = error if isinstance(error, APIStatusError) else None
        matches = () if result is None else result.matches
        return {
            "index": outcome.key,
            "key": self.key,
            "path": self.path,
            "state": str(outcome.state),
            "matches": None if result is None else len(matches),
            "best_id": None if best is None else best.id,
            "best_score": None if best is None else best.score,
            "error": None if error is None else type(error).__name__,
            "reason": None if of_api is None else of_api.reason,
            "status": call.status if of_api is None else of_api.status,
            "attempts": call.attempts,
            "throttled": call.throttled,
            "elapsed_s": call.elapsed_s,
            "request_bytes": call.request_bytes,
            "found": [{"id": match.id, "score": match.score} for match in matches],
        }


# By their index in the data set, which is their key in a journal.
Entries: TypeAlias = dict[Any, Entry]


class _Remote:
    """A picture in an object store, as a file that is fetched by its first `read`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._fetched = False

    def read(self, size: int = -1, /) -> bytes:
        """Return the picture, up to a size; then nothing."""
        if self._fetched:
            return b""
        self._fetched = True
        system, path = fsspec.url_to_fs(self._url)
        data: bytes = system.cat_file(path, start=0, end=size)
        return data[:size]  # a server may give more than it is asked for


class Folder:
    """A folder, local or in an object store.

    Attributes:
        local: Where it is, if it is local.
        url: Its name for other processes.
    """

    def __init__(self, url: str) -> None:
        self._system, self._root = fsspec.url_to_fs(url)
        self.local = _local(self._system, self._root)
        self.url: str = url if self.local is None else self._root

    def open(self, name: str, mode: str) -> Any:
        """Open a file of it; what is written may be seen before it is whole."""
        if self.local is not None and mode == "wb":
            (self.local / name).parent.mkdir(parents=True, exist_ok=True)
        return self._system.open(self._path(name), mode)

    def read(self, name: str) -> bytes | None:
        """Return the content of a file, or None if there is none."""
        try:
            content: bytes = self._system.cat_file(self._path(name))
        except FileNotFoundError:
            return None
        return content

    def put(self, name: str, content: bytes) -> None:
        """Write a file that is there wholly or not at all."""
        if self.local is None:
            self._system.pipe_file(self._path(name), content)  # one PUT
            return
        target = self.local / name
        target.parent.mkdir(parents=True, exist_ok=True)
        # For its owner only, and with a dot: who reads the folder passes it over.
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=".verifik-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def names(self, folder: str) -> Iterator[str]:
        """Yield what is in a folder of it now."""
        self._system.invalidate_cache()
        with contextlib.suppress(FileNotFoundError):
            for path in self._system.ls(self._path(folder), detail=False):
                yield path.rpartition("/")[2]

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"


def _local(system: Any, path: str) -> Path | None:
    return Path(path) if "file" in system.protocol else None


# -- the list --------------------------------------------------------------------------


def _listed(source: str) -> Iterator[Entry]:
    """Yield the pictures of a folder or of a list, in the same order in every run.

    Raises:
        ConfigurationError: there is no such thing, or a row is wrong.
    """
    system, path = fsspec.url_to_fs(source)
    ending = os.path.splitext(path)[1].lower()  # noqa: PTH122 - it may be a URL
    reader = {".csv": _csv, ".parquet": _parquet}.get(ending)
    if system.isdir(path):
        yield from _pictures(system, path)
    elif reader is None or not system.exists(path):
        raise ConfigurationError(
            "manifest must be a folder, or a file .csv or .parquet that is there"
        )
    else:
        parent = path.rpartition("/")[0]
        local = _local(system, parent)
        home = local or system.unstrip_protocol(parent)
        yield from _rows(reader(system, path), home)


def _pictures(system: Any, folder: str) -> Iterator[Entry]:
    for parent, folders, files in system.walk(folder, on_error="raise"):
        folders.sort()
        for name in sorted(files):
            ending = os.path.splitext(name)[1].lower()  # noqa: PTH122
            if ending in _SUFFIXES and not name.startswith("."):
                path = f"{parent.rstrip('/')}/{name}"
                local = _local(system, path) is not None
                url = path if local else system.unstrip_protocol(path)
                key = path.removeprefix(folder.rstrip("/")).lstrip("/")
                yield Entry(url, key, None, None)


def _csv(system: Any, path: str) -> Iterator[Mapping[str, Any]]:
    with system.open(path, "rt", encoding="utf-8-sig", newline="") as file:
        yield from csv.DictReader(file, strict=True)


def _parquet(system: Any, path: str) -> Iterator[Mapping[str, Any]]:
    with system.open(path, "rb") as file:
        table = pq.ParquetFile(file)
        known = {*itertools.chain.from_iterable(_COLUMNS.values())}
        columns = [name for name in table.schema_arrow.names if name in known]
        for batch in table.iter_batches(columns=columns):
            yield from batch.to_pylist()


def _rows(rows: Iterable[Mapping[str, Any]], home: Path | str) -> Iterator[Entry]:
    number = 0
    try:
        for number, row in enumerate(rows, 1):  # noqa: B007 - told in the error
            yield _entry(row, home)
    except (ValueError, csv.Error) as error:
        fault = str(error) if isinstance(error, ConfigurationError) else "it is damaged"
        raise ConfigurationError(
            f"manifest: row {number}: {fault} (a list has the column path, and may "
            "have key, collection_id and min_score)"
        ) from None


def _entry(row: Mapping[str, Any], home: Path | str) -> Entry:
    values = {name: _value(row, names) for name, names in _COLUMNS.items()}
    where, key, score = values["path"], values["key"], values["min_score"]
    if not isinstance(where, str):
        raise ConfigurationError("path is missing")
    try:
        score = None if score is None else float(score)
    except (TypeError, ValueError):
        raise ConfigurationError("min_score is no number") from None
    SearchOptions(min_score=score, collection_id=values["collection_id"])  # checks them
    return Entry(
        _placed(where, home),
        where if key is None else str(key),
        values["collection_id"],
        score,
    )


def _placed(where: str, home: Path | str) -> str:
    """Return a path that means the same everywhere: it is relative to its list."""
    if "://" in where or where.startswith("/"):
        return where
    return str(home / where) if isinstance(home, Path) else f"{home}/{where}"


def _value(row: Mapping[str, Any], names: Sequence[str]) -> Any:
    """Return the first of some columns that says something."""
    return next((row[name] for name in names if row.get(name) not in (None, "")), None)


# -- freezing --------------------------------------------------------------------------


@attrs.frozen
class Frozen:
    """What a data set was begun with.

    Attributes:
        images: Pictures in it.
        part_size: Pictures in a part; the last may have fewer.
    """

    images: int
    part_size: int

    @property
    def parts(self) -> int:
        """How many parts it has."""
        return -(-self.images // self.part_size)

    def size_of(self, part: int) -> int:
        """Return how many pictures a part has."""
        return min(self.part_size, self.images - part * self.part_size)


def freeze(
    source: str | None, out: Folder, part_size: int, options: SearchOptions
) -> Frozen:
    """Begin a data set, or find it as it was begun.

    Raises:
        ConfigurationError: there is no such list, or a row of it is wrong.
        JournalMismatchError: it was begun with something else.
        JournalError: what is there is none.
    """
    asked: dict[str, Any] = {
        "verifik_dataset": _VERSION,
        "part_size": part_size,
        "parameters": _digest_of(attrs.asdict(options)),
    }
    content = out.read(_RUN)
    if content is None:
        asked |= _begin(source, out, part_size)
        out.put(_RUN, json.dumps(asked).encode())
        return Frozen(asked["images"], part_size)
    kept = _parsed(content)
    if source is not None:
        asked |= _look(_listed(source))
    for name, value in asked.items():
        if kept.get(name) != value:
            raise JournalMismatchError(
                f"out: it was begun with {_DIFFERS[name]}: use that, or another folder"
            )
    return Frozen(kept["images"], part_size)


_DIFFERS: Final = {
    "verifik_dataset": "another version of the package",
    "part_size": "another part_size",
    "parameters": "other search parameters (os, min_score, search_mode, "
    "collection_id, extra)",
    "manifest": "another manifest (manifest=None goes on with the one that it has)",
    "images": "another manifest (manifest=None goes on with the one that it has)",
}


def _parsed(content: bytes) -> dict[str, Any]:
    kept: Any = None
    with contextlib.suppress(ValueError):
        kept = json.loads(content)
    if not isinstance(kept, dict) or type(kept.get("images")) is not int:
        raise JournalError(f"out: its {_RUN} is damaged, or none of ours")
    return kept


def _begin(source: str | None, out: Folder, part_size: int) -> dict[str, Any]:
    """Write the list down: until the run's own file is there it does not count."""
    if source is None:
        raise ConfigurationError("manifest is missing: nothing was begun in out")
    if any(True for _ in out.names(_PARTS)):
        raise JournalError(f"out: it has parts and no {_RUN}: use another folder")
    entries = _listed(source)
    first = next(entries, None)
    if first is None:
        raise ConfigurationError("manifest names no picture (.jpg, .jpeg, .png)")
    with (
        out.open(_MANIFEST, "wb") as file,
        pq.ParquetWriter(file, _LIST) as writer,
    ):
        return _look(itertools.chain([first], entries), writer, _group(part_size))


def _look(
    entries: Iterator[Entry], writer: Any = None, at_once: int = _GROUP
) -> dict[str, Any]:
    """Return number and digest of the entries; write them where there is a writer."""
    images, digest = 0, hashlib.sha256()
    while some := [*itertools.islice(entries, at_once)]:
        images += len(some)
        for entry in some:
            digest.update(json.dumps(entry).encode() + b"\n")
        if writer is not None:
            writer.write_table(_table(some), len(some))
    return {"images": images, "manifest": digest.hexdigest()}


def _table(entries: Iterable[Entry]) -> Any:
    columns = [[*column] for column in zip(*entries, strict=True)]
    try:
        return pa.table(columns, schema=_LIST)
    except UnicodeEncodeError:
        raise ConfigurationError(
            "manifest: the name of a picture is no text (rename the file)"
        ) from None


def _group(part_size: int) -> int:
    """Return how many rows are kept together: whole parts."""
    return part_size * max(1, _GROUP // part_size)


def _digest_of(options: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()


# -- parts -----------------------------------------------------------------------------


class Manifest:
    """The frozen list, of which some rows are kept: parts come in order, mostly."""

    def __init__(self, out: Folder, part_size: int) -> None:
        self._out = out
        self._part_size = part_size
        self._per_group = _group(part_size) // part_size
        self._lock = threading.Lock()
        self._kept: tuple[int, Any] | None = None

    def part(self, number: int) -> Entries:
        """Return the entries of a part, by their index in the data set."""
        group, place = divmod(number, self._per_group)
        with self._lock:
            if self._kept is None or self._kept[0] != group:
                with self._out.open(_MANIFEST, "rb") as file:
                    self._kept = group, pq.ParquetFile(file).read_row_group(group)
            table = self._kept[1]
        rows = table.slice(place * self._part_size, self._part_size).to_pylist()
        first = number * self._part_size
        return {index: Entry(**row) for index, row in enumerate(rows, first)}


def done(out: Folder) -> set[int]:
    """Return the parts that are there."""
    return {
        int(name[len("part-") : -len(".parquet")])
        for name in out.names(_PARTS)
        if name.startswith("part-") and name.endswith(".parquet")
    }


def write_part(out: Folder, number: int, rows: Sequence[Row]) -> None:
    """Write what was found of a part."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist([*rows], schema=_FOUND), sink)
    out.put(_name_of(number), sink.getvalue().to_pybytes())


def read_part(out: Folder, number: int) -> list[Row] | None:
    """Return what was found of a part, or None if that is not there."""
    content = out.read(_name_of(number))
    if content is None:
        return None
    rows: list[Row] = pq.read_table(pa.BufferReader(content)).to_pylist()
    return rows


def _name_of(part: int) -> str:
    return f"{_PARTS}/part-{part:08}.parquet"
