"""From a picture, however it is given, to base64 slices of the request's body.

A picture is encoded while it is sent, so a search holds a slice and not a body.
Everything that looks at the raw value returns what is wrong with it instead of
raising: a traceback with locals would show the picture.
"""

import asyncio
import binascii
import hashlib
import inspect
import os
import stat
import string
from collections.abc import Iterator
from typing import Any, BinaryIO, Final, Protocol, TypeAlias, TypeVar

import attrs

from verifik_async._types import Masked
from verifik_async.errors import ImageError
from verifik_async.models import ImageInput

try:
    import pybase64
except ImportError:
    pybase64 = None  # type: ignore[assignment]  # the extra `speed` is not installed

Buffer: TypeAlias = bytes | memoryview
T = TypeVar("T")

# Bytes of picture per write: a multiple of 3, so that slices need no padding.
# 90 KiB was the fastest of the sizes tried with aiohttp's writer.
SLICE: Final = 92_160
# Bytes of a file in memory at once; a smaller file is read in one go.
PIECE: Final = SLICE * 8
# The API answers 412 only_images_in_base64 to shorter text.
MIN_TEXT: Final = 100

_ALPHABET: Final = (string.ascii_letters + string.digits + "+/").encode()
_WHITE_SPACE: Final = string.whitespace.encode()
_ASYNCHRONOUS: Final = (
    "image is an asynchronous file: pass what `await file.read()` gives"
)
_CHANGED: Final = "image: the file changed while it was being sent"
_USE_A_PATH: Final = "for a file pass pathlib.Path(...), for an encoded picture bytes"


def b64encode(data: Buffer) -> bytes:
    """Return base64 text of `data`, by pybase64 where it is installed."""
    if pybase64 is not None:
        return pybase64.b64encode(data)
    return binascii.b2a_base64(data, newline=False)


def _b64check(text: Buffer) -> None:
    """Decode base64 text strictly.

    Raises:
        ValueError: it is none.
    """
    if pybase64 is not None:
        pybase64.b64decode(text, validate=True)
    else:
        binascii.a2b_base64(text, strict_mode=True)


