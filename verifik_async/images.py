"""Pictures made fit for the API before they are sent; needs the extra `images`.

The API takes upright JPEG and PNG. A telephone's picture may lie on its side, be HEIC,
or hold ten times the pixels that a face search looks at; all of that is mended here,
and smaller pictures are sent sooner. It is never done unasked: other pixels may have
other scores.

What looks at a picture returns what is wrong with it instead of raising: a traceback
with locals would show the picture.
"""

import asyncio
import io
import os
import re
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Final, Self

import attrs

from verifik_async._config import whole
from verifik_async._types import Masked
from verifik_async.errors import ClientClosedError, ConfigurationError, ImageError

try:
    from PIL import ExifTags, Image, ImageCms, ImageFile
    from PIL.AvifImagePlugin import AvifImageFile
    from PIL.BmpImagePlugin import BmpImageFile
    from PIL.GifImagePlugin import GifImageFile
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile
    from PIL.TiffImagePlugin import TiffImageFile
    from PIL.WebPImagePlugin import WebPImageFile
except ImportError as error:
    raise ImportError(
        "verifik_async.images needs Pillow, 11.3 or newer: "
        'pip install "verifik-async[images]"',
        name="PIL",
    ) from error

__all__ = ["MAX_PIXELS", "Preparation", "prepare_image"]

# A small file can hold an absurd number of pixels. Decoding takes up to 8 bytes each.
MAX_PIXELS: Final = 100_000_000

# Above it JPEG files grow and pictures get no better, say Pillow's documents.
_MAX_QUALITY: Final = 95
# `Image.open` is not used: it measures by a global limit, warns, and tries dozens of
# formats. Classes of its plugins read one format, and the limit is ours.
_READERS: Final[tuple[tuple[int, bytes, type[ImageFile.ImageFile]], ...]] = (
    (0, b"\xff\xd8\xff", JpegImageFile),  # with several pictures in it: the first
    (0, b"\x89PNG\r\n\x1a\n", PngImageFile),
    (8, b"WEBP", WebPImageFile),
    (0, b"GIF8", GifImageFile),
    (0, b"BM", BmpImageFile),
    (0, b"II*\0", TiffImageFile),
    (0, b"MM\0*", TiffImageFile),
)
_AVIF_BRANDS: Final = re.compile(rb"avi[fs]")
_HEIF_BRANDS: Final = re.compile(rb"he[iv][cmsx]|m[is]f1")
_FTYP_BYTES: Final = 128  # of a box that lists brands; real ones have some 40
# What undoes each EXIF orientation; 1 is upright.
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_EMPTY: Final = "image is empty: pass an encoded picture"
_UNKNOWN: Final = (
    "image is no picture of a known format: pass the content of a JPEG, PNG, HEIC, "
    "AVIF, WebP, TIFF, GIF or BMP file"
)
_NO_HEIF: Final = (
    "image is HEIC, and pillow-heif is missing: "
    'pip install "verifik-async[images]", or pass a JPEG'
)
_TOO_MANY: Final = (
    f"image has more than {MAX_PIXELS:,} pixels: shrink it before it is passed"
)
_TOO_MANY_FOR_PILLOW: Final = (
    "image has more pixels than Pillow is set to read (PIL.Image.MAX_IMAGE_PIXELS): "
    "shrink it before it is passed"
)
_TOO_DEEP: Final = (
    "image has pixels of 32 bits, and nothing says which value is white: "
    "save it as JPEG or PNG"
)


@attrs.frozen
class _Form:
    """What pictures are made fit to.

    Raises:
        ConfigurationError: a value is out of its range.
    """

    max_side: int | None
    quality: int

    def __attrs_post_init__(self) -> None:
        if self.max_side is not None:
            whole("max_side", self.max_side, 1)
        if whole("quality", self.quality, 1) > _MAX_QUALITY:
            raise ConfigurationError(
                f"quality must be at most {_MAX_QUALITY}, not {self.quality}: "
                "above it files grow and pictures get no better"
            )


def prepare_image(
    image: bytes, *, max_side: int | None = None, quality: int = 90
) -> bytes:
    """Return a picture as an upright JPEG or PNG that is not larger than need be.

    It blocks, for a large picture some tenths of a second: `Preparation` does the same
    off the event loop.

    A JPEG or PNG that is upright and small enough is returned as it is: not decoded, so
    damage behind its header stays unseen, and with its metadata. Everything else
    becomes a JPEG: turned upright by its EXIF orientation, shrunk, transparency on
    white, colours in sRGB, the first picture of an animation, without metadata. It may
    have more bytes than before: HEIC packs tighter than JPEG.

    Args:
        image: An encoded picture: JPEG, PNG, HEIC, AVIF, WebP, TIFF, GIF or BMP.
        max_side: Pixels of the longer side at most, 1 or more; None: as it is. Smaller
            pictures are never enlarged.
        quality: Quality of a JPEG that is written, from 1 to 95.

    Raises:
        ImageError: the picture is empty, of no known format, damaged, or has more than
            `MAX_PIXELS` pixels.
        ConfigurationError: `max_side` or `quality` is out of its range.
    """
    held = Masked(image)
    del image  # no traceback with locals shall find it in this frame
    return _or_raise(_prepare(held, _Form(max_side, quality)))


