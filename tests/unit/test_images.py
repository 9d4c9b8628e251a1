"""From a picture, however it is given, to base64 slices."""

import array
import base64
import ctypes
import io
import mmap
import os
import pathlib
import random
import tempfile
import warnings

import pytest

from verifik_async import ImageError, _images
from verifik_async._images import MIN_TEXT, PIECE, SLICE, image_source
from verifik_async._types import Masked

LIMIT = 20 * 1024 * 1024
NOISE = random.Random(7).randbytes(2 * PIECE + 1)
SIZES = [
    1,
    2,
    3,
    4,
    75,
    76,
    77,
    SLICE - 1,
    SLICE,
    SLICE + 1,
    SLICE + 2,
    SLICE + 3,
    PIECE - 1,
    PIECE,
    PIECE + 1,
    2 * PIECE,
    2 * PIECE + 1,
]
MARK = b"face-of-Ada-Example-"
MARKS = ("face-of-Ada", "Ada-Exam", base64.b64encode(MARK).decode()[:16])


def source(value, limit=LIMIT):
    """Return the source of a picture."""
    return image_source(Masked(value), limit)


async def slices_of(picture):
    """Return all slices of a picture that was opened."""
    found = []
    for number in range(picture.piece_count):
        found.extend(await picture.piece(number))
    return found


async def check(image_source, data):
    """Open a source, and see that its slices are the base64 of `data`."""
    picture = await image_source.open()
    slices = await slices_of(picture)
    whole = b"".join(slices)
    assert base64.b64decode(whole, validate=True) == data
    assert picture.text_size == len(whole)
    assert all(type(part) is bytes for part in slices)
    assert max(map(len, slices)) <= SLICE // 3 * 4
    assert all(len(part) % 4 == 0 and b"=" not in part for part in slices[:-1])
    assert picture.at_once() == (whole if len(slices) == 1 else None)
    return picture


async def wrong(value, limit=LIMIT):
    """Return the text of the error that a picture is refused with."""
    with pytest.raises(ImageError) as caught:
        await source(value, limit).open()
    error = caught.value
    assert error.charge == "not_sent"
    assert error.__cause__ is None
    assert error.__context__ is None
    return str(error)


@pytest.fixture(params=["pybase64", "stdlib"])
def _both_encoders(request, monkeypatch):
    if request.param == "pybase64":
        pytest.importorskip("pybase64")
    else:
        monkeypatch.setattr(_images, "pybase64", None)


@pytest.fixture
def path(tmp_path):
    """A path that nothing is at yet."""
    return tmp_path / "probe.jpg"


FORMS = {
    "bytes": lambda data, _: data,
    "bytearray": lambda data, _: bytearray(data),
    "memoryview": lambda data, _: memoryview(data),
    "writable view": lambda data, _: memoryview(bytearray(data)),
    "array": lambda data, _: array.array("B", data),
    "signed view": lambda data, _: memoryview(data).cast("b"),
    "path": lambda data, path: (path.write_bytes(data), path)[1],
    "file object": lambda data, _: io.BytesIO(data),
    "text": lambda data, _: base64.b64encode(data).decode(),
}


@pytest.mark.usefixtures("_both_encoders")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", SIZES)
async def test_every_size_in_every_form(form, size, path):
    """Slices join to the base64 of the picture, at and around every boundary."""
    data = NOISE[:size]
    value = FORMS[form](data, path)
    if form == "text" and len(value) < MIN_TEXT:
        assert "pathlib.Path" in await wrong(value)
    else:
        await check(source(value), data)


async def test_a_picture_serves_several_attempts(path):
    """The same source gives the same slices again."""
    data = NOISE[: PIECE + 5]
    for form in FORMS.values():
        made = source(form(data, path))
        for _ in range(2):
            await check(made, data)


def test_pieces_need_no_padding():
    """Every piece but the last is a multiple of 3 bytes, and so is every slice."""
    assert SLICE % 3 == 0
    assert PIECE % SLICE == 0


# -- buffers ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap",
    [
        lambda data: data,
        memoryview,
        lambda data: memoryview(data)[:],
        lambda data: memoryview(data).toreadonly(),
    ],
    ids=["bytearray", "view", "slice", "read-only view"],
)
async def test_mutable_buffers_are_copied(wrap):
    """What the caller writes later is not sent."""
    data = bytearray(MARK)
    made = source(wrap(data))
    data[:] = bytes(len(data))
    await check(made, MARK)


def test_fixed_bytes_are_not_copied():
    """Twenty megabytes are held once."""
    assert memoryview(source(NOISE).data).obj is NOISE


