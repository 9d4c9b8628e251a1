"""What goes into a report: its text, its data, its small pictures."""

import base64
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import ExifTags, Image

from verifik_async import (
    CallInfo,
    Charge,
    ConnectError,
    FaceRejectedError,
    Match,
    Outcome,
    SearchResult,
)
from verifik_async.cli import _page, _thumbnails
from verifik_async.cli._page import Page

FILES = Path(_page.__file__).with_name("page")
FOUND = Outcome(
    index=4,
    key="a.jpg",
    result=SearchResult(
        matches=(Match(id="p", score=0.91, name="Invented Person"), Match(id="q"))
    ),
    call=CallInfo(attempts=2, elapsed_s=0.12345),
)
NOBODY = Outcome(index=0, key=7, result=SearchResult())
REFUSED = FaceRejectedError("x", status=422, reason="no_face_detected")


class Reader(HTMLParser):
    """Collects what stands in scripts and styles, and the policy."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts: dict[str, str] = {}
        self.policy = ""
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        if named.get("http-equiv") == "Content-Security-Policy":
            self.policy = named["content"]
        self._open = named.get("id", tag) if tag in {"script", "style"} else ""

    def handle_data(self, data):
        if self._open:
            self.texts[self._open] = data

    def handle_endtag(self, _):
        self._open = ""

    def json(self, name):
        return json.loads(self.texts[name])


def read(*outcomes: Outcome, **settings: object) -> Reader:
    """Return the page of outcomes, taken apart."""
    page = Page(name="batch.jsonl", **settings)
    return Reader("".join(page.pieces(outcomes)))


def failed(error, index=0):
    """Return an outcome with an error."""
    return Outcome(index=index, key=f"{index}.jpg", error=error)


def test_a_row_has_ids_and_scores_and_no_names():
    """Position, key, milliseconds, attempts, cause, picture, then matches, flat."""
    page = read(FOUND, NOBODY)
    assert page.json("probes-data") == [
        [4, "a.jpg", 123.5, 2, -1, "", "p", 0.91, "q", None],
        [0, "7", 0.0, 0, -1, ""],
    ]
    assert "Invented" not in "".join(page.texts.values())


def test_a_cause_is_told_once():
    """With its remedy; by class, reason and charge."""
    lost = ConnectError(charge=Charge.NOT_SENT)
    page = read(failed(REFUSED), failed(lost, 1), failed(REFUSED, 2))
    assert [row[4] for row in page.json("probes-data")] == [0, 1, 0]
    refused, lost = page.json("facts-data")["causes"]
    assert refused[:3] == ["FaceRejectedError", "no_face_detected", "answered"]
    assert lost[:3] == ["ConnectError", "", "not_sent"]
    assert "one clear face" in refused[3]


def test_what_is_counted():
    """The command tells it, and the page where scripts are off."""
    page = Page(name="batch.jsonl")
    text = "".join(page.pieces([FOUND, NOBODY, failed(REFUSED)]))
    assert page.counts == {"probes": 3, "answered": 2, "with_match": 1, "failed": 1}
    assert "3 probes: 2 answered, 1 with a match; 1 failed." in text


def test_pages_are_made_one_by_one():
    """What one has counted is not in the next."""
    assert len(read(FOUND, failed(REFUSED)).json("facts-data")["causes"]) == 1
    assert read().json("facts-data") == {"causes": [], "pictures": False}
    assert read().json("probes-data") == []


@pytest.mark.parametrize(
    "text",
    [
        "</script><script>",
        "<!--<script>",
        "&lt;",
        "\u2028\u2029",
        "\udcff",
        "\x00",
        "$x",
    ],
)
def test_no_text_ends_its_script(text):
    """It comes back as it was, and is nothing but letters and escapes on its way."""
    outcome = Outcome(index=0, key=text, result=SearchResult(matches=(Match(id=text),)))
    whole = "".join(Page(name=text).pieces([outcome]))
    whole.encode()
    page = Reader(whole)
    row = page.json("probes-data")[0]
    assert (row[1], row[6]) == (text, text)
    assert not set(page.texts["probes-data"]) & set("<>&\u2028\u2029\udcff\x00")
    assert len(re.findall("<script", whole)) == 3


def test_only_the_own_script_and_style_are_allowed():
    """The policy names their digests, and lets nothing be fetched."""
    page = read()
    for name in ("script", "style"):
        digest = hashlib.sha256(page.texts[name].encode()).digest()
        source = f"'sha256-{base64.b64encode(digest).decode()}'"
        assert f"{name}-src {source};" in page.policy
    assert page.policy.startswith("default-src 'none';")
    assert "img-src data:" in page.policy
    assert "unsafe" not in page.policy


def test_the_script_makes_no_html_of_text():
    """Nor does it know an address, but for the namespace of drawings."""
    script = (FILES / "page.js").read_text("utf-8")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write", script)
    assert re.findall(r"https?://\S+", script) == ['http://www.w3.org/2000/svg",']


def test_the_page_is_small():
    """An empty one has less than 35 KB."""
    assert len("".join(Page(name="x").pieces([]))) < 35_000


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "keep it as safe as the journal"),
        ({"pictures": {}}, "biometric data"),
        ({"pictures": {}, "left_out": 1234}, "Pictures of 1,234 probes were left out"),
    ],
)
def test_the_notice(settings, told):
    """What the page holds is told before anything else."""
    page = Page(name="x", **settings)
    head = next(iter(page.pieces([])))
    assert told in head


def test_pictures_stand_in_their_rows():
    """Keys without one have none."""
    page = read(FOUND, NOBODY, pictures={"a.jpg": "data:image/webp;base64,AA=="})
    assert [row[5] for row in page.json("probes-data")] == [
        "data:image/webp;base64,AA==",
        "",
    ]
    assert page.json("facts-data")["pictures"]


# -- thumbnails ------------------------------------------------------------------------


def shrink(folder, *keys):
    """Return the thumbnails of keys."""
    return _thumbnails.thumbnails(keys, folder, lambda: None)


def opened(uri):
    """Return the picture of a data URI."""
    head, _, text = uri.partition(",")
    assert head == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(text)))


def test_probes_with_matches_come_first():
    """Keys that are numbers are no paths."""
    other = Outcome(index=1, key="b.jpg", result=SearchResult())
    keys = _thumbnails.pictured([failed(REFUSED), other, NOBODY, FOUND])
    assert keys == ["a.jpg", "0.jpg", "b.jpg"]


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "RGBA", "P", "1"])
def test_a_thumbnail_fits(tmp_path, mode):
    """Its longer side has 96 pixels, whatever the colours are stored as."""
    name = "a.jpg" if mode in {"RGB", "L", "CMYK"} else "a.png"
    Image.new(mode, (400, 200)).save(tmp_path / name)
    with opened(shrink(tmp_path, name)[name]) as small:
        assert (small.size, small.mode) == ((96, 48), "RGB")


def test_a_thumbnail_is_upright_and_tells_nothing_else(tmp_path):
    """It is turned as the camera was; place, comment and colour profile stay out."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Make] = "camera-7f3a"
    picture = Image.new("RGB", (400, 200))
    picture.save(
        tmp_path / "a.jpg", exif=exif, comment=b"comment-7f3a", icc_profile=b"icc-7f3a"
    )
    uri = shrink(tmp_path, "a.jpg")["a.jpg"]
    with opened(uri) as small:
        assert small.size == (48, 96)
        assert not small.getexif()
    assert b"7f3a" not in base64.b64decode(uri.partition(",")[2])