class Preparation:
    """`prepare_image` off the event loop, in threads of its own.

        async with Preparation(max_side=1024) as preparation:
            fit = await preparation(picture)

    Each thread decodes one picture at a time; further pictures wait their turn in
    memory. One belongs to one event loop at a time, and may be handed to
    `search_many(..., prepare=preparation)`.

    Args:
        max_side: As of `prepare_image`.
        quality: As of `prepare_image`.
        workers: Threads, 1 or more; None: one per CPU.

    Attributes:
        changed: Pictures that were changed.
        bytes_before: Sum of the sizes of all pictures that went through, in bytes.
        bytes_after: Sum of the sizes of what they became, in bytes.

    Raises:
        ConfigurationError: an argument is out of its range.
    """

    def __init__(
        self,
        *,
        max_side: int | None = None,
        quality: int = 90,
        workers: int | None = None,
    ) -> None:
        self._form = _Form(max_side, quality)
        threads = _cpus() if workers is None else whole("workers", workers, 1)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="verifik-images")
        self._closed = False
        self.changed = 0
        self.bytes_before = 0
        self.bytes_after = 0

    @property
    def saved_bytes(self) -> int:
        """Bytes that need not be sent; negative if pictures grew, as HEIC may."""
        return self.bytes_before - self.bytes_after

    async def __call__(self, image: bytes) -> bytes:
        """Return a picture as `prepare_image` does.

        A task that is cancelled leaves at once; a picture that a thread has begun is
        finished in vain.

        Raises:
            ImageError: the picture is unusable; see `prepare_image`.
            ClientClosedError: this was closed before.
        """
        held = Masked(image)
        del image  # no traceback with locals shall find it in this frame
        if self._closed:
            raise ClientClosedError("the preparation is closed: make a new Preparation")
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._pool, _prepare, held, self._form)
        fit = Masked(_or_raise(found))
        self._count(held, fit)
        return fit.reveal()

    def _count(self, before: Masked[bytes], after: Masked[bytes]) -> None:
        self.changed += before.reveal() is not after.reveal()
        self.bytes_before += len(before.reveal())
        self.bytes_after += len(after.reveal())

    async def aclose(self) -> None:
        """Refuse further pictures, and wait for those that are on their way.

        The event loop goes on meanwhile. To do it again does no harm.
        """
        self._closed = True
        # Here for certain, should nobody wait until a thread is free to wait in.
        self._pool.shutdown(wait=False)
        await asyncio.to_thread(self._pool.shutdown)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()


def _cpus() -> int:
    # What this process may use, from Python 3.13 on.
    return getattr(os, "process_cpu_count", os.cpu_count)() or 1


def _or_raise(found: bytes | str) -> bytes:
    if isinstance(found, str):
        raise ImageError(found)
    return found


def _prepare(image: Masked[bytes], form: _Form) -> bytes | str:
    """Return the picture made fit, or what is wrong with it. Runs in a thread."""
    if not isinstance(image.reveal(), bytes):
        return f"image must be bytes, not {type(image.reveal()).__name__}"
    if not image.reveal():
        return _EMPTY
    reader = _reader(image)
    if isinstance(reader, str):
        return reader
    try:
        with reader(io.BytesIO(image.reveal())) as opened:
            return _made_fit(image, opened, form)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return _TOO_MANY_FOR_PILLOW  # some readers look for themselves
    except Exception as error:  # noqa: BLE001 - of broken files Pillow raises anything
        # Without its text, which may quote the file.
        return (
            f"image cannot be decoded ({type(error).__name__}): its end may be missing "
            "or its kind be a rare one; pass the original, or save it as JPEG anew"
        )


def _reader(image: Masked[bytes]) -> type[ImageFile.ImageFile] | str:
    """Return what reads this format, by the first bytes, or what is wrong."""
    for offset, signature, reader in _READERS:
        if image.reveal().startswith(signature, offset):
            return reader
    if not image.reveal().startswith(b"ftyp", 4):
        return _UNKNOWN
    end = min(int.from_bytes(image.reveal()[:4]), _FTYP_BYTES)
    # Files of both formats may call themselves mif1 first, so AVIF is looked for first.
    if _AVIF_BRANDS.search(image.reveal(), 8, end):
        return AvifImageFile
    return _heif_reader() if _HEIF_BRANDS.search(image.reveal(), 8, end) else _UNKNOWN