async def test_a_view_with_gaps():
    """Every third byte is a picture too, if the caller says so."""
    await check(source(memoryview(MARK * 3)[::3]), (MARK * 3)[::3])


async def test_a_foreign_buffer():
    """Anything with the buffer protocol and one dimension of bytes."""
    await check(source((ctypes.c_ubyte * 3)(1, 2, 3)), b"\x01\x02\x03")


@pytest.mark.parametrize(
    "value",
    [array.array("d", [0.5] * 8), memoryview(bytes(16)).cast("B", (4, 4))],
    ids=["numbers", "matrix"],
)
async def test_arrays_of_numbers(value):
    """Decoded pixels are no encoded picture, and the error says what to do."""
    assert await wrong(value) == (
        "image is an array of numbers: encode it as JPEG or PNG first"
    )


async def test_a_released_view():
    """A view that was given back is no picture any more."""
    view = memoryview(MARK)
    view.release()
    assert "image" in await wrong(view)


@pytest.mark.parametrize("value", [b"", bytearray(), memoryview(b"")], ids=repr)
async def test_empty_buffers(value):
    """Nothing is no picture."""
    assert await wrong(value) == "image is empty: pass an encoded picture (JPEG or PNG)"


@pytest.mark.parametrize(
    "value", [None, 5, 0.5, [b"x"], {"a": 1}, object(), print, {1}, (1, 2)], ids=repr
)
async def test_other_types(value):
    """The error lists what is possible and names the type, not the value."""
    assert await wrong(value) == (
        "image must be bytes, an os.PathLike, base64 text, a binary file or a "
        f"Probe, not {type(value).__name__}"
    )


@pytest.mark.parametrize("form", FORMS)
async def test_size_limit(form, path):
    """The limit is inclusive, counts before base64, and its error has a remedy."""
    value = FORMS[form](NOISE[:200], path)
    await check(source(value, limit=200), NOISE[:200])
    value = FORMS[form](NOISE[:201], path)
    text = await wrong(value, limit=200)
    assert text == (
        "image is too large, 201 bytes of at most 200: shrink it or raise "
        "VerifikClient(max_image_bytes=...)"
    )


async def test_far_too_much_text_is_not_even_looked_at():
    """Text longer than the limit could ever need is refused by its length."""
    assert "too large" in await wrong("?" * 1000, limit=100)


# -- text ------------------------------------------------------------------------

TEXT = base64.b64encode(NOISE[:99]).decode()


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        f"data:image/png;base64,{TEXT}",
        f"data:;base64,{TEXT}",
        f"data:image/svg+xml;charset=utf-8;base64,{TEXT}",
        f"  {TEXT}\n",
        "\r\n".join(TEXT[n : n + 64] for n in range(0, len(TEXT), 64)),
        "\n".join(TEXT),
        f"data:image/png;base64,\n\t{TEXT}\v\f",
    ],
    ids=["plain", "uri", "short uri", "long uri", "space", "lines", "column", "both"],
)
async def test_text(text):
    """A prefix and white space are stripped."""
    assert len(TEXT) == 132
    if len(text) > 2 * 99:
        await check(source(text), NOISE[:99])
    await check(source(text, limit=1000), NOISE[:99])


@pytest.mark.parametrize(
    "prefix",
    [" data:image/png;base64,", "\ndata:image/png;base64,", "DATA:image/png;BASE64,"],
    ids=["space", "line", "upper"],
)
async def test_a_prefix_behind_white_space_or_in_capitals(prefix):
    """Where white space and prefix are stripped, both together are."""
    await check(source(prefix + TEXT), NOISE[:99])


@pytest.mark.parametrize("size", [75, 76, 77])
async def test_padding(size):
    """One, two or no characters of padding."""
    text = base64.b64encode(NOISE[:size]).decode()
    assert text.count("=") == -size % 3
    await check(source(text), NOISE[:size])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "text of 0 characters"),
        ("A" * 99, "text of 99 characters"),
        ("A" * 96 + " " * 50, "text of 96 characters"),
        ("data:image/png;base64,", "text of 0 characters"),
        ("data:image/png;base64," + "A" * 96, "text of 96 characters"),
        ("photo.jpg", "pathlib.Path"),
        ("/srv/photos/a.jpg", "pathlib.Path"),
        ("C:\\photos\\" + "a" * 120 + ".jpg", "pathlib.Path"),
        ("/srv/" + "a" * 120 + ".jpg", "pathlib.Path"),
        ("https://pictures.example/" + "a" * 120, "no base64"),
        ("A" * 100 + "-_", "no base64"),
        ("A" * 100 + "Ä", "no base64"),
        ("A" * 100 + "\x00", "no base64"),
        ("A" * 100 + "\ud800", "no base64"),
        ("A" * 50 + "=" + "A" * 49, "no base64"),
        ("A" * 101, "padding"),
        ("A" * 102, "padding"),
        ("A" * 103, "padding"),
        ("A" * 101 + "===", "padding"),
        ("A" * 100 + "=", "padding"),
        ("A" * 100 + "====", "padding"),
        ("=" * 100, "padding"),
        ("data:image/png," + "A" * 100, "data URI without base64"),
        ("data:" + "A" * 100, "data URI without base64"),
        ("data:image/png;base64" + "A" * 100, "data URI without base64"),
    ],
)
async def test_text_that_is_no_picture(text, told):
    """Short, foreign or damaged text: what is wrong with it, and what to pass."""
    assert told in await wrong(text)


