"""Faces of nobody: cartoons drawn from a seed, for demonstrations and tests.

No picture of a real person is needed, and the same seed gives the same face.
"""

import colorsys
import functools
import io
import random
from collections.abc import Iterable
from typing import TypeAlias

import attrs
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

SIZE = 240
QUALITY = 88

# Drawn larger and scaled down: Pillow's shapes have no smooth edges of their own.
_SCALE = 2
_SKINS = ("#fbe0cd", "#f3c9a8", "#e2ac82", "#c98d5f", "#a56c43", "#7f4e30", "#5a3723")
_HAIRS = ("#1d1a1a", "#3b2a20", "#6a4326", "#a8672f", "#d9b36a", "#8d8d92", "#b5432a")
_EYES = ("#3a2416", "#5b3a1e", "#3f6b46", "#3d6b94", "#6f7f8a", "#1c1c20")
_LIPS = ("#b5524f", "#9c3f45", "#c96a62", "#87393a")
_LONG = ("long", "bob", "afro")
_STYLES = (*_LONG, "short", "side", "spiky", "bun", "bald")
_MOUTHS = ("smile", "grin", "flat", "open", "smirk")
_NOSES = ("button", "hook", "wide", "line")
_BEARDS = (None, None, None, "stubble", "full", "goatee", "moustache")
_GLASSES = (None, None, None, "round", "square", "dark")

Point: TypeAlias = tuple[float, float]
# The centre and the two radii.
Oval: TypeAlias = tuple[float, float, float, float]


@attrs.frozen(kw_only=True)
class _Look:
    """Everything about a face that its seed decides; lengths in pixels of SIZE."""

    paper: str
    ring: str
    shirt: str
    skin: str
    hair: str
    iris: str
    lips: str
    style: str
    mouth: str
    nose: str
    beard: str | None
    glasses: str | None
    freckles: int
    earrings: bool
    x: float
    y: float
    width: float
    height: float
    jaw: float
    eye_gap: float
    eye_size: float
    eye_y: float
    brow_tilt: float
    brow_width: float
    brow_y: float
    nose_size: float
    mouth_y: float
    mouth_width: float


class _Pen:
    """Draws in pixels of SIZE on the larger canvas."""

    def __init__(self, paper: str) -> None:
        side = SIZE * _SCALE
        self.canvas = Image.new("RGB", (side, side), paper)
        self._draw = ImageDraw.Draw(self.canvas)

    def oval(self, at: Oval, fill: str) -> None:
        self._draw.ellipse(_box(at), fill=fill)

    def ring(self, at: Oval, ink: str, width: float) -> None:
        self._draw.ellipse(_box(at), outline=ink, width=_px(width))

    def slice(self, at: Oval, span: Point, fill: str) -> None:
        self._draw.chord(_box(at), *span, fill=fill)

    def arc(self, at: Oval, span: Point, ink: str) -> None:
        self._draw.arc(_box(at), *span, fill=ink, width=_px(2.6))

    def plate(
        self, at: Oval, *, fill: str | None = None, outline: str | None = None
    ) -> None:
        radius = _px(min(at[2:]) * 0.45)
        self._draw.rounded_rectangle(_box(at), radius, fill, outline, _px(3))

    def line(self, points: Iterable[Point], ink: str, width: float) -> None:
        scaled = [(x * _SCALE, y * _SCALE) for x, y in points]
        self._draw.line(scaled, fill=ink, width=_px(width), joint="curve")
        for x, y in (scaled[0], scaled[-1]):  # round ends
            half = width * _SCALE / 2
            self._draw.ellipse((x - half, y - half, x + half, y + half), fill=ink)

    def shape(self, points: Iterable[Point], fill: str) -> None:
        self._draw.polygon([(x * _SCALE, y * _SCALE) for x, y in points], fill=fill)


