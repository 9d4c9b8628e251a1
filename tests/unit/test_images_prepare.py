"""Pictures made fit: which are touched, what becomes of them, which are refused."""

import importlib.util
import io
import struct
import sys
import warnings
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms, features

from verifik_async import ClientClosedError, ConfigurationError, ImageError, images
from verifik_async.images import MAX_PIXELS, Preparation, prepare_image

SIZE = (48, 32)
COLOURS = {
    ("top", "left"): (250, 20, 20),
    ("top", "right"): (20, 200, 20),
    ("bottom", "left"): (20, 20, 250),
    ("bottom", "right"): (240, 220, 30),
}
GREYS = {
    ("top", "left"): 10,
    ("top", "right"): 90,
    ("bottom", "left"): 170,
    ("bottom", "right"): 250,
}
OPPOSITE = {"top": "bottom", "bottom": "top", "left": "right", "right": "left"}
# Which sides of the scene the first row and the first column of a file are, by EXIF.
FIRST_ROW_AND_COLUMN = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}
FORMATS = ["WEBP", "TIFF", "BMP", "GIF", "AVIF", "HEIF"]
MARK = b"face-of-Ada-Example-"
MARKS = ("face-of-Ada", "Ada-Exam")


def quarters(mode, size, *fills):
    """Return a picture of four fields: upper left and right, lower left and right."""
    width, height = size
    picture = Image.new(mode, size)
    for number, fill in enumerate(fills):
        left, upper = number % 2 * width // 2, number // 2 * height // 2
        box = (left, upper, left + width // 2, upper + height // 2)
        picture.paste(fill, box)
    return picture


SCENE = quarters("RGB", SIZE, *COLOURS.values())
GREY = quarters("L", SIZE, *GREYS.values())


def encoded(picture, kind, **options):
    """Return a picture as a file."""
    if kind == "HEIF":
        heif = pytest.importorskip("pillow_heif").from_pillow(picture)
        file = io.BytesIO()
        heif.save(file, **options)
        return file.getvalue()
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def turned(orientation):
    """Return the scene as a camera stores it that was held so, and its EXIF."""
    row, column = FIRST_ROW_AND_COLUMN[orientation]
    corners = [
        (one, other)
        for one in (row, OPPOSITE[row])
        for other in (column, OPPOSITE[column])
    ]
    fills = [COLOURS.get(c) or COLOURS[c[::-1]] for c in corners]
    size = SIZE if orientation < 5 else SIZE[::-1]
    return quarters("RGB", size, *fills), exif(orientation)


def exif(orientation, **texts):
    made = Image.Exif()
    made[ExifTags.Base.Orientation] = orientation
    for name, text in texts.items():
        made[ExifTags.Base[name]] = text
    return made


def decoded(data):
    """Return the picture of a file that we wrote."""
    picture = Image.open(io.BytesIO(data))
    assert (picture.format, picture.mode) == ("JPEG", "RGB")
    picture.load()
    return picture


def fields(picture):
    """Return the colours in the middle of the four fields."""
    width, height = picture.size
    spots = [(x, y) for y in (1, 3) for x in (1, 3)]
    return [picture.getpixel((width * x // 4, height * y // 4)) for x, y in spots]


def assert_shows(data, colours, size=None, tolerance=24):
    """See that a file of ours shows these colours, about."""
    picture = decoded(data)
    assert picture.size == (size or SIZE)
    for found, wanted in zip(fields(picture), colours, strict=True):
        assert max(abs(f - w) for f, w in zip(found, wanted, strict=True)) < tolerance


def assert_shows_greys(data, **kwargs):
    assert_shows(data, [(g, g, g) for g in GREYS.values()], **kwargs)


def chunk(name, content):
    """Return a chunk of a PNG file."""
    check = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)


def png_header(width, height):
    """Return a PNG file that claims a size and has no pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def wrong(data, **options):
    """Return the text of the error that a picture is refused with."""
    with pytest.raises(ImageError) as caught:
        prepare_image(data, **options)
    error = caught.value
    assert error.charge == "not_sent"
    assert error.__cause__ is None
    assert error.__context__ is None
    return str(error)


# What is left alone


@pytest.mark.parametrize("max_side", [None, max(SIZE), max(SIZE) + 1])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_fit_picture_is_the_same_object(kind, max_side):
    """Nothing is to be done: no copy, no loss."""
    data = encoded(SCENE, kind)
    assert prepare_image(data, max_side=max_side) is data


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_fit_picture_is_not_decoded(kind, monkeypatch):
    """To look at a header is enough, of PNG as well."""
    loads = []
    reader = type(Image.open(io.BytesIO(encoded(SCENE, kind))))
    monkeypatch.setattr(reader, "load", lambda self: loads.append(self.size))
    data = encoded(SCENE, kind)[:-30]
    assert prepare_image(data) is data
    assert loads == []


@pytest.mark.parametrize("orientation", [0, 1, 9, 65535])
def test_an_upright_picture_is_left_alone(orientation):
    """EXIF that says upright, or nonsense, turns nothing."""
    data = encoded(SCENE, "JPEG", exif=exif(orientation))
    assert prepare_image(data) is data


# Pillow warns on opening it; where warnings are errors it can only be refused.
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_unreadable_exif_turns_nothing():
    """Damaged metadata is no reason to refuse a picture."""
    data = encoded(SCENE, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7fgarbage")
    assert prepare_image(data) is data


def test_a_jpeg_of_several_pictures_is_one():
    """Telephones add pictures of their own; the first is the photograph."""
    other = Image.new("RGB", SIZE)
    data = encoded(SCENE, "MPO", save_all=True, append_images=[other])
    assert prepare_image(data) is data
    small = prepare_image(data, max_side=24)
    assert_shows(small, COLOURS.values(), size=(24, 16))


# Upright


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", FIRST_ROW_AND_COLUMN)
def test_every_orientation_becomes_upright(orientation, kind):
    """All eight ways to hold a camera give the same picture."""
    stored, how = turned(orientation)
    data = encoded(stored, kind, exif=how)
    if (orientation, kind) not in ((1, "JPEG"), (1, "PNG")):
        data = prepare_image(data)
        assert_shows(data, COLOURS.values())
    assert_shows(prepare_image(data, max_side=24), COLOURS.values(), size=(24, 16))


def test_heic_is_turned_once():
    """What the decoder has turned already is not turned again."""
    stored, how = turned(6)
    data = encoded(stored, "HEIF", exif=how.tobytes())
    assert b"irot" in data
    assert_shows(prepare_image(data), COLOURS.values())


def test_a_compressed_tiff_is_turned_once():
    """Another decoder, and the same picture."""
    stored, how = turned(6)
    data = encoded(stored, "TIFF", exif=how, compression="tiff_lzw")
    assert_shows(prepare_image(data), COLOURS.values())


def test_orientation_behind_the_pixels():
    """PNG may tell it at its very end."""
    stored, how = turned(6)
    plain = encoded(stored, "PNG")
    end = chunk(b"IEND", b"")
    assert plain.endswith(end)
    data = plain.removesuffix(end) + chunk(b"eXIf", how.tobytes()[6:]) + end
    assert_shows(prepare_image(data), COLOURS.values())


# Formats and modes


@pytest.mark.parametrize("kind", FORMATS)
def test_other_formats_become_jpeg(kind):
    """The API takes none of them."""
    data = encoded(SCENE, kind)
    assert_shows(prepare_image(data), COLOURS.values())
    assert_shows(prepare_image(data, max_side=24), COLOURS.values(), size=(24, 16))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "AVIF"])
def test_the_first_picture_of_many(kind):
    """An animation and a document of several pages are their first picture."""
    other = Image.new("RGB", SIZE)
    data = encoded(SCENE, kind, save_all=True, append_images=[other, other])
    assert_shows(prepare_image(data), COLOURS.values())


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_grey_stays_grey(kind):
    """In three channels, that is."""
    assert_shows_greys(prepare_image(encoded(GREY, kind), max_side=24), size=(24, 16))


def test_cmyk_becomes_rgb():
    """A printer's JPEG."""
    data = encoded(SCENE.convert("CMYK"), "JPEG", quality=95)
    assert_shows(prepare_image(data, max_side=24), COLOURS.values(), size=(24, 16))


def test_one_bit_pixels_are_shrunk_smoothly():
    """A fine pattern of black and white becomes grey, not either of the two."""
    pattern = Image.new("1", (64, 64))
    pattern.putdata([(x + y) % 2 * 255 for y in range(64) for x in range(64)])
    small = decoded(prepare_image(encoded(pattern, "PNG"), max_side=16))
    assert all(abs(channel - 128) < 40 for channel in small.getpixel((8, 8)))


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
def test_16_bits_keep_their_greys(mode):
    """The brightest of 65,536 values is white, and half of it is grey."""
    deep = quarters("I", SIZE, *(grey * 257 for grey in GREYS.values())).convert(mode)
    data = encoded(deep, "TIFF")
    assert Image.open(io.BytesIO(data)).mode == mode
    assert_shows_greys(prepare_image(data))


def test_16_bits_of_png_with_a_transparent_value():
    """The value is of the old range and means nothing in the new one."""
    deep = quarters("I", SIZE, *(grey * 257 for grey in GREYS.values()))
    data = encoded(deep.convert("I;16"), "PNG", transparency=40_000)
    assert_shows_greys(prepare_image(data, max_side=24), size=(24, 16))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bits_are_refused(mode):
    """Any guess at their range could make the face black or white."""
    assert "32 bits" in wrong(encoded(Image.new(mode, SIZE, 70_000), "TIFF"))


def transparent(mode):
    """Return the scene with its lower right field transparent, black below that."""
    picture = SCENE.convert("RGBA")
    picture.paste((0, 0, 0, 0), (24, 16, 48, 32))
    return picture.convert(mode)


WHITE_FIELD = [*list(COLOURS.values())[:3], (255, 255, 255)]


@pytest.mark.parametrize("max_side", [None, 24])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "HEIF"])
def test_transparency_is_put_on_white(kind, max_side):
    """An alpha channel, in every format that has one."""
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(transparent("RGBA"), kind, **options)
    if kind == "PNG" and max_side is None:
        assert prepare_image(data) is data  # for the API to see to
        return
    size = SIZE if max_side is None else (24, 16)
    assert_shows(prepare_image(data, max_side=max_side), WHITE_FIELD, size=size)


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_transparent_colour_of_a_palette(kind):
    """The colour that a palette hides is not shown."""
    picture = SCENE.quantize(8)
    hidden = picture.getpixel((40, 28))
    data = encoded(picture, kind, transparency=hidden)
    small = prepare_image(data, max_side=24)
    assert_shows(small, WHITE_FIELD, size=(24, 16))


def test_a_palette_of_partly_transparent_colours():
    """PNG has an opacity for each colour of a palette."""
    picture = SCENE.quantize(8)
    opacities = bytearray(b"\xff" * 8)
    opacities[picture.getpixel((40, 28))] = 128
    data = encoded(picture, "PNG", transparency=bytes(opacities))
    half = [(colour + 255) // 2 for colour in COLOURS["bottom", "right"]]
    wanted = [*WHITE_FIELD[:3], half]
    assert_shows(prepare_image(data, max_side=24), wanted, size=(24, 16))


def test_a_transparent_colour_of_true_colours():
    """PNG can name one colour of all as transparent."""
    data = encoded(SCENE, "PNG", transparency=COLOURS["bottom", "right"])
    assert_shows(prepare_image(data, max_side=24), WHITE_FIELD, size=(24, 16))


def test_grey_with_transparency():
    """LA: white shines through."""
    picture = GREY.convert("LA")
    picture.paste((0, 0), (24, 16, 48, 32))
    wanted = [(g, g, g) for g in (10, 90, 170, 255)]
    small = prepare_image(encoded(picture, "PNG"), max_side=24)
    assert_shows(small, wanted, size=(24, 16))


# Colours


def profile(*, swapped):
    """Return an ICC profile: sRGB's, or one in which red means green."""
    made = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    if not swapped:
        return made
    made = made.replace("sRGB".encode("utf-16-be"), "test".encode("utf-16-be"))
    return (
        made.replace(b"rXYZ", b"----")
        .replace(b"gXYZ", b"rXYZ")
        .replace(b"----", b"gXYZ")
    )


RED = (255, 0, 0)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "HEIF"])
def test_colours_of_a_profile_are_converted(kind):
    """The profile is not sent, so the pixels have to say it all."""
    red = Image.new("RGB", SIZE, RED)
    data = encoded(red, kind, icc_profile=profile(swapped=True), quality=95)
    wanted = [(0, 255, 0)] * 4
    assert_shows(prepare_image(data, max_side=24), wanted, size=(24, 16))