# Characters of a slice of text: it is checked slice by slice.
STEP = SLICE // 3 * 4


@pytest.mark.usefixtures("_both_encoders")
@pytest.mark.parametrize("at", [0, 5, STEP - 1, STEP, 2 * STEP + 7, 3 * STEP - 5])
@pytest.mark.parametrize("odd", ["-", "=", "\x00", "é", "\ud800"])
async def test_one_odd_character_in_a_long_text(at, odd):
    """It is found wherever it stands, at the seam of two slices too."""
    text = "A" * (3 * STEP)
    assert "no base64" in await wrong(text[:at] + odd + text[at + 1 :])


@pytest.mark.usefixtures("_both_encoders")
@pytest.mark.parametrize("padding", range(3))
@pytest.mark.parametrize("lines", [False, True])
async def test_a_long_text_passes_as_it_is(padding, lines):
    """Three slices and some, with padding and with line breaks."""
    picture = bytes(3 * SLICE + 99 - padding)
    text = base64.b64encode(picture).decode()
    broken = "\n".join(text[n : n + 76] for n in range(0, len(text), 76))
    await check(source(broken if lines else text, limit=10**7), picture)


def test_a_hundred_characters_are_enough():
    """The boundary itself is base64 text; one less is a short path."""
    assert source("A" * 100).text_size == 100


# -- paths -----------------------------------------------------------------------


def handles():
    """Return the number of files that this process has open."""
    return len(list(pathlib.Path("/proc/self/fd").iterdir()))


class Path(os.PathLike):
    """A path of bytes, or whatever it is told to be."""

    def __init__(self, value):
        self.value = value

    def __fspath__(self):
        return self.value


@pytest.mark.parametrize("size", [10, PIECE + 1])
async def test_paths_of_bytes(path, size):
    """`os.PathLike` may speak of bytes."""
    path.write_bytes(NOISE[:size])
    await check(source(Path(os.fsencode(path))), NOISE[:size])


async def test_a_file_is_read_anew_for_every_attempt(path):
    """A path names a file, not its content at some time."""
    path.write_bytes(b"one")
    made = source(path)
    await check(made, b"one")
    path.write_bytes(b"other")
    await check(made, b"other")


async def test_no_file(path):
    """The error names neither the file nor its folder."""
    text = await wrong(path)
    assert text == "image: there is no such file"


async def test_a_directory(tmp_path):
    """One picture is one file."""
    assert await wrong(tmp_path) == "image is a directory: pass one file"