def test_the_working_directory_goes_before_the_journals(tmp_path, monkeypatch):
    """As the batch has read it."""
    for name, width in (("here", 100), ("there", 50)):
        (tmp_path / name).mkdir()
        Image.new("RGB", (width, 100)).save(tmp_path / name / "a.png")
    Image.new("RGB", (50, 100)).save(tmp_path / "there" / "b.png")
    monkeypatch.chdir(tmp_path / "here")
    made = shrink(tmp_path / "there", "a.png", "b.png")
    with opened(made["a.png"]) as first, opened(made["b.png"]) as second:
        assert (first.width, second.width) == (96, 48)


def test_what_is_no_picture_has_no_thumbnail(tmp_path):
    """Missing, broken, cut off, a folder, no path at all: the others have theirs."""
    Image.new("RGB", (300, 300), "teal").save(tmp_path / "good.png")
    whole = (tmp_path / "good.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "folder.jpg").mkdir()
    keys = ("cut.png", "text.jpg", "folder.jpg", "none.jpg", "\x00", "x" * 5_000, "")
    assert list(shrink(tmp_path, *keys, "good.png")) == ["good.png"]


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    """A small file may unfold to more memory than there is."""
    Image.new("1", (400, 300)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)
    assert shrink(tmp_path, "bomb.png") == {}


def test_each_key_is_a_step(tmp_path):
    """Found or not."""
    steps = []
    _thumbnails.thumbnails(["a", "b", "c"], tmp_path, lambda: steps.append(1))
    assert len(steps) == 3