def test_srgb_is_left_as_it_is():
    """The commonest profile is known by its name, and not worth the time."""
    named = profile(swapped=True).replace(
        "test".encode("utf-16-be"), "sRGB".encode("utf-16-be")
    )
    data = encoded(SCENE, "TIFF", icc_profile=named)
    assert prepare_image(data) == prepare_image(encoded(SCENE, "TIFF"))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_a_profile_of_another_mode_is_left_out(mode):
    """One for red, green and blue says nothing of grey or ink."""
    picture = SCENE.convert(mode)
    data = encoded(picture, "TIFF", icc_profile=profile(swapped=True))
    assert prepare_image(data) == prepare_image(encoded(picture, "TIFF"))


def test_a_damaged_profile_is_left_out():
    """It is no reason to refuse the picture."""
    data = encoded(SCENE, "TIFF", icc_profile=profile(swapped=True)[:200])
    assert prepare_image(data) == prepare_image(encoded(SCENE, "TIFF"))


def test_no_metadata_is_left():
    """Place, owner, comments, previews and profiles stay here."""
    how = exif(6, Artist="Ada Example")
    how.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSDateStamp] = "2031:01:02"
    data = encoded(
        SCENE,
        "JPEG",
        exif=how,
        comment=b"a comment",
        xmp=b"<x:xmpmeta>",
        icc_profile=profile(swapped=False),
        dpi=(300, 300),
    )
    traces = [b"Exif", b"Ada Example", b"2031:01:02", b"a comment", b"xmpmeta"]
    traces += [b"ICC_PROFILE", b"\xff\xe1", b"\xff\xe2", b"\xff\xfe"]
    assert all(trace in data for trace in traces)
    result = prepare_image(data)
    assert not any(trace in result for trace in traces)
    assert set(decoded(result).info) <= {"jfif", "jfif_version", "jfif_unit"} | {
        "jfif_density"
    }


