"""What `batch` searches: folders, patterns, lists and names of pictures, as probes.

Named twice, once to count and to check all before anything is sent, and once to search:
the names of a million pictures need not be held.
"""

import csv
import glob
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from verifik_async import ConfigurationError, Probe, SearchOptions
from verifik_async.cli._exit import UsageError, printable

STDIN: Final = "-"
# What the API takes, and what it takes once it was prepared.
PICTURES: Final = frozenset({".jpg", ".jpeg", ".png"})
PREPARED: Final = PICTURES | {
    *(".webp", ".tif", ".tiff", ".heic", ".heif", ".avif", ".bmp", ".gif")
}

_MAGIC: Final = frozenset("*?[")
# Columns of a list, and what else they may be called.
_COLUMNS: Final = {
    "path": ("path", "image", "file"),
    "key": ("key",),
    "collection_id": ("collection_id", "collection"),
    "min_score": ("min_score", "score"),
}


@attrs.frozen(kw_only=True)
class Found:
    """How much there is to search.

    Attributes:
        probes: Pictures.
        size: Bytes of all of them.
        missing: Files that a list names and that are not there.
    """

    probes: int
    size: int
    missing: int


class Inputs:
    """What was named on the command line.

    Attributes:
        lists: Files that name pictures.
    """

    def __init__(self, names: Sequence[str], suffixes: frozenset[str]) -> None:
        """Check that all of it is there.

        Raises:
            UsageError: something is not, or is named twice where that can't be.
        """
        if names.count(STDIN) > 1:
            raise UsageError("- can be given once: it is standard input")
        self.lists: list[Path] = []
        self._suffixes = suffixes
        self._piped = _lines(sys.stdin.buffer.read()) if STDIN in names else []
        self._sources = [self._source(name) for name in names]

    def probes(self) -> Iterator[Probe]:
        """Yield all pictures, in an order that is the same in every run.

        Raises:
            UsageError: a row of a list is wrong.
        """
        for source in self._sources:
            yield from source()

    def survey(self) -> Found:
        """Go through all of it without reading a picture.

        Raises:
            UsageError: a row of a list is wrong.
        """
        probes = size = missing = 0
        for probe in self.probes():
            probes += 1
            try:
                size += os.stat(probe.image).st_size  # type: ignore[arg-type]  # noqa: PTH116 - a path
            except (OSError, ValueError):
                missing += 1
        return Found(probes=probes, size=size, missing=missing)

    def _source(self, name: str) -> Callable[[], Iterator[Probe]]:
        if name == STDIN:
            return lambda: (Probe(Path(line)) for line in self._piped)
        try:
            return self._named(name)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{printable(name)}: it cannot be looked at ({type(error).__name__})"
            ) from None

    def _named(self, name: str) -> Callable[[], Iterator[Probe]]:
        if name.startswith("-"):
            raise UsageError(
                f"unknown option {printable(name)} (see --help; or ./{printable(name)},"
                " a file)"
            )
        path = Path(name)
        if path.is_dir():
            return lambda: map(Probe, _pictures(path, self._suffixes))
        if path.exists():
            reader = _LISTS.get(path.suffix.lower())
            if reader is None:
                return lambda: iter([Probe(path)])
            if not path.is_file():  # it is read twice
                raise UsageError(f"{printable(name)}: a list must be a regular file")
            self.lists.append(path)
            return lambda: _listed(path, reader)
        if _MAGIC.isdisjoint(name):
            raise UsageError(
                f"{printable(name)}: there is no such file or folder "
                "(nothing was sent; check the path)"
            )
        if next(self._matching(name), None) is None:
            raise UsageError(f"{printable(name)} matches no file (check the pattern)")
        return lambda: map(Probe, self._matching(name))

    def _matching(self, pattern: str) -> Iterator[Path]:
        """Yield what a pattern matches; of folders, the pictures in them."""
        seen: set[tuple[str, str]] = set()  # ** goes round in circles of links
        for name in sorted(glob.iglob(pattern, recursive=True)):  # noqa: PTH207 - may be absolute
            path = Path(name)
            if not path.is_dir():
                place = (os.path.realpath(path.parent), path.name)
                if place not in seen:
                    seen.add(place)
                    yield path
            elif "**" not in pattern:  # else what is in it matches as well
                yield from _pictures(path, self._suffixes)


def _pictures(folder: Path, suffixes: frozenset[str]) -> Iterator[Path]:
    """Yield the pictures in a folder and below, by their names' endings."""
    for parent, folders, files in os.walk(folder, onerror=_refuse):
        folders.sort()
        for name in sorted(files):
            path = Path(parent, name)
            if path.suffix.lower() in suffixes and not name.startswith("."):
                yield path


def _refuse(error: OSError) -> None:
    raise UsageError(
        f"{printable(error.filename)}: the folder cannot be read "
        f"({type(error).__name__}; let yourself in, or name others)"
    ) from None


def _lines(text: bytes) -> list[str]:
    # Names of files are bytes: those that are no text come through all the same.
    return [os.fsdecode(line) for line in text.splitlines() if line.strip()]


# -- lists ----------------------------------------------------------------------------


def _csv(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        yield from csv.DictReader(file, strict=True)


def _json_lines(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open(encoding="utf-8-sig") as file:
        for line in file:
            if line.strip():
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError("it is no object")
                yield row


_Reader = Callable[[Path], Iterator[Mapping[str, Any]]]
_LISTS: Final[Mapping[str, _Reader]] = {
    ".csv": _csv,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
}


def _listed(path: Path, reader: _Reader) -> Iterator[Probe]:
    """Yield the probes of a list; relative paths are sought beside it, then here."""
    number = 0
    try:
        for row in reader(path):
            number += 1
            yield _probe(row, path.parent)
    except (ValueError, RecursionError, csv.Error, OSError) as error:
        number += not isinstance(error, ConfigurationError)
        raise UsageError(
            f"{printable(path)}: row {number}: {printable(error)} (a list has the "
            "column path, and may have key, collection_id and min_score)"
        ) from None


def _probe(row: Mapping[str, Any], folder: Path) -> Probe:
    values = {name: _value(row, names) for name, names in _COLUMNS.items()}
    where, key = values["path"], values["key"]
    if not isinstance(where, str):
        raise ConfigurationError("path is missing")
    score = None if values["min_score"] is None else _score(values["min_score"])
    SearchOptions(min_score=score, collection_id=values["collection_id"])  # checks them
    beside = folder / where
    return Probe(
        beside if beside.exists() or not Path(where).exists() else Path(where),
        key=where if key is None else key,
        collection_id=values["collection_id"],
        min_score=score,
    )


def _value(row: Mapping[str, Any], names: Sequence[str]) -> Any:
    """Return the first of some columns that says something."""
    return next((row[name] for name in names if row.get(name) not in (None, "")), None)


def _score(value: Any) -> Any:
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        raise ConfigurationError("min_score is no number") from None