@attrs.define  # these two are made for every search, and frozen ones cost more
class BytesPicture:
    """An encoded picture (JPEG, PNG) in memory."""

    data: Buffer = attrs.field(repr=False)
    piece_count = 1

    @property
    def text_size(self) -> int:
        """Characters of its base64 text."""
        return -(-len(self.data) // 3) * 4

    def at_once(self) -> bytes | None:
        """Return its base64 text if that is a single slice."""
        return b64encode(self.data) if len(self.data) <= SLICE else None

    async def open(self) -> "BytesPicture":
        """Return itself: nothing is left to read."""
        return self

    async def piece(self, _: int) -> Iterator[bytes]:
        """Return its base64 text, in slices."""
        return _encode(self.data)

    async def content(self) -> bytes:
        """Return the picture."""
        return bytes(self.data)

    async def digest(self) -> str:
        """Return the SHA-256 of the picture, in hexadecimal."""
        return await _digest(iter((self.data,)), len(self.data))


@attrs.define
class TextPicture:
    """Base64 text, checked and passed on as it is."""

    text: bytes = attrs.field(repr=False)
    piece_count = 1

    @property
    def text_size(self) -> int:
        """Characters of the text."""
        return len(self.text)

    def at_once(self) -> bytes | None:
        """Return the text if that is a single slice."""
        return self.text if len(self.text) <= SLICE // 3 * 4 else None

    async def open(self) -> "TextPicture":
        """Return itself: nothing is left to read."""
        return self

    async def piece(self, _: int) -> Iterator[bytes]:
        """Return the text, in slices."""
        text, step = self.text, SLICE // 3 * 4
        return (text[start : start + step] for start in range(0, len(text), step))

    async def content(self) -> bytes:
        """Return the picture that the text stands for."""
        return await asyncio.to_thread(binascii.a2b_base64, self.text)

    async def digest(self) -> str:
        """Return the SHA-256 of the picture that the text stands for."""
        return await _digest(
            map(binascii.a2b_base64, await self.piece(0)), len(self.text)
        )


@attrs.frozen
class LargeFile:
    """A file too large to be held, read in pieces while it is sent.

    No handle stays open between the pieces, so nothing leaks with a cancelled
    search; `stamp` tells whether all of them are of the same file.
    """

    path: Masked[str | bytes]
    size: int
    stamp: tuple[int, ...]

    @property
    def piece_count(self) -> int:
        """In how many pieces it is read."""
        return -(-self.size // PIECE)

    @property
    def text_size(self) -> int:
        """Characters of its base64 text."""
        return -(-self.size // 3) * 4

    def at_once(self) -> None:
        """Return nothing: it has to be read first."""

    async def open(self) -> "LargeFile":
        """Return itself: each piece is read when it is due."""
        return self

    async def content(self) -> bytes:
        """Return all of the picture.

        Raises:
            ImageError: the file has changed since it was opened.
        """
        return _unchanged(await asyncio.to_thread(self._read, 0, self.size))

    async def digest(self) -> str:
        """Return the SHA-256 of the picture, in hexadecimal.

        Raises:
            ImageError: the file has changed since it was opened.
        """
        return _unchanged(await asyncio.to_thread(self._digest))

    def _digest(self) -> str | None:
        made = hashlib.sha256()
        for number in range(self.piece_count):
            data = self._read(number * PIECE, PIECE)
            if data is None:
                return None
            made.update(data)
        return made.hexdigest()

    async def piece(self, number: int) -> Iterator[bytes]:
        """Return the base64 text of piece `number`, in slices.

        Raises:
            ImageError: the file has changed since it was opened.
        """
        data = await asyncio.to_thread(self._read, number * PIECE, PIECE)
        return _encode(_unchanged(data))

    def _read(self, start: int, most: int) -> bytes | None:
        want = min(most, self.size - start)
        try:
            with open(self.path.reveal(), "rb", opener=_nonblocking) as file:
                if _stamp(os.fstat(file.fileno())) != self.stamp:
                    return None
                file.seek(start)
                data = file.read(want)
        except OSError:
            return None
        return data if len(data) == want else None


Picture: TypeAlias = BytesPicture | TextPicture | LargeFile


class ImageSource(Protocol):
    """A picture that was checked as far as that goes without I/O."""

    async def open(self) -> Picture:
        """Return the picture, for one attempt.

        Raises:
            ImageError: it cannot be read, or is empty or too large.
        """


@attrs.frozen
class PathSource:
    """A file, opened anew for every attempt and off the event loop."""

    path: Masked[str | bytes]
    limit: int

    async def open(self) -> Picture:
        """Open the file; a small one is read at once."""
        return _or_raise(await asyncio.to_thread(_from_path, self.path, self.limit))


@attrs.define
class FileSource:
    """A binary file object of the caller's, read once and off the event loop."""

    file: Masked[ImageInput]
    limit: int
    reading: "asyncio.Future[Picture | str] | None" = attrs.field(
        default=None, init=False
    )

    async def open(self) -> Picture:
        """Return the content; one reading serves every attempt.

        An attempt that times out does not stop it: a second reader would share the
        file's position with the first.
        """
        if self.reading is None:
            self.reading = asyncio.get_running_loop().run_in_executor(
                None, _from_file, self.file, self.limit
            )
        return _or_raise(await asyncio.shield(self.reading))


def image_source(image: Masked[ImageInput], max_bytes: int) -> ImageSource:
    """Return the source of a picture, checked as far as that goes without I/O.

    Args:
        image: Bytes-like, `os.PathLike`, base64 text or a binary file object.
        max_bytes: Size of the picture at most, before base64.

    Raises:
        ImageError: it is empty, too large, not base64 or no picture at all.
    """
    found = _look_at(image, max_bytes)
    if isinstance(found, str):
        raise ImageError(found)
    return found


def _look_at(image: Masked[ImageInput], limit: int) -> "ImageSource | str":
    value: Any = image.reveal()
    if type(value) is bytes:  # the commonest kind, and nothing can be wrong with it
        return _wrong_size(len(value), limit) or BytesPicture(value)
    if isinstance(value, str):
        return _from_text(value, limit)
    try:
        return _from_object(image, limit)
    except Exception as error:  # noqa: BLE001 - it is the caller's object
        return f"image cannot be looked at ({type(error).__name__})"


def _from_object(image: Masked[ImageInput], limit: int) -> "ImageSource | str":
    value: Any = image.reveal()
    if isinstance(value, os.PathLike):
        return PathSource(Masked(os.fspath(value)), limit)
    try:
        view = memoryview(value)
    except (TypeError, ValueError):  # ValueError: a view that was released
        if callable(getattr(value, "read", None)):
            return FileSource(image, limit)
        return (
            "image must be bytes, an os.PathLike, base64 text, a binary file or a "
            f"Probe, not {type(value).__name__}"
        )
    return _from_buffer(view, limit)


def _unchanged(read: T | None) -> T:
    if read is None:
        raise ImageError(_CHANGED)
    return read


def _or_raise(found: Picture | str) -> Picture:
    if isinstance(found, str):
        raise ImageError(found)
    return found


def _encode(data: Buffer) -> Iterator[bytes]:
    view = memoryview(data)
    return (
        b64encode(view[start : start + SLICE]) for start in range(0, len(view), SLICE)
    )


async def _digest(pieces: Iterator[Buffer], size: int) -> str:
    """Return the SHA-256 of what the pieces come to; off the loop if it takes long."""
    if size <= PIECE:
        return _digest_now(pieces)
    return await asyncio.to_thread(_digest_now, pieces)


def _digest_now(pieces: Iterator[Buffer]) -> str:
    made = hashlib.sha256()
    for piece in pieces:
        made.update(piece)
    return made.hexdigest()


def _wrong_size(size: int, limit: int) -> str | None:
    if size == 0:
        return "image is empty: pass an encoded picture (JPEG or PNG)"
    return _too_large(size, limit) if size > limit else None


def _too_large(size: int, limit: int) -> str:
    return (
        f"image is too large, {size} bytes of at most {limit}: shrink it or raise "
        "VerifikClient(max_image_bytes=...)"
    )


def _from_buffer(view: memoryview, limit: int) -> BytesPicture | str:
    if view.ndim != 1 or view.itemsize != 1:
        return "image is an array of numbers: encode it as JPEG or PNG first"
    if wrong := _wrong_size(len(view), limit):
        return wrong
    # Whoever owns a mutable buffer may write to it while the search waits its turn.
    fixed = type(view.obj) is bytes and view.contiguous
    return BytesPicture(view.cast("B") if fixed else bytes(view))


def _from_text(text: str, limit: int) -> TextPicture | str:
    if text[:64].lstrip()[:5].lower() == "data:":
        head, comma, text = text.partition(",")
        if not comma or not head.rstrip().lower().endswith(";base64"):
            return "image is a data URI without base64: pass base64 text or bytes"
    if len(text) > limit * 2:  # more than base64 with line breaks can need
        return _too_large(len(text) // 4 * 3, limit)
    try:
        raw = text.encode("ascii")
    except UnicodeEncodeError:
        return f"image is text but no base64: {_USE_A_PATH}"
    if not _is_base64(raw):
        raw = raw.translate(None, _WHITE_SPACE)
        if not _is_base64(raw) and (wrong := _wrong_text(raw)):
            return wrong
    padding = raw.count(b"=", -2)
    return _wrong_size(len(raw) // 4 * 3 - padding, limit) or TextPicture(raw)


def _is_base64(raw: bytes) -> bool:
    """Whether text is base64 of a picture and nothing else.

    Decoding it, a slice at a time, is several times faster than any look at it.
    """
    if len(raw) < MIN_TEXT or len(raw) % 4 or raw.find(b"=", 0, -2) >= 0:
        return False
    view, step = memoryview(raw), SLICE // 3 * 4
    try:
        for start in range(0, len(raw), step):
            _b64check(view[start : start + step])
    except ValueError:
        return False
    return True


def _wrong_text(raw: bytes) -> str | None:
    if len(raw) < MIN_TEXT:
        return (
            f"image is text of {len(raw)} characters: base64 text has at least "
            f"{MIN_TEXT}; {_USE_A_PATH}"
        )
    body = raw.rstrip(b"=")
    padding = len(raw) - len(body)
    if body.translate(None, _ALPHABET):
        return f"image is text but no base64: {_USE_A_PATH}"
    if padding > 2 or len(raw) % 4:  # noqa: PLR2004
        return "image is base64 text with wrong padding: its end may be missing"
    return None


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _from_path(path: Masked[str | bytes], limit: int) -> Picture | str:
    """Open a file: small ones are read at once. Runs in a thread."""
    try:
        # Not blocking: a named pipe would wait for its writer for ever.
        with open(path.reveal(), "rb", opener=_nonblocking) as file:
            return _from_open_file(file, path, limit)
    except FileNotFoundError:
        return "image: there is no such file"
    except IsADirectoryError:
        return "image is a directory: pass one file"
    except (OSError, ValueError) as error:
        # Neither path nor text of the error: file names may name persons.
        return f"image: the file cannot be read ({type(error).__name__})"


def _from_open_file(
    file: BinaryIO, path: Masked[str | bytes], limit: int
) -> Picture | str:
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        return "image is no regular file: pass its content as bytes"
    if wrong := _wrong_size(status.st_size, limit):
        return wrong
    if status.st_size > PIECE:
        return LargeFile(path, status.st_size, _stamp(status))
    data = file.read(status.st_size)
    return _wrong_size(len(data), limit) or BytesPicture(data)


def _nonblocking(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _from_file(image: Masked[ImageInput], limit: int) -> Picture | str:
    """Read a file object from its start and rewind it. Runs in a thread."""
    file: Any = image.reveal()
    if inspect.iscoroutinefunction(file.read):
        return _ASYNCHRONOUS
    try:
        _rewind(file)
        data = _read_all(file, limit + 1)
        _rewind(file)
    except Exception as error:  # noqa: BLE001 - it is the caller's object
        return f"image: the file object cannot be read ({type(error).__name__})"
    if isinstance(data, str):
        return data
    return _wrong_size(len(data), limit) or BytesPicture(data)


def _read_all(file: Any, limit: int) -> bytes | str:
    """Return up to `limit` bytes, or what is wrong with the file."""
    chunks: list[bytes] = []
    while limit > 0:  # a raw file may give less than it is asked for
        chunk = file.read(limit)
        if inspect.isawaitable(chunk):
            _drop(chunk)
            return _ASYNCHRONOUS
        if not isinstance(chunk, bytes | bytearray | memoryview):
            return "image is a file of text: open it in binary mode"
        if not chunk:
            break
        chunks.append(bytes(chunk))
        limit -= len(chunk)
    return b"".join(chunks)


def _rewind(file: Any) -> None:
    if getattr(file, "seekable", bool)():
        _drop(file.seek(0))


def _drop(result: object) -> None:
    """Close a coroutine, which would warn otherwise that nobody awaited it."""
    if inspect.iscoroutine(result):
        result.close()