# Sizes


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.integers(1, 100),
    st.sampled_from(["JPEG", "PNG", "GIF"]),
)
def test_sizes(width, height, max_side, kind):
    """Never above the limit, never enlarged, in proportion, and stable."""
    data = encoded(Image.new("L", (width, height), 128), kind)
    result = prepare_image(data, max_side=max_side)
    found = Image.open(io.BytesIO(result)).size
    scale = min(1, max_side / max(width, height))
    assert max(found) <= max_side
    assert abs(found[0] - width * scale) < 1
    assert abs(found[1] - height * scale) < 1
    if scale == 1:
        assert found == (width, height)
        assert (result is data) == (kind != "GIF")
    assert prepare_image(result, max_side=max_side) is result


@pytest.fixture
def decoded_sizes(monkeypatch):
    """The sizes that pictures were decoded at."""
    sizes = []
    real = images._opaque

    def opaque(opened):
        sizes.append(opened.size)
        return real(opened)

    monkeypatch.setattr(images, "_opaque", opaque)
    return sizes


def test_a_jpeg_is_decoded_at_a_fraction_of_its_size(decoded_sizes):
    """That is most of the speed."""
    data = encoded(SCENE.resize((800, 536)), "JPEG")
    assert_shows(prepare_image(data, max_side=100), COLOURS.values(), size=(100, 67))
    assert decoded_sizes == [(100, 67)]


