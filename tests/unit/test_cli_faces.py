"""The drawn faces: the same from the same seed, another from another."""

import io
import statistics

import pytest
from PIL import Image

from verifik_async.cli import _faces


def likeness(first: Image.Image, second: Image.Image) -> float:
    """Return the correlation of two pictures, which no change of light alters."""
    pair = [list(picture.resize((24, 24)).tobytes()) for picture in (first, second)]
    return statistics.correlation(*pair)


def test_a_seed_is_a_face():
    """Demonstrations can be repeated, to the byte."""
    first, second = (_faces.encode(_faces.draw_face(7)) for _ in range(2))
    assert first == second


def test_seeds_differ():
    """No two persons share a picture."""
    pictures = {_faces.encode(_faces.draw_face(seed)) for seed in range(60)}
    assert len(pictures) == 60


def test_pictures_are_small_jpegs():
    """Their size is that of a thumbnail."""
    picture = _faces.encode(_faces.draw_face(3))
    with Image.open(io.BytesIO(picture)) as image:
        assert image.format == "JPEG"
        assert image.size == (_faces.SIZE, _faces.SIZE)
    assert 2_000 < len(picture) < 20_000


@pytest.mark.parametrize("seed", range(8))
def test_an_altered_face_is_another_picture_of_the_same(seed):
    """The file differs; the face is more like itself than like others."""
    face = _faces.draw_face(seed)
    altered = _faces.alter(face, seed)
    assert _faces.encode(altered) != _faces.encode(face)
    others = [_faces.draw_face(other) for other in range(100, 110)]
    assert likeness(face, altered) > max(likeness(face, other) for other in others)


def test_altering_is_seeded():
    """Equal seeds alter alike, others do not."""
    face = _faces.draw_face(1)
    first, again, other = (_faces.encode(_faces.alter(face, s)) for s in (5, 5, 6))
    assert first == again != other