def draw_face(seed: int) -> Image.Image:
    """Return the cartoon of a person who does not exist, SIZE pixels square.

    Args:
        seed: Which one. Equal seeds give equal pictures, others another face.
    """
    rng = random.Random(f"face {seed}")  # noqa: S311 - a picture, not a secret
    look = _look(rng)
    pen = _Pen(look.paper)
    pen.oval((SIZE / 2, SIZE * 0.47, SIZE * 0.42, SIZE * 0.42), look.ring)
    _draw_hair_behind(pen, look)
    _draw_body(pen, look)
    _draw_head(pen, look)
    _draw_freckles(pen, look, rng)
    _draw_beard(pen, look)
    _draw_nose(pen, look)
    _draw_mouth(pen, look)
    for side in (-1, 1):
        _draw_eye(pen, look, side)
        _draw_brow(pen, look, side)
    _draw_hair(pen, look, rng)
    _draw_glasses(pen, look)
    return pen.canvas.resize((SIZE, SIZE), Image.Resampling.BOX)


def encode(image: Image.Image, quality: int = QUALITY) -> bytes:
    """Return the picture as a JPEG file."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def alter(image: Image.Image, seed: int) -> Image.Image:
    """Return another photograph, so to say, of the same face.

    Cropped, scaled, in other light and a little blurred, all by small amounts that
    the seed decides: a face search should still find the person.
    """
    rng = random.Random(f"alter {seed}")  # noqa: S311 - a picture, not a secret
    width, height = image.size
    cut = rng.uniform(0, 0.05)
    left, top = rng.uniform(0, cut) * width, rng.uniform(0, cut) * height
    box = (left, top, left + (1 - cut) * width, top + (1 - cut) * height)
    side = round(width * rng.uniform(0.75, 1.25))
    image = image.resize((side, side), Image.Resampling.BICUBIC, box)
    image = ImageEnhance.Brightness(image).enhance(rng.uniform(0.75, 1.03))
    image = ImageEnhance.Contrast(image).enhance(rng.uniform(0.85, 1.05))
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.8)))
    file = io.BytesIO(encode(image, quality=rng.randint(60, 85)))
    with Image.open(file) as recoded:
        return recoded.convert("RGB")


def _look(rng: random.Random) -> _Look:
    hue, pick, span = rng.random(), rng.choice, rng.uniform
    return _Look(
        paper=_tone(hue, 0.35, 0.88),
        ring=_tone(hue + 0.03, 0.28, 0.96),
        shirt=_tone(rng.random(), span(0.3, 0.75), span(0.35, 0.85)),
        skin=pick(_SKINS),
        hair=pick(_HAIRS),
        iris=pick(_EYES),
        lips=pick(_LIPS),
        style=pick(_STYLES),
        mouth=pick(_MOUTHS),
        nose=pick(_NOSES),
        beard=pick(_BEARDS),
        glasses=pick(_GLASSES),
        freckles=pick((0, 0, 0, 14)),
        earrings=rng.random() < 0.25,  # noqa: PLR2004 - a quarter of them
        x=span(112, 128),
        y=span(104, 116),
        width=span(47, 60),
        height=span(60, 72),
        jaw=span(0.55, 0.9),
        eye_gap=span(19, 25),
        eye_size=span(7.5, 11),
        eye_y=span(-10, -3),
        brow_tilt=span(-5, 5),
        brow_width=span(2.5, 6.5),
        brow_y=span(-19, -14),
        nose_size=span(8, 14),
        mouth_y=span(30, 38),
        mouth_width=span(14, 23),
    )


def _draw_hair_behind(pen: _Pen, look: _Look) -> None:
    x, y, w, h = look.x, look.y, look.width, look.height
    match look.style:
        case "long":
            pen.oval((x, y - 8, w + 15, h + 8), look.hair)
            pen.plate((x, y + 45, w + 13, 55), fill=look.hair)
        case "bob":
            pen.oval((x, y - 6, w + 14, h + 7), look.hair)
            pen.plate((x, y + 20, w + 14, 40), fill=look.hair)
        case "afro":
            pen.oval((x, y - 26, w + 30, h + 4), look.hair)
        case "bun":
            pen.oval((x, y - h - 14, 21, 19), look.hair)
        case _:
            pass


def _draw_body(pen: _Pen, look: _Look) -> None:
    x, shade = look.x, _shade(look.skin, 0.86)
    pen.oval((x, SIZE + 22, 92, 66), look.shirt)
    pen.plate((x, look.y + look.height + 8, 21, 34), fill=shade)
    pen.slice((x, SIZE - 39, 30, 17), (0, 180), shade)
    pen.arc((x, SIZE - 39, 31, 18), (0, 180), _shade(look.shirt, 0.75))


def _draw_head(pen: _Pen, look: _Look) -> None:
    x, y, w, h = look.x, look.y, look.width, look.height
    shade = _shade(look.skin, 0.86)
    for side in (-1, 1):
        pen.oval((x + side * w, y + 4, 9, 14), look.skin)
        pen.oval((x + side * w, y + 4, 4.5, 8), shade)
        if look.earrings:
            pen.oval((x + side * (w + 2), y + 21, 4, 4), "#e9c04a")
    pen.oval((x, y, w, h), look.skin)
    pen.oval((x, y + h * 0.42, w * look.jaw, h * 0.62), look.skin)
    for side in (-1, 1):
        pen.oval((x + side * w * 0.58, y + 20, 10, 7), _mix(look.skin, "#e0605a", 0.18))


def _draw_freckles(pen: _Pen, look: _Look, rng: random.Random) -> None:
    ink = _shade(look.skin, 0.7)
    for _ in range(look.freckles):
        x = look.x + rng.choice((-1, 1)) * rng.uniform(12, 36)
        pen.oval((x, look.y + rng.uniform(9, 24), 1.4, 1.4), ink)


def _draw_eye(pen: _Pen, look: _Look, side: int) -> None:
    x, y, size = look.x + side * look.eye_gap, look.y + look.eye_y, look.eye_size
    pen.oval((x, y, size * 1.25, size * 0.85), "#fbfaf7")
    pen.oval((x, y, size * 0.68, size * 0.68), look.iris)
    pen.oval((x, y, size * 0.34, size * 0.34), "#15110f")
    pen.oval((x + size * 0.25, y - size * 0.28, size * 0.18, size * 0.18), "#ffffff")
    pen.arc((x, y, size * 1.3, size * 0.95), (190, 350), _shade(look.skin, 0.35))


def _draw_brow(pen: _Pen, look: _Look, side: int) -> None:
    x, y = look.x + side * look.eye_gap, look.y + look.eye_y + look.brow_y
    inner, outer = (x - side * 11, y - look.brow_tilt), (x + side * 13, y + 2)
    ink = look.hair if look.style != "bald" else _shade(look.skin, 0.45)
    pen.line((inner, (x + side * 2, y - 3), outer), ink, look.brow_width)


def _draw_nose(pen: _Pen, look: _Look) -> None:
    x, y, size = look.x, look.y + 14, look.nose_size
    shade = _shade(look.skin, 0.78)
    match look.nose:
        case "button":
            pen.oval((x, y, size * 0.7, size * 0.55), shade)
            pen.oval((x, y - 1.5, size * 0.6, size * 0.45), _shade(look.skin, 0.93))
        case "hook":
            pen.line(((x - 2, y - 16), (x + size * 0.6, y), (x - 3, y + 3)), shade, 2.8)
        case "wide":
            pen.arc((x, y - 3, size, size * 0.6), (20, 160), shade)
            for side in (-1, 1):
                pen.oval((x + side * size * 0.4, y + 1, 2, 1.5), _shade(look.skin, 0.6))
        case _:
            pen.line(((x, y - 14), (x, y), (x + size * 0.4, y + 1)), shade, 2.4)


def _draw_mouth(pen: _Pen, look: _Look) -> None:
    x, y, w = look.x, look.y + look.mouth_y, look.mouth_width
    match look.mouth:
        case "smile":
            pen.arc((x, y - 6, w, 11), (15, 165), look.lips)
        case "grin":
            pen.slice((x, y - 3, w, 14), (0, 180), look.lips)
            pen.slice((x, y - 2, w * 0.84, 9), (0, 180), "#fdfcf8")
        case "flat":
            pen.line(((x - w * 0.8, y), (x + w * 0.8, y)), look.lips, 3.4)
        case "open":
            pen.oval((x, y + 1, w * 0.5, 8), look.lips)
            pen.oval((x, y + 2, w * 0.34, 5), "#4a1c1e")
        case _:
            pen.line(((x - w * 0.7, y + 1), (x, y + 2), (x + w, y - 5)), look.lips, 3.2)


def _draw_beard(pen: _Pen, look: _Look) -> None:
    x, y, w, h = look.x, look.y, look.width, look.height
    mouth = y + look.mouth_y
    match look.beard:
        case "stubble":
            fill = _mix(look.skin, look.hair, 0.22)
            pen.slice((x, y + h * 0.36, w * look.jaw, h * 0.68), (5, 175), fill)
        case "full":
            pen.slice((x, y + h * 0.3, w * 0.97, h * 0.84), (2, 178), look.hair)
            pen.oval((x, mouth, look.mouth_width * 1.15, 12), look.skin)
        case "goatee":
            pen.oval((x, mouth + 17, look.mouth_width * 0.7, 14), look.hair)
            pen.oval((x, mouth + 2, look.mouth_width * 1.05, 9), look.skin)
        case "moustache":
            for side in (-1, 1):
                pen.oval((x + side * 10, mouth - 10, 13, 5.5), look.hair)
        case _:
            pass


def _draw_hair(pen: _Pen, look: _Look, rng: random.Random) -> None:
    x, y, w, h = look.x, look.y, look.width, look.height
    top = y - h
    match look.style:
        case "bald":
            pen.oval((x - w * 0.35, top + 17, 9, 5), _mix(look.skin, "#ffffff", 0.45))
        case "spiky":
            pen.slice((x, y - 12, w + 3, h - 6), (188, 352), look.hair)
            for step in range(-3, 4):
                tip = (x + step * 17 + rng.uniform(-5, 5), top - rng.uniform(4, 17))
                left, right = (
                    (x + step * 14 - 12, top + 22),
                    (x + step * 14 + 12, top + 22),
                )
                pen.shape((left, tip, right), look.hair)
        case "side" | "long":
            pen.slice((x, y - 6, w + 4, h), (196, 344), look.hair)
            pen.slice(
                (x - w * 0.35, y - h * 0.62, w * 0.8, h * 0.42), (0, 360), look.hair
            )
        case "bob":
            pen.slice((x, y - 4, w + 5, h + 4), (200, 340), look.hair)
            pen.plate((x, y - h * 0.62, w * 0.86, 13), fill=look.hair)
        case _:
            pen.slice((x, y - 6, w + 3, h), (198, 342), look.hair)


def _draw_glasses(pen: _Pen, look: _Look) -> None:
    if look.glasses is None:
        return
    y, rim = look.y + look.eye_y, "#26262b"
    for side in (-1, 1):
        x = look.x + side * look.eye_gap
        match look.glasses:
            case "round":
                pen.ring((x, y, 16, 16), rim, 3)
            case "square":
                pen.plate((x, y, 17, 13), outline=rim)
            case _:
                pen.plate((x, y, 17, 13), fill="#2b2d36", outline=rim)
        pen.line(((x + side * 17, y), (look.x + side * look.width, y)), rim, 2.4)
    bridge = look.eye_gap - 16
    pen.line(((look.x - bridge, y - 2), (look.x + bridge, y - 2)), rim, 2.8)


def _px(length: float) -> int:
    return max(1, round(length * _SCALE))


def _box(at: Oval) -> tuple[float, float, float, float]:
    x, y, rx, ry = (length * _SCALE for length in at)
    return x - rx, y - ry, x + rx, y + ry


def _tone(hue: float, saturation: float, value: float) -> str:
    return _hex(*(c * 255 for c in colorsys.hsv_to_rgb(hue % 1, saturation, value)))


@functools.cache
def _shade(colour: str, factor: float) -> str:
    return _mix("#000000", colour, factor)


@functools.cache
def _mix(first: str, second: str, share: float) -> str:
    """Return the first colour with that share of the second."""
    pairs = zip(_rgb(first), _rgb(second), strict=True)
    return _hex(*(a + (b - a) * share for a, b in pairs))


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _hex(red: float, green: float, blue: float) -> str:
    return f"#{round(red):02x}{round(green):02x}{round(blue):02x}"