def test_the_preview_in_a_heic_is_not_used(decoded_sizes):
    """Nobody knows whether it shows the same."""
    data = encoded(SCENE.resize((480, 320)), "HEIF", thumbnails=[240])
    assert_shows(prepare_image(data, max_side=48), COLOURS.values())
    assert decoded_sizes == [(480, 320)]


def test_an_edge_counts_for_what_it_is():
    """A JPEG decoded at an eighth ends in a pixel that is mostly made up."""
    picture = Image.new("L", (9, 9))
    picture.paste(255, (8, 0, 9, 9))
    small = decoded(prepare_image(encoded(picture, "JPEG", quality=95), max_side=1))
    assert small.getpixel((0, 0))[0] < 60


def test_quality_tells_how_much_is_kept():
    """A lower one costs detail and saves bytes."""
    noise = encoded(Image.effect_noise((64, 64), 80), "BMP")
    sizes = [len(prepare_image(noise, quality=q)) for q in (1, 50, 90, 95)]
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("max_side", 0, "at least 1"),
        ("max_side", -5, "at least 1"),
        ("max_side", 10.0, "whole number"),
        ("max_side", True, "whole number"),
        ("max_side", "10", "whole number"),
        ("quality", 0, "at least 1"),
        ("quality", 96, "at most 95"),
        ("quality", None, "whole number"),
        ("quality", True, "whole number"),
    ],
)
def test_arguments_out_of_range(name, value, allowed, shown):
    """The error names the argument and what it may be, and shows no picture."""
    with pytest.raises(ConfigurationError, match=f"{name} must be .*{allowed}") as e:
        prepare_image(MARK * 20, **{name: value})
    assert not any(mark in shown(e.value) for mark in MARKS)


