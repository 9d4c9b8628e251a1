"""How the stand-in compares pictures: copies match, other faces do not."""

import io
import itertools
import random
import statistics
import struct
import subprocess
import sys
import warnings
import zlib

import pytest
from PIL import Image, ImageDraw, ImageEnhance

from verifik_async.testing import _gallery, _likeness
from verifik_async.testing._gallery import Gallery, Person

SIDE = 240
PEOPLE = 40
SKINS = ("#ffe0bd", "#f1c27d", "#c68642", "#8d5524", "#60391a")
HAIRS = ("#14100c", "#4a2f1b", "#a56b46", "#d8b25c", "#96281b", "#8a8a8a")


def draw_face(seed):
    """Return a cartoon; all of them have the same layout."""
    rng = random.Random(seed)
    image = Image.new("RGB", (SIDE, SIDE), random_colour(rng))
    draw = ImageDraw.Draw(image)
    x, y = 120 + rng.uniform(-4, 4), 118 + rng.uniform(-4, 4)
    wide, high = rng.uniform(50, 62), rng.uniform(66, 78)
    draw.ellipse(around(120, 260, 100, 60), fill=random_colour(rng))
    hair, reach = rng.choice(HAIRS), rng.uniform(0.1, 0.9)
    draw.ellipse(
        (x - wide * 1.2, y - high * 1.2, x + wide * 1.2, y + high * reach), hair
    )
    draw.ellipse(around(x, y, wide, high), rng.choice(SKINS))
    draw.chord(around(x, y, wide, high), 200, 340, hair)
    gap, size = wide * rng.uniform(0.35, 0.5), rng.uniform(6, 11)
    for side in (-gap, gap):
        draw.ellipse(around(x + side, y - 8, size, size * 0.7), "white")
        draw.ellipse(around(x + side, y - 8, size / 2, size / 2), "black")
    mouth = wide * rng.uniform(0.2, 0.5)
    draw.arc(around(x, y + high * 0.4, mouth, 12), 20, 160, "#a03030", 4)
    return image


def around(x, y, wide, high):
    """Return the edges of a box by its centre."""
    return (x - wide, y - high, x + wide, y + high)


def random_colour(rng):
    """Return any colour."""
    return tuple(rng.randrange(256) for _ in range(3))


def jpeg(image, quality=90):
    """Return the picture as a JPEG file."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def png(image):
    """Return the picture as a PNG file."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def scaled(image, factor):
    """Return a picture of other sides."""
    return image.resize((round(image.width * factor), round(image.height * factor)))


def darkened(image, factor):
    """Return a picture of this brightness."""
    return ImageEnhance.Brightness(image).enhance(factor)


def cropped(image, share):
    """Return a picture without this share at each side."""
    off = round(SIDE * share)
    return image.crop((off, off, SIDE - off, SIDE - off))


FACES = [draw_face(seed) for seed in range(PEOPLE)]
# Stronger from copy to copy; the last number is the least that the first one scores.
SERIES = {
    "quality": (jpeg, (80, 30, 10, 4), 0.9),
    "scale": (lambda image, f: jpeg(scaled(image, f)), (0.5, 0.2, 0.1, 0.05), 0.9),
    "dark": (lambda image, f: jpeg(darkened(image, f)), (0.7, 0.3, 0.15, 0.08), 0.85),
    "crop": (lambda image, s: jpeg(cropped(image, s)), (0.01, 0.05, 0.1, 0.15), 0.75),
}
MILD = {
    "re-encoded": lambda image: jpeg(image, 50),
    "as png": png,
    "half": lambda image: jpeg(scaled(image, 0.5)),
    "dark": lambda image: jpeg(darkened(image, 0.7)),
    "pale": lambda image: jpeg(ImageEnhance.Contrast(image).enhance(0.7)),
    "crop": lambda image: jpeg(cropped(image, 0.05)),
    "corner": lambda image: jpeg(image.crop((14, 0, SIDE, SIDE - 14))),
}


@pytest.fixture(scope="module")
def sketches():
    return [_likeness.sketch(jpeg(face)) for face in FACES]


@pytest.fixture(scope="module")
def gallery():
    made = Gallery()
    for number, face in enumerate(FACES):
        made.add(Person(id=f"p{number}"), jpeg(face))
    return made


def score(image, sketch):
    """Return how alike an encoded picture and an enrolled one are."""
    return _likeness.scores(_likeness.thumbnail(image), [sketch])[0]


@pytest.mark.parametrize("name", MILD)
def test_mild_copies_are_found_and_strangers_are_not(gallery, name):
    """Each copy finds its person, and nobody else, at the usual threshold."""
    for number, face in enumerate(FACES):
        found = gallery.search(MILD[name](face), 0.7)
        assert [match.person.id for match in found] == [f"p{number}"]
        assert 0.7 <= found[0].score < 1.0