async def test_an_empty_file(path):
    """A file of nothing is no picture."""
    path.touch()
    assert "image is empty" in await wrong(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
async def test_a_named_pipe_is_refused_at_once(path):
    """Nobody writes to it, and nobody waits for that."""
    os.mkfifo(path)
    assert "no regular file" in await wrong(path)


@pytest.mark.skipif(
    not pathlib.Path("/dev/zero").exists(), reason="no such device here"
)
async def test_a_device_is_refused():
    """A file without end is no picture."""
    assert "no regular file" in await wrong(pathlib.Path("/dev/zero"))


async def test_a_file_that_may_not_be_read(path, monkeypatch):
    """What the operating system says is named by its class."""

    def refuse(*_):
        raise PermissionError(13, "denied", "Ada-Example.jpg")

    path.write_bytes(b"x")
    monkeypatch.setattr(_images, "_nonblocking", refuse)
    text = await wrong(path)
    assert text == "image: the file cannot be read (PermissionError)"


async def test_a_path_that_can_be_none():
    """A null byte is no part of a path."""
    assert "cannot be read (ValueError)" in await wrong(pathlib.Path("a\x00b"))


async def test_a_link_to_a_file(path):
    """Links lead to pictures."""
    path.write_bytes(MARK)
    link = path.with_name("link.jpg")
    link.symlink_to(path)
    await check(source(link), MARK)


def grow(path):
    with path.open("ab") as file:
        file.write(b"x")


def rewrite(path):
    path.write_bytes(NOISE[: 2 * PIECE + 1][::-1])
    os.utime(path, ns=(1, 1))


def swap(path):
    other = path.with_name("other")
    other.write_bytes(NOISE[: 2 * PIECE + 1])
    other.replace(path)


CHANGES = {
    "grown": grow,
    "shrunk": lambda path: os.truncate(path, PIECE + 3),
    "emptied": lambda path: os.truncate(path, 0),
    "rewritten": rewrite,
    "replaced": swap,
    "removed": pathlib.Path.unlink,
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_file_that_changes_in_mid_way(change, path):
    """Halves of two files are never sent as one picture."""
    path.write_bytes(NOISE[: 2 * PIECE + 1])
    picture = await source(path).open()
    list(await picture.piece(0))
    CHANGES[change](path)
    with pytest.raises(ImageError, match="changed while it was being sent") as caught:
        await picture.piece(1)
    assert str(path) not in str(caught.value)


async def test_a_file_that_shrinks_while_it_is_opened(path, monkeypatch):
    """A small file that is empty by the time it is read is an empty picture."""
    path.write_bytes(b"xyz")
    really_fstat = os.fstat

    def fstat(number):
        found = really_fstat(number)
        if found.st_size == 3:
            os.truncate(path, 0)
        return found

    monkeypatch.setattr(_images.os, "fstat", fstat)
    assert "image is empty" in await wrong(path)


@pytest.mark.skipif(
    not pathlib.Path("/proc/self/fd").exists(), reason="no list of handles here"
)
async def test_large_files_keep_no_handle_open(path):
    """Between the pieces nothing is open that a cancelled search could leak."""
    path.write_bytes(NOISE[: 2 * PIECE + 1])
    before = handles()
    picture = await source(path).open()
    await picture.piece(0)
    assert handles() == before


# -- file objects ----------------------------------------------------------------


class Pipe:
    """A file object that can only be read."""

    def __init__(self, data):
        self.data = data
        self.reads = 0

    def read(self, size=-1):
        self.reads += 1
        found, self.data = self.data[:size], self.data[size:]
        return found


class Slow(Pipe):
    """A file object that gives less than it is asked for, as raw ones may."""

    def read(self, size=-1):
        return super().read(min(size, 7))


class Broken(Pipe):
    """A file object that fails, with a text that names somebody."""

    def read(self, size=-1):  # noqa: ARG002 - what a file takes
        raise OSError(5, "face-of-Ada-Example is gone")


class Async:
    """A file object of an asynchronous library."""

    async def read(self, size=-1):
        return MARK[:size]


class WholeAsync(Async):
    """One whose other methods are asynchronous as well."""

    async def seekable(self):
        return True

    async def seek(self, place):
        return place


class Delegating:
    """One that hands the coroutines of another one on."""

    def __init__(self):
        self.inner = WholeAsync()

    def seekable(self):
        return True

    def seek(self, place):
        return self.inner.seek(place)

    def read(self, size=-1):
        return self.inner.read(size)


class Awaitable:
    """An asynchronous file whose reads are no coroutines."""

    def read(self, _):
        return self

    def __await__(self):
        yield


async def test_a_file_object_is_read_from_its_start():
    """Wherever the caller left it."""
    file = io.BytesIO(MARK)
    file.seek(5)
    await check(source(file), MARK)


async def test_a_file_object_is_rewound_and_not_closed():
    """It is the caller's: at its start again, and open."""
    file = io.BytesIO(MARK)
    await check(source(file), MARK)
    assert not file.closed
    assert file.tell() == 0


async def test_a_file_object_is_read_once():
    """What was read serves every attempt: a pipe has no second reading."""
    pipe = Pipe(MARK)
    made = source(pipe)
    for _ in range(3):
        await check(made, MARK)
    assert pipe.reads <= 2


async def test_a_file_object_that_cannot_seek():
    """It is read from where it is."""
    await check(source(Pipe(MARK)), MARK)


async def test_a_file_object_that_reads_less():
    """Raw files may give less than asked for; the rest is part of the picture."""
    await check(source(Slow(MARK)), MARK)


@pytest.mark.parametrize("mode", ["rb", "r+b"])
async def test_a_real_file_object(path, mode):
    """An open file is read off the loop."""
    path.write_bytes(MARK)
    with path.open(mode) as file:
        await check(source(file), MARK)
        assert file.tell() == 0


async def test_a_spooled_file_and_a_map(path):
    """Temporary files and memory maps are file objects too."""
    with tempfile.SpooledTemporaryFile() as file:
        file.write(MARK)
        await check(source(file), MARK)
    path.write_bytes(MARK)
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
    ):
        await check(source(mapped), MARK)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_what_a_file_object_reads(kind):
    """Bytes-like is enough, and it is copied."""

    class File(Pipe):
        def read(self, size=-1):
            return kind(super().read(size))

    await check(source(File(MARK)), MARK)


async def test_a_text_file():
    """A file opened in text mode has no picture to give."""
    assert await wrong(io.StringIO("abc")) == (
        "image is a file of text: open it in binary mode"
    )


async def test_a_file_object_that_gives_nothing():
    """None, as of a raw file without data, is no picture."""

    class Nothing:
        def read(self, _):
            return None

    assert (await wrong(Nothing())).startswith("image")


@pytest.mark.parametrize(
    "kind",
    [
        Async,
        Awaitable,
        WholeAsync,
        Delegating,
    ],
)
async def test_an_asynchronous_file(kind):
    """The error tells what to pass; no coroutine is left behind unawaited."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        text = await wrong(kind())
    assert text == (
        "image is an asynchronous file: pass what `await file.read()` gives"
    )
    assert [str(warning.message) for warning in caught] == []


async def test_an_empty_file_object():
    """A file object of nothing is no picture."""
    assert "image is empty" in await wrong(io.BytesIO())


async def test_a_closed_file_object():
    """What the caller closed cannot be read."""
    file = io.BytesIO(MARK)
    file.close()
    assert "cannot be read (ValueError)" in await wrong(file)


async def test_a_broken_file_object():
    """Its error is named, not repeated."""
    text = await wrong(Broken(MARK))
    assert text == "image: the file object cannot be read (OSError)"


async def test_a_file_object_without_end():
    """No more than the limit is ever asked for."""
    asked = []

    class Endless:
        def read(self, size=-1):
            asked.append(size)
            return bytes(size)

    assert "too large" in await wrong(Endless(), limit=1000)
    assert sum(asked) <= 1001


# -- secrets ---------------------------------------------------------------------

TELLTALE = {
    "large bytes": lambda _: MARK * 20,
    "large view": lambda _: memoryview(MARK * 20),
    "large bytearray": lambda _: bytearray(MARK * 20),
    "large text": lambda _: base64.b64encode(MARK * 20).decode(),
    "wrong text": lambda _: base64.b64encode(MARK * 6).decode() + "!",
    "wrong padding": lambda _: base64.b64encode(MARK * 6).decode()[:-1],
    "short text": lambda _: base64.b64encode(MARK).decode(),
    "data uri": lambda _: "data:image/png," + base64.b64encode(MARK * 6).decode(),
    "list": lambda _: [MARK],
    "matrix": lambda _: memoryview(MARK * 4).cast("B", (8, 10)),
    "large file object": lambda _: io.BytesIO(MARK * 20),
    "text file object": lambda _: io.StringIO(MARK.decode()),
    "broken file object": lambda _: Broken(MARK),
    "large file": lambda path: (path.write_bytes(MARK * 20), path)[1],
    "no file": lambda path: path.with_name("face-of-Ada-Example.jpg"),
    "name": lambda _: pathlib.Path("face-of-Ada-Example\x00.jpg"),
}


@pytest.mark.parametrize("case", TELLTALE)
async def test_errors_show_nothing_of_the_picture(case, path, shown):
    """Neither content nor file name, in no text and in no local of our frames."""
    with pytest.raises(ImageError) as caught:
        await source(TELLTALE[case](path), limit=150).open()
    text = shown(caught.value)
    assert [mark for mark in MARKS if mark in text] == []


async def test_a_changed_file_shows_nothing(path, shown):
    """The error from the middle of a file shows neither content nor name."""
    path = path.with_name("face-of-Ada-Example.jpg")
    path.write_bytes(MARK * (PIECE // 10))
    picture = await source(path).open()
    path.unlink()
    with pytest.raises(ImageError) as caught:
        await picture.piece(0)
    text = shown(caught.value)
    assert [mark for mark in MARKS if mark in text] == []


@pytest.mark.parametrize("form", FORMS)
async def test_reprs_show_nothing_of_the_picture(form, path):
    """Sources and opened pictures can be logged."""
    path = path.with_name("face-of-Ada-Example.jpg")
    for data in (MARK * 10, MARK * (PIECE // 10)):
        made = source(FORMS[form](data, path))
        text = f"{made!r} {await made.open()!r} {made!r}"
        assert [mark for mark in MARKS if mark in text] == []
