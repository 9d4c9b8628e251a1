"""`verifik-async report`: a journal as one page for who reviews the matches."""

import sys
from collections.abc import Iterable
from json import dumps
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from verifik_async import JournalError, read_journal
from verifik_async.cli import _show
from verifik_async.cli._app import Flag
from verifik_async.cli._exit import Exit, UsageError, printable
from verifik_async.cli._files import replaced
from verifik_async.cli._page import Page
from verifik_async.cli._thumbnails import pictured, thumbnails


def report(
    journal: Path,
    /,
    *,
    output: Annotated[Path, Parameter(alias="-o")],
    images: Flag = False,
    max_images: Annotated[int, Parameter(validator=Number(gte=0))] = 2_000,
    json: Flag = False,
    debug: Flag = False,
) -> int:
    """Make one HTML page of what became of the probes of a batch.

    Args:
        journal: What `batch -o` or `search_many(journal=)` wrote.
        output: The page; what was there is replaced.
        images: Put small copies of the pictures into the page, found by the probes'
            paths, from the working directory or else from the journal's folder.
        max_images: Pictures at most; probes with matches come first.
        json: One JSON object about the page instead of a line.
        debug: Show tracebacks.
    """
    del debug  # looked for by what catches errors
    try:
        target = _target(output, journal)
        page = _pictured(journal, max_images) if images else Page(name=journal.name)
        size = _write(target, page.pieces(read_journal(journal)))
    except JournalError as error:
        fault = str(error).removeprefix("journal: ")
        raise UsageError(
            f"{printable(journal)}: {fault} (name the file that a batch wrote)"
        ) from error
    except OSError as error:
        raise UsageError(
            f"{printable(output)} cannot be written: {type(error).__name__} "
            "(choose another --output)"
        ) from error
    _tell(output, size, page, as_json=json)
    return Exit.OK


def _target(output: Path, journal: Path) -> Path:
    """Return where the page goes: a link is followed, not replaced."""
    target = output.resolve()
    if target == journal.resolve():
        raise UsageError("--output is the journal (give the page a name of its own)")
    if target.exists() and not target.is_file():
        raise UsageError(f"{printable(output)} is no regular file (name one)")
    return target


def _pictured(journal: Path, most: int) -> Page:
    keys = pictured(read_journal(journal))
    chosen = keys[:most]
    with _show.progress("thumbnails", len(chosen)) as step:
        pictures = thumbnails(chosen, journal.parent, step)
    left_out = len(keys) - len(chosen)
    return Page(name=journal.name, pictures=pictures, left_out=left_out)


def _write(target: Path, pieces: Iterable[str]) -> int:
    """Write the page, whole or not at all, and return how many bytes it has."""
    with replaced(target) as file:
        file.writelines(piece.encode() for piece in pieces)
        return file.tell()


def _tell(output: Path, size: int, page: Page, *, as_json: bool) -> None:
    counts = dict(page.counts)
    if page.pictures is not None:
        counts |= {"pictures": len(page.pictures), "left_out": page.left_out}
    if as_json:
        told = {"output": str(output), "bytes": size, **counts}
        sys.stdout.write(dumps(told) + "\n")
    else:
        figures = [f"{name.replace('_', ' ')} {n:,}" for name, n in counts.items()]
        told_as = f"{printable(output)}: {size:,} bytes; {', '.join(figures)}"
        sys.stdout.write(told_as + "\n")