def test_strangers_stay_low(sketches):
    """Cartoons of one layout are no copies of each other."""
    found = []
    for face, other in itertools.permutations(range(PEOPLE), 2):
        found.append(score(jpeg(FACES[face]), sketches[other]))
    assert statistics.median(found) < 0.1
    assert statistics.quantiles(found, n=100)[-1] < 0.5


@pytest.mark.parametrize("name", SERIES)
def test_the_stronger_the_alteration_the_lower_the_score(sketches, name):
    """Scores fall with quality, size, light and margins, for nearly every face."""
    alter, amounts, least = SERIES[name]
    curves = [
        [score(alter(face, amount), sketch) for amount in amounts]
        for face, sketch in zip(FACES, sketches, strict=True)
    ]
    assert min(curve[0] for curve in curves) >= least
    falling = [curve == sorted(curve, reverse=True) for curve in curves]
    assert falling.count(True) >= 0.9 * PEOPLE
    medians = [statistics.median(column) for column in zip(*curves, strict=True)]
    assert medians == sorted(set(medians), reverse=True)


def test_function_from_correlation_to_score():
    """It is the documented one: 1 at 1, never below 0."""
    assert _likeness.score(1.0) == 1.0
    assert _likeness.score(1.0000001) == 1.0
    assert _likeness.score(0.982421875) == pytest.approx(0.7)
    assert _likeness.score(0.951171875) == pytest.approx(0.5)
    assert _likeness.score(0.5) == _likeness.score(-1.0) == 0.0


def test_each_thumbnail_has_length_1():
    """A thumbnail correlates with itself by 1, however dark it is."""
    for image in (FACES[0], darkened(FACES[0], 0.3)):
        floats = memoryview(_likeness.thumbnail(png(image))).cast("f")
        assert sum(value * value for value in floats) == pytest.approx(1, abs=1e-5)


def test_many_pictures_are_compared_in_the_order_given(sketches):
    """Batches, and those that are left out early, do not mix the scores up."""
    probe = _likeness.thumbnail(jpeg(FACES[7], 60))
    together = _likeness.scores(probe, sketches * 5)
    alone = [_likeness.scores(probe, [each])[0] for each in sketches]
    assert together == pytest.approx(alone * 5)
    assert together.index(max(together)) == 7
    assert _likeness.scores(probe, []) == []


def test_equal_bytes_and_copies():
    """Only equal bytes score 1.0; a person has the score of the best picture."""
    gallery = Gallery()
    first, second = FACES[:2]
    gallery.add(Person(id="a"), png(first))
    gallery.add(Person(id="a"), jpeg(first, 30))
    gallery.add(Person(id="b"), jpeg(first, 30))
    gallery.add(Person(id="c"), jpeg(second))
    same = gallery.search(png(first), 0.5)
    assert [match.person.id for match in same] == ["a", "b"]
    assert same[0].score == 1.0
    assert 0.7 < same[1].score < 1.0
    # Equal pixels in other bytes.
    file = io.BytesIO()
    first.save(file, "PNG", compress_level=1)
    assert gallery.search(file.getvalue(), 0.5)[0].score == 0.999
    assert gallery.search(file.getvalue(), 1.0) == []


def test_order_threshold_and_collection():
    """The best comes first, the threshold and the collection cut."""
    gallery = Gallery()
    face = FACES[3]
    gallery.add(Person(id="far", collections=("x", "y")), jpeg(face, 8))
    gallery.add(Person(id="near", collections=("x",)), jpeg(face, 80))
    probe = jpeg(face, 95)

    def ids(*arguments):
        return [match.person.id for match in gallery.search(probe, *arguments)]

    assert ids(0.5) == ids(0.5, "x") == ["near", "far"]
    assert ids(0.9) == ["near"]
    assert ids(0.5, "y") == ["far"]
    assert ids(0.5, "z") == []


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16", "CMYK"])
def test_every_kind_of_pixels(mode):
    """Whatever the pixels are, nothing is raised and equal pictures match."""
    grey = FACES[0].convert("L")
    if mode == "I;16":
        wide = b"".join(struct.pack("<H", value * 257) for value in grey.tobytes())
        image = Image.frombytes("I;16", grey.size, wide)
    else:
        image = FACES[0].convert(mode)
    encoded = jpeg(image) if mode == "CMYK" else png(image)
    gallery = Gallery()
    gallery.add(Person(id="p"), encoded)
    assert [match.score for match in gallery.search(encoded, 0.5)] == [1.0]
    # Not every version of Pillow turns 16 bits of grey into colours.
    assert _likeness.sketch(encoded) or mode == "I;16"