# What is refused


def bombs():
    """Yield small files of each format that claim more pixels than anybody has."""
    yield "png", png_header(50_000, 50_000)
    yield (
        "bmp",
        struct.pack(
            *("<2sIHHIIiiHHIIiiII", b"BM", 54, 0, 0, 54, 40, 50_000, 50_000),
            *(1, 24, 0, 0, 0, 0, 0, 0),
        ),
    )
    yield (
        "gif",
        b"GIF89a"
        + struct.pack("<HHBBB", 65_535, 65_535, 0, 0, 0)
        + (b",\0\0\0\0\xff\xff\xff\xff\0\x02\x02L\x01\0;"),
    )
    tags = [(256, 50_000), (257, 50_000), (258, 8), (259, 1), (262, 1), (273, 8)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    yield "tiff", b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4)
    jpeg = bytearray(encoded(SCENE, "JPEG"))
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = struct.pack(">HH", 50_000, 50_000)
    yield "jpeg", bytes(jpeg)
    side = (16_383).to_bytes(3, "little")
    webp = bytearray(encoded(transparent("RGBA"), "WEBP", exif=exif(1)))
    assert webp[12:16] == b"VP8X"
    webp[24:30] = side + side
    yield "webp", bytes(webp)


BOMBS = dict(bombs())


