"""Small copies of the pictures that were searched, for a page that holds them."""

import base64
import contextlib
import io
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image, ImageOps

from verifik_async import Outcome

_SIDE = 96
_QUALITY = 70
_WORKERS = 4
# Few decoders, and none that starts another program.
_FORMATS = ("BMP", "JPEG", "PNG", "WEBP")


def pictured(outcomes: Iterable[Outcome]) -> list[str]:
    """Return the keys that may be paths, those with matches first."""
    matched: list[str] = []
    others: list[str] = []
    for outcome in outcomes:
        if isinstance(outcome.key, str):
            found = outcome.result is not None and outcome.result.matches
            (matched if found else others).append(outcome.key)
    return matched + others


def thumbnails(
    keys: Sequence[str], folder: Path, step: Callable[[], None]
) -> dict[str, str]:
    """Return a data URI for each key that is the path of a picture.

    Args:
        keys: Paths, relative to the working directory or else to `folder`.
        folder: Where else to look.
        step: Called after each key.
    """
    made: dict[str, str] = {}
    pool = ThreadPoolExecutor(_WORKERS)
    with warnings.catch_warnings(), contextlib.ExitStack() as stack:
        # Of pictures that take more memory than is sane Pillow only warns.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        # Whoever interrupts it shall not wait for all the rest.
        stack.callback(pool.shutdown, cancel_futures=True)
        uris = pool.map(lambda key: _thumbnail(key, folder), keys)
        for key, uri in zip(keys, uris, strict=True):
            if uri is not None:
                made[key] = uri
            step()
    return made


def _thumbnail(key: str, folder: Path) -> str | None:
    """Return a data URI, or None where there is no picture that can be read."""
    try:
        small = _shrunk(Path(key) if Path(key).is_file() else folder / key)
    except Exception:  # noqa: BLE001 - decoders raise anything for a broken file
        return None
    small.info.clear()  # place, time, camera
    file = io.BytesIO()
    small.save(file, "WEBP", quality=_QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def _shrunk(path: Path) -> Image.Image:
    if not path.is_file():  # a pipe would be waited for
        raise FileNotFoundError
    with Image.open(path, formats=_FORMATS) as image:
        # A JPEG is decoded at a fraction of its size; twice the side keeps it sharp.
        image.draft("RGB", (2 * _SIDE, 2 * _SIDE))
        upright = ImageOps.exif_transpose(image)
        upright.thumbnail((_SIDE, _SIDE))
        return upright.convert("RGB")
