"""How alike two encoded pictures are, by small thumbnails; needs Pillow.

This is no face recogniser: it knows copies of a picture again, not the people in it.

A picture becomes a thumbnail of 10 by 10 pixels, brightness and two colours. Each of
the three is centred on its mean and the whole is scaled to length 1, so that darker
copies and those of less contrast have the same thumbnail. An enrolled picture is kept
in several views, the whole and some with their margins cut off, since a cropped copy is
like one of those; a copy that shows more than the enrolled picture is like none. The
correlation c of two thumbnails, that of the best view, becomes

    score = 1 - 1.6 * sqrt(2 - 2 * c), at least 0

where the root is the distance between the two. So a score of 0.7 is a correlation of
0.982, and 0.5 is 0.951: cartoons of one style are alike by their layout alone, and only
copies are as alike as that.

All of it happens in the caller's thread. To look at a JPEG of 240 by 240 pixels and to
compare it with a hundred others takes a millisecond or two, and so does enrolling it. A
JPEG of twelve megapixels takes fifty milliseconds and a PNG a fifth of a second: tests
that measure time should search for small pictures.
"""

import array
import io
import itertools
import math
import warnings
from collections.abc import Sequence

import attrs
from PIL import Image, ImageMath

# The formats of the API. Others would only let more of Pillow meet unknown bytes.
_FORMATS = ("JPEG", "PNG")
# Larger ones are not decoded: a small file can hold an absurd number of pixels.
_MAX_PIXELS = 2**25
# Views are cut from a copy of this side. JPEG decodes to about this size directly.
_COPY_SIDE = 48
_SIDE = 10
_LENGTH = 3 * _SIDE * _SIDE
_FLOAT_BYTES = 4
# Measured with cartoon faces: colours of this weight tell strangers apart best.
_COLOUR_WEIGHT = 2.5
# Of what is left of a flat picture only noise would be compared.
_MIN_DEVIATION = 2.0
# A view counts for less the more of the picture it leaves out.
_COST_OF_CUTS = 0.04
# An enrolled picture less like the probe than this has no view that is like it.
_HOPELESS = 0.5
# Getting memory for some hundred kilobytes at once would cost more than all the rest.
_BATCH_ROWS = 64
_STEEPNESS = 1.6


@attrs.frozen
class View:
    """A part of the copy.

    Attributes:
        cut: The share of each side that is left out.
        box: Its edges: left, upper, right, lower.
    """

    cut: float
    box: tuple[float, float, float, float]


def _view(cut: float, x: float = 0.5, y: float = 0.5) -> View:
    """Return a view; of what it leaves out, these shares are left and above of it."""
    left, upper = (_COPY_SIDE * cut * share for share in (x, y))
    side = _COPY_SIDE * (1 - cut)
    # Rounding must not put an edge outside of the copy.
    right, lower = (min(edge + side, _COPY_SIDE) for edge in (left, upper))
    return View(cut, (left, upper, right, lower))


_WHOLE = _view(0)
_PLACES = tuple(itertools.product((0, 0.5, 1), repeat=2))
_VIEWS = (
    _WHOLE,
    *(_view(cut, *place) for cut in (0.03, 0.06, 0.09) for place in _PLACES),
    *map(_view, (0.12, 0.15, 0.18, 0.21)),
)


@attrs.frozen
class Sketch:
    """What is kept of an enrolled picture.

    Attributes:
        whole: The thumbnail of the whole picture.
        views: The thumbnails of all views, one after the other.
    """

    whole: bytes = attrs.field(repr=False)
    views: bytes = attrs.field(repr=False)


def sketch(image: bytes) -> Sketch | None:
    """Return what to keep of a picture; None when it shows nothing to compare."""
    copy = _small_copy(image)
    if copy is None:
        return None
    rows = [_thumbnail(copy, view) for view in _VIEWS]
    if rows[0] is None:
        return None
    # A view without contrast is like nothing: zeros correlate with nothing.
    views = b"".join(row or bytes(_LENGTH * _FLOAT_BYTES) for row in rows)
    return Sketch(rows[0], views)


def thumbnail(image: bytes) -> bytes | None:
    """Return what is compared of a probe; None when it shows nothing to compare."""
    copy = _small_copy(image)
    return None if copy is None else _thumbnail(copy, _WHOLE)


def scores(probe: bytes, sketches: Sequence[Sketch]) -> list[float]:
    """Return how alike a probe's thumbnail and each picture are, from 0 to 1."""
    found = [0.0] * len(sketches)
    coarse = _correlate(probe, [each.whole for each in sketches])
    near = [number for number, c in enumerate(coarse) if c >= _HOPELESS]
    fine = _correlate(probe, [sketches[number].views for number in near])
    for start, number in zip(range(0, len(fine), len(_VIEWS)), near, strict=True):
        found[number] = score(max(fine[start : start + len(_VIEWS)]))
    return found


def score(correlation: float) -> float:
    """Return the score that a correlation of thumbnails stands for."""
    distance = math.sqrt(max(0.0, 2 - 2 * correlation))
    return max(0.0, 1 - _STEEPNESS * distance)


def _small_copy(image: bytes) -> Image.Image | None:
    try:
        # Pillow warns of large and of odd pictures; neither is news to a test.
        with warnings.catch_warnings(action="ignore"):
            return _decode(image)
    except Exception:  # noqa: BLE001 - of broken files Pillow raises anything
        return None


def _decode(image: bytes) -> Image.Image | None:
    side = (_COPY_SIDE, _COPY_SIDE)
    with Image.open(io.BytesIO(image), formats=_FORMATS) as opened:
        # Only the header was read so far.
        if opened.width * opened.height > _MAX_PIXELS:
            return None
        opened.draft("YCbCr", side)
        colours: Image.Image = opened
        if opened.mode not in {"RGB", "YCbCr"}:
            colours = opened.convert("RGB")
        return colours.resize(side, Image.Resampling.BOX).convert("YCbCr")


def _thumbnail(copy: Image.Image, view: View) -> bytes | None:
    small = copy.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR, view.box)
    pixels = small.tobytes()
    values: list[float] = []
    for channel, weight in enumerate((1.0, _COLOUR_WEIGHT, _COLOUR_WEIGHT)):
        plane = pixels[channel::3]
        mean = sum(plane) / len(plane)
        values += [(value - mean) * weight for value in plane]
    length = math.hypot(*values)
    if length < _MIN_DEVIATION * _SIDE:
        return None
    scale = (1 - _COST_OF_CUTS * view.cut) / length
    return array.array("f", [value * scale for value in values]).tobytes()


def _correlate(probe: bytes, blocks: Sequence[bytes]) -> list[float]:
    """Return the products of a thumbnail with those in blocks of equal size.

    Pillow's pixels can be floats, so Pillow multiplies: a loop would take a hundred
    times as long.
    """
    found: list[float] = []
    if not blocks:
        return found
    rows = len(blocks[0]) // len(probe)
    step = max(1, _BATCH_ROWS // rows)
    one = Image.frombytes("F", (_LENGTH, 1), probe)
    probes = one.resize((_LENGTH, rows * step), Image.Resampling.NEAREST)
    for start in range(0, len(blocks), step):
        batch = blocks[start : start + step]
        others = Image.frombytes("F", (_LENGTH, rows * len(batch)), b"".join(batch))
        # Where one is smaller than the other, the smaller one counts.
        products = ImageMath.lambda_eval(
            lambda given: given["probes"] * given["others"],
            probes=probes,
            others=others,
        )
        means = array.array("f", products.reduce((_LENGTH, 1)).tobytes())
        found += [mean * _LENGTH for mean in means]
    return found