@pytest.mark.parametrize("kind", BOMBS)
def test_absurd_numbers_of_pixels_are_refused(kind):
    """From the header alone, without a warning, whatever filters are set."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        text = wrong(BOMBS[kind])
    # WebP's reader does not wait to be asked.
    assert "more than 100,000,000 pixels" in text or kind == "webp"
    assert seen == []


@pytest.mark.parametrize("limit", [1, SIZE[0] * SIZE[1] - 1])
def test_readers_that_measure_by_pillows_limit(limit, monkeypatch):
    """Whether they fail or warn, the picture is refused, and not as a damaged one."""
    data = encoded(SCENE, "TIFF")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    assert "PIL.Image.MAX_IMAGE_PIXELS" in wrong(data)


def test_the_limit_of_pixels_is_ours(monkeypatch):
    """Pillow's, which would warn or fail, counts for nothing and is not touched."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1)
    data = png_header(10_000, MAX_PIXELS // 10_000)
    assert prepare_image(data) is data
    assert "pixels" in wrong(png_header(10_000, MAX_PIXELS // 10_000 + 1))
    result = prepare_image(encoded(SCENE, "BMP"))
    assert Image.MAX_IMAGE_PIXELS == 1
    monkeypatch.undo()
    assert_shows(result, COLOURS.values())


@pytest.mark.parametrize("kind", ["JPEG", "PNG", *FORMATS])
def test_half_a_picture_is_refused(kind):
    """Grey below the middle is no face."""
    data = encoded(Image.effect_noise((64, 64), 80).convert("RGB"), kind)
    text = wrong(data[: len(data) // 2], max_side=32)
    assert "cannot be decoded" in text
    assert "JPEG" in text


@pytest.mark.parametrize("kind", ["JPEG", "PNG", *FORMATS])
def test_a_beginning_without_more_is_refused(kind):
    """The format is known, and nothing else."""
    assert "cannot be decoded" in wrong(encoded(SCENE, kind)[:32])


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        b"RIFF",
        b"This is a letter, and no picture at all.\n" * 20,
        b"%PDF-1.7\n",
        b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + bytes(100),
        b"\0\0\0\x08ftyp" + bytes(100),
        bytes(1000),
    ],
)
def test_what_is_no_picture_is_refused(data):
    """With the formats that would do."""
    assert "no picture of a known format: pass" in wrong(data)


def test_nothing_is_refused():
    """An empty file is the commonest of all broken ones."""
    assert wrong(b"") == "image is empty: pass an encoded picture"


@pytest.mark.parametrize("value", [None, "face.jpg", bytearray(b"\xff\xd8\xff")])
def test_only_bytes_are_taken(value):
    """Paths and files are for the client, which opens them when it is their turn."""
    assert f"must be bytes, not {type(value).__name__}" in wrong(value)


def test_heic_without_pillow_heif(monkeypatch):
    """The error names what is missing, and how to get it."""
    data = encoded(SCENE, "HEIF")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert 'pip install "verifik-async[images]"' in wrong(data)


def test_a_general_brand_first():
    """Files of both formats may name a brand that tells nothing, and the own later."""
    for kind in ("AVIF", "HEIF"):
        data = encoded(SCENE, kind)
        brand = {"AVIF": b"avif", "HEIF": b"heic"}[kind]
        assert data[8:12] == brand
        rest = data[16 : int.from_bytes(data[:4])]
        start = data[:8] + b"mif1" + data[12:16]
        again = rest if brand in rest else rest.replace(b"mif1", brand)
        assert_shows(
            prepare_image(start + again + data[16 + len(rest) :]), COLOURS.values()
        )


def test_without_pillow(monkeypatch):
    """The import says what to install."""
    monkeypatch.setitem(sys.modules, "PIL", None)
    spec = importlib.util.spec_from_file_location("without_pillow", images.__file__)
    module = importlib.util.module_from_spec(spec)
    with pytest.raises(ImportError, match=r'pip install "verifik-async\[images\]"'):
        spec.loader.exec_module(module)


def secrets():
    """Yield pictures that hold the mark where decoders stumble over it."""
    yield "text", MARK * 20
    yield "png", b"\x89PNG\r\n\x1a\n" + MARK * 20
    yield "chunk", encoded(SCENE, "PNG")[:33] + MARK * 20
    yield "jpeg", b"\xff\xd8\xff" + MARK * 20
    yield "gif", b"GIF89a" + MARK * 20
    yield "tiff", b"II*\0\x08\0\0\0" + MARK * 20
    yield "heif", b"\0\0\0\x10ftypheic" + MARK * 20
    yield "pixels", png_header(50_000, 50_000) + MARK * 20


SECRETS = dict(secrets())


@pytest.mark.parametrize("name", SECRETS)
def test_no_error_shows_the_picture(name, shown):
    """Neither text nor traceback with locals; no other frame than ours is in it."""
    with pytest.raises(ImageError) as caught:
        prepare_image(SECRETS[name])
    assert not any(mark in shown(caught.value) for mark in MARKS)
    files = {str(entry.path) for entry in caught.traceback}
    assert files == {__file__, images.__file__}


async def test_no_error_of_a_preparation_shows_the_picture(shown):
    """Neither from its threads nor when it is closed."""
    preparation = Preparation()
    with pytest.raises(ImageError, match="image is no picture") as refused:
        await preparation(MARK * 20)
    await preparation.aclose()
    with pytest.raises(ClientClosedError) as closed:
        await preparation(MARK * 20)
    for caught in (refused, closed):
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None
        assert not any(mark in shown(caught.value) for mark in MARKS)


def test_pillow_is_left_as_it_was():
    """No format is registered: `Image.open` does for others what it always did."""
    prepare_image(encoded(SCENE, "HEIF"))
    assert "HEIF" not in Image.OPEN
