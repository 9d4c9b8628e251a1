"""Files that are there wholly or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def replaced(target: Path) -> Iterator[BinaryIO]:
    """Give a file that takes the target's place when the block ends well.

    Beside its place, so that one step puts it there; for its owner only, as what
    commands write tells of persons: that is how temporary files are made. A link is
    followed, not replaced.
    """
    target = target.resolve()
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=".verifik-")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