def _heif_reader() -> type[ImageFile.ImageFile] | str:
    try:
        # Late: it is large, and few see HEIC. Nothing is registered with Pillow, which
        # would change what `Image.open` does for everybody else.
        from pillow_heif import HeifImageFile  # noqa: PLC0415
    except ImportError:
        return _NO_HEIF
    found: type[ImageFile.ImageFile] = HeifImageFile
    return found


def _made_fit(
    image: Masked[bytes], opened: ImageFile.ImageFile, form: _Form
) -> bytes | str:
    """Return the picture made fit; only its header was read so far."""
    if opened.width * opened.height > MAX_PIXELS:
        return _TOO_MANY
    if opened.mode in {"I", "F"}:
        return _TOO_DEEP
    if _is_fit(image, opened, form.max_side):
        return image.reveal()
    small = _shrunk(opened, form.max_side)
    turn = _turn(opened)
    upright = small if turn is None else small.transpose(turn)
    return _jpeg(_in_srgb(upright, opened.info.get("icc_profile")), form.quality)


def _is_fit(
    image: Masked[bytes], opened: ImageFile.ImageFile, max_side: int | None
) -> bool:
    if not isinstance(opened, JpegImageFile | PngImageFile):
        return False
    if max_side is not None and max(opened.size) > max_side:
        return False
    if isinstance(opened, PngImageFile) and b"eXIf" in image.reveal():
        opened.load()  # it may stand behind the pixels
    return _turn(opened) is None


def _turn(opened: ImageFile.ImageFile) -> Image.Transpose | None:
    """Return what makes the picture upright; None: it is, for all that EXIF says."""
    try:
        # Not PNG's own method, which decodes every picture to look behind its pixels.
        exif = Image.Image.getexif(opened)
        return _TURNS.get(exif[ExifTags.Base.Orientation])
    except Exception:  # noqa: BLE001 - absent, or nobody can read it
        return None


def _shrunk(opened: ImageFile.ImageFile, max_side: int | None) -> Image.Image:
    """Return the picture decoded, opaque, and with no side longer than that."""
    if not isinstance(opened, JpegImageFile):
        # TIFF is turned and HEIF measured by that. HEIF's `draft`, which then does
        # nothing, would take a preview from the file, and who knows what it shows.
        opened.load()
    size = _fitted(opened.size, max_side)
    # JPEG decodes to a half, a quarter or an eighth directly, and several times faster.
    drafted = opened.draft(None, size)
    small = _opaque(opened).resize(
        size,
        Image.Resampling.LANCZOS,
        box=drafted[1] if drafted else None,
        reducing_gap=2.0,
    )
    small.info = {}  # comments would be written again
    return small


def _fitted(size: tuple[int, int], max_side: int | None) -> tuple[int, int]:
    """Return width and height, reduced in proportion."""
    longer = max(size)
    if max_side is None or longer <= max_side:
        return size
    width, height = (max(1, round(side * max_side / longer)) for side in size)
    return width, height


def _opaque(opened: Image.Image) -> Image.Image:
    """Return the picture in a mode that can be shrunk: L, RGB or CMYK."""
    if opened.mode.startswith("I;16"):
        # Converted directly, all but the darkest 255 of 65,536 values would be white.
        return opened.convert("I").point(lambda value: value / 256).convert("L")
    if opened.has_transparency_data:
        layer = opened.convert("RGBA")
        flat = Image.new("RGB", layer.size, "white")
        flat.paste(layer, mask=layer)
        return flat
    return opened if opened.mode in {"L", "RGB", "CMYK"} else opened.convert("RGB")


def _in_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """Return the picture in RGB; its colours are sRGB's, as none will say otherwise.

    Telephones write Display P3: without this, faces would be paler than they are.
    """
    if profile:
        try:
            return _converted(picture, ImageCms.ImageCmsProfile(io.BytesIO(profile)))
        except (OSError, ImageCms.PyCMSError, ImportError):
            pass  # damaged, or of pixels of another mode; or Pillow has no littlecms
    return picture.convert("RGB")


def _converted(picture: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    if "sRGB" in ImageCms.getProfileDescription(profile):
        return picture.convert("RGB")  # the commonest, and converting takes its time
    srgb = ImageCms.createProfile("sRGB")
    made = ImageCms.profileToProfile(picture, profile, srgb, outputMode="RGB")
    return picture.convert("RGB") if made is None else made


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return file.getvalue()