def chunk(kind, data):
    """Return a part of a PNG file."""
    check = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)


def png_of_size(wide, high):
    """Return the beginning of a PNG file that announces this size."""
    header = struct.pack(">IIBBBBB", wide, high, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + chunk(b"IDAT", zlib.compress(bytes(1000)))


@pytest.mark.parametrize(
    "image",
    [
        b"\xff\xd8\xff",
        b"\xff\xd8\xff" + random.Random(1).randbytes(5000),
        b"\x89PNG\r\n\x1a\n" + random.Random(2).randbytes(5000),
        jpeg(FACES[0])[:2000],
        png(FACES[0])[:1000],
        png_of_size(300, 300),
        png_of_size(6_000, 6_000),
        png_of_size(10_000, 10_000),
        png_of_size(60_000, 60_000),
        png(Image.new("RGB", (50, 50), "teal")),
        jpeg(Image.new("L", (1, 1))),
    ],
    ids=range(11),
)
def test_what_shows_nothing_matches_only_when_equal(image):
    """Broken, absurdly large and flat pictures are known again, and never decoded."""
    gallery = Gallery()
    gallery.add(Person(id="p"), image)
    gallery.add(Person(id="q"), jpeg(FACES[1]))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert [match.person.id for match in gallery.search(image, 0.5)] == ["p"]
        assert gallery.search(image + b"\x00", 0.5) == []
    assert caught == []


def test_size_is_judged_before_decoding(monkeypatch):
    """A picture above the limit is refused by its header."""
    image = jpeg(FACES[0])
    assert _likeness.thumbnail(image)
    monkeypatch.setattr(_likeness, "_MAX_PIXELS", SIDE * SIDE - 1)
    monkeypatch.setattr(Image.Image, "resize", None)
    assert _likeness.thumbnail(image) is None
    assert _likeness.sketch(image) is None


def test_a_view_without_contrast_is_like_nothing():
    """Detail at the edge only leaves some views flat; the others still count."""
    image = Image.new("RGB", (SIDE, SIDE), "gray")
    ImageDraw.Draw(image).rectangle((0, 0, SIDE, 8), "white")
    sketch = _likeness.sketch(png(image))
    empty = bytes(len(sketch.whole))
    step = len(empty)
    views = [sketch.views[at : at + step] for at in range(0, len(sketch.views), step)]
    assert empty in views
    assert score(png(image), sketch) == pytest.approx(1.0, abs=0.01)


def test_without_pillow_only_equal_pictures_match(monkeypatch):
    """Where Pillow is absent nothing is compared and nothing breaks."""
    monkeypatch.setattr(_gallery, "_likeness", lambda: None)
    gallery = Gallery()
    gallery.add(Person(id="p"), jpeg(FACES[0]))
    assert [match.score for match in gallery.search(jpeg(FACES[0]), 0.5)] == [1.0]
    assert gallery.search(jpeg(FACES[0], 50), 0.5) == []


@pytest.mark.parametrize("absent", [True, False])
def test_pillow_is_loaded_for_the_first_picture_only(absent):
    """Neither the import, nor bytes that are no picture, nor a search load it."""
    code = (
        "import sys\n"
        f"if {absent}: sys.modules['PIL'] = None\n"
        "from verifik_async.testing import MockVerifik\n"
        "from verifik_async.testing._gallery import Gallery\n"
        "Gallery().search(b'\\xff\\xd8\\xff', 0.5)\n"
        "mock = MockVerifik()\n"
        "mock.enroll('p', b'no picture')\n"
        "assert not sys.modules.get('PIL')\n"
        "mock.enroll('p', b'\\xff\\xd8\\xff')\n"
        f"assert bool(sys.modules.get('PIL')) is not {absent}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("image", [None, "text", 5, [b"x"]])
def test_enrolling_what_is_not_bytes(image):
    """The mistake is named, and nobody is enrolled."""
    gallery = Gallery()
    with pytest.raises(TypeError, match="must be bytes"):
        gallery.add(Person(id="p"), image)
    assert not gallery


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_enrolling_bytes_of_any_kind(kind):
    """Empty ones are refused, others are the same as bytes."""
    gallery = Gallery()
    with pytest.raises(ValueError, match="empty"):
        gallery.add(Person(id="p"), kind(b""))
    gallery.add(Person(id="p"), kind(jpeg(FACES[0])))
    assert [match.score for match in gallery.search(jpeg(FACES[0]), 1.0)] == [1.0]
    assert len(gallery.search(jpeg(FACES[0], 50), 0.8)) == 1
