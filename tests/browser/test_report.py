"""What `report` makes, in the hands of a person with mouse, keyboard or printer."""

import collections
import math
import random
import re
import time

import pytest
from PIL import Image

SECONDS = [0.05, 0.1, 0.2, 0.4, 1.5]
HOSTILE = [
    "<script>alert(1)</script>",
    "</script><script>alert(2)</script>",
    "<!--<script>",
    "<img src=x onerror=alert(3)>",
    "]]>&lt;b&amp;",
    "${alert(4)}",
    "\u2028\u2029\x00",
]
LONE = "odd-\udcff.jpg"


def line(index, state, attempts=1, seconds=0.1, **more):
    """Return what every line of a journal has."""
    call = {"attempts": attempts, "elapsed_s": seconds}
    key = f"face-{index:05}.jpg"
    return {"key": key, "index": index, "state": state, "call": call, **more}


def answer(index, *matches, **more):
    """Return the line of a search that was answered; a match is an id and a score."""
    found = [{"id": person, "score": score} for person, score in matches]
    return line(index, "answered", **{"id": None, "matches": found, **more})


def failure(index, error, charge="answered", reason=None, **more):
    """Return the line of a search that failed."""
    facts = {"status": 422, "code": None, "reason": reason, "request_id": None}
    made = line(index, charge, error=error, **facts, **more)
    return {**made, "attempts": made["call"]["attempts"]}


def sample():
    """Return the lines of a batch, in the order in which it was done."""
    rng = random.Random(5)
    lines = []
    for index in range(250):
        scores = [
            round(rng.uniform(0.7, 1), 4) for _ in range(rng.choice((0, 1, 1, 3)))
        ]
        found = [(f"id-{rng.getrandbits(64):016x}", score) for score in scores]
        found.sort(key=lambda match: -match[1])
        facts = {"attempts": rng.choice((1, 1, 2)), "seconds": rng.choice(SECONDS)}
        lines.append(answer(index, *found, **facts))
    lines += [
        *(failure(n, "FaceRejectedError", reason="no_face") for n in range(250, 262)),
        *(failure(n, "ServerError", "maybe_charged") for n in range(262, 267)),
        failure(267, "ConnectError", "not_sent"),
    ]
    rng.shuffle(lines)
    return lines


LINES = sample()
ANSWERED = [line["matches"] for line in LINES if "matches" in line]


@pytest.fixture(scope="module")
def report(make_report):
    """The page of the sample."""
    return make_report(LINES)


@pytest.fixture
def page(visit, report):
    """The page of the sample, opened."""
    return visit(report)


def tiles(page):
    """Return the counts of the summary by their names."""
    names = page.locator("#tiles dt").all_text_contents()
    counts = page.locator("#tiles dd").all_text_contents()
    return {n: int(c.replace(",", "")) for n, c in zip(names, counts, strict=True)}


def column(page, number):
    """Return the texts of one column of the rows that are there."""
    return page.locator(f"#rows > tr > :nth-child({number})").all_text_contents()


def sort(page, name):
    """Click the heading of a column and return how it says that it is sorted."""
    button = page.locator("#headings").get_by_role("button", name=name, exact=True)
    button.click()
    return button.locator("xpath=..").get_attribute("aria-sort")


def test_the_summary_counts_every_probe(page):
    """Answered, matched and, by what they may have cost, failed ones."""
    matched = [matches for matches in ANSWERED if matches]
    assert tiles(page) == {
        "Probes": 268,
        "Answered": 250,
        "With a match": len(matched),
        "Without a match": 250 - len(matched),
        "Matches": sum(map(len, matched)),
        "Failed, not sent": 1,
        "Failed, answered": 12,
        "Failed, maybe charged": 5,
    }


def test_rows_begin_in_the_order_of_the_input(page):
    """Whatever the order in which they were answered."""
    assert column(page, 1) == [str(number) for number in range(1, 101)]
    assert page.locator("#shown").text_content() == (
        "Rows 1 to 100 of 268, of 268 probes in all"
    )


def test_sorting_by_score_both_ways(page):
    """Best first, then worst first; what has no score comes last."""
    scores = sorted(matches[0]["score"] for matches in ANSWERED if matches)
    assert sort(page, "Score") == "descending"
    assert column(page, 5) == [f"{score:.3f}" for score in scores[:-101:-1]]
    assert sort(page, "Score") == "ascending"
    assert column(page, 5) == [f"{score:.3f}" for score in scores[:100]]
    page.locator("#page").fill("3")
    page.locator("#page").press("Enter")
    assert set(column(page, 5)) == {"-"}


@pytest.mark.parametrize(
    ("name", "number", "value"),
    [
        ("No.", 1, int),
        ("Probe", 2, str),
        ("Outcome", 3, str),
        ("ms", 7, lambda text: float(text.replace(",", ""))),
        ("Attempts", 8, int),
    ],
)
def test_every_column_can_be_sorted(page, name, number, value):
    """A second click turns it round, and only one heading says that it is sorted."""
    for _ in range(2):
        way = sort(page, name)
        values = [value(text) for text in column(page, number)]
        assert values == sorted(values, reverse=way == "descending")
        assert page.locator("[aria-sort]").count() == 1


def test_sorting_with_the_keyboard(page):
    """The headings are buttons."""
    page.locator("[data-by=matches]").focus()
    page.keyboard.press("Enter")
    most = max(map(len, ANSWERED))
    assert column(page, 6)[0] == str(most)


def test_searching_in_keys_ids_and_causes(page):
    """Parts of words will do, in either case."""
    words = page.get_by_label("Search in names, ids and causes")
    words.fill("FACE-0001")
    assert column(page, 2) == [f"face-000{number}.jpg" for number in range(10, 20)]
    person = next(matches[-1]["id"] for matches in ANSWERED if len(matches) > 1)
    words.fill(person[3:])
    assert len(column(page, 1)) == 1
    words.fill("no_face")
    assert column(page, 3) == ["FaceRejectedError: no_face"] * 12
    words.fill("nobody is called so")
    assert column(page, 1) == []
    assert page.locator("#shown").text_content() == "No rows, of 268 probes in all"


@pytest.mark.parametrize(
    ("outcome", "count"),
    [
        ("All", 268),
        ("With a match", sum(1 for matches in ANSWERED if matches)),
        ("Without a match", sum(1 for matches in ANSWERED if not matches)),
        ("Failed", 18),
        ("Failed: ServerError", 5),
    ],
)
def test_choosing_an_outcome(page, outcome, count):
    """The status line tells how many there are."""
    page.get_by_role("combobox", name="Outcome").select_option(outcome)
    assert f" of {count}, of 268" in page.locator("#shown").text_content()


def test_the_threshold_moves_with_the_keyboard(page):
    """Tiles, text, plot and the table's filter follow it, step by step."""
    page.get_by_role("combobox", name="Outcome").select_option("With a match")
    page.get_by_label("Threshold").focus()
    for step in range(1, 31):
        page.keyboard.press("ArrowRight")
        if step % 10:
            continue
        threshold = round(0.7 + step / 100, 2)
        kept = [sum(m["score"] >= threshold for m in found) for found in ANSWERED]
        matched = sum(map(bool, kept))
        told = tiles(page)
        assert (told["With a match"], told["Matches"]) == (matched, sum(kept))
        assert told["Without a match"] == 250 - matched
        assert page.locator("#reached").text_content() == (
            f"{threshold:.2f}: {matched} of 268 probes with a match; "
            f"{sum(kept)} {'match' if sum(kept) == 1 else 'matches'} in all."
        )
        shown = page.locator("#shown").text_content()
        assert f" of {matched}, of 268" in shown if matched else "No rows" in shown
    page.keyboard.press("Home")
    assert tiles(page)["Matches"] == sum(map(len, ANSWERED))


def test_the_scores_are_drawn_once_each(page):
    """The taller part of a bar is all of it, the other what reaches the threshold."""
    titles = page.locator("#scores title").all_text_contents()
    counts = [int(re.search(r"(\d+) probes?$", title)[1]) for title in titles]
    best = [matches[0]["score"] for matches in ANSWERED if matches]
    bins = collections.Counter(min(round(s * 1e4) // 100, 99) for s in best)
    assert counts == [bins[number] for number in range(70, 100)]


def test_percentiles_of_the_times(page):
    """Of answered searches, and the smallest that the share does not exceed."""
    times = sorted(line["call"]["elapsed_s"] for line in LINES if "matches" in line)
    told = page.locator("#percentiles dd").all_text_contents()
    expected = [times[math.ceil(share * 250) - 1] for share in (0.5, 0.95, 0.99)]
    assert told == [f"{seconds * 1000:,.0f} ms" for seconds in expected]


def test_all_matches_of_a_row_can_be_opened(page):
    """They open under it, stay open when the table is sorted, and close again."""
    row = next(line for line in LINES if len(line.get("matches", [])) == 3)
    page.get_by_label("Search in names").fill(row["key"])
    button = page.get_by_role("button", name=f"3 matches of {row['key']}")
    page.get_by_label("Threshold").fill("0.99")
    assert button.get_attribute("aria-expanded") == "false"
    button.click()
    sort(page, "Score")
    assert button.get_attribute("aria-expanded") == "true"
    items = page.locator(".matches li").all_text_contents()
    assert [text.split()[0] for text in items] == [m["id"] for m in row["matches"]]
    below = [m["score"] < 0.99 for m in row["matches"]]
    assert ["below threshold" in text for text in items] == below
    button.focus()
    page.keyboard.press("Enter")
    assert page.locator(".matches").count() == 0


def test_turning_pages(page):
    """Both buttons stop at the ends, and a page can be named."""
    page.get_by_role("button", name="Previous").press("Enter")
    assert column(page, 1)[0] == "1"
    for first in ("101", "201", "201"):
        page.get_by_role("button", name="Next").press("Enter")
        assert column(page, 1)[0] == first
    assert len(column(page, 1)) == 68
    page.get_by_role("spinbutton", name="Page").fill("2")
    page.get_by_role("spinbutton", name="Page").press("Enter")
    assert column(page, 1)[0] == "101"


def test_failures_are_told_by_cause(page):
    """The most frequent first, each with its remedy."""
    rows = page.locator("#causes tr").all()
    told = [row.locator("th, td").all_text_contents() for row in rows]
    assert [cells[:3] for cells in told] == [
        ["FaceRejectedError: no_face", "12", "answered"],
        ["ServerError", "5", "maybe charged"],
        ["ConnectError", "1", "not sent"],
    ]
    assert "one clear face" in told[0][3]


def test_outcomes_are_drawn(page):
    """A row for each, with its count."""
    names = page.locator("#outcomes th").all_text_contents()
    assert names[2:] == ["FaceRejectedError", "ServerError", "ConnectError"]
    counts = page.locator("#outcomes td.number").all_text_contents()
    assert sum(map(int, counts)) == 268


def test_the_keyboard_reaches_the_table_first(page):
    """The first stop of the Tab key leads past everything else."""
    page.keyboard.press("Tab")
    assert page.locator(":focus").text_content() == "Skip to the table"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.locator(":focus").get_attribute("id") == "words"


def test_hostile_text_is_text(visit, make_report):
    """As a key, an id and a reason: it is shown as it is, and nothing runs."""
    found = [
        answer(n, (text, 0.9), (text, 0.8), key=text) for n, text in enumerate(HOSTILE)
    ]
    lost = [failure(99, "ServerError", reason=text, key=f"{text}.") for text in HOSTILE]
    page = visit(make_report(found + lost))
    for button in page.locator("#rows button").all():
        button.click()
    assert page.locator("#rows th bdi").all_text_contents()[: len(HOSTILE)] == HOSTILE
    ids = page.locator(".matches bdi").all_text_contents()
    assert ids == [text for text in HOSTILE for _ in range(2)]
    causes = page.locator("#causes th").all_text_contents()
    assert causes == [f"ServerError: {text}" for text in HOSTILE]
    assert page.locator("script").count() == 3
    assert page.locator("img").count() == 0


def test_half_a_surrogate_pair(visit, make_report):
    """Names of files may be made of bytes that are no text."""
    page = visit(make_report([answer(0, key=LONE), answer(1, key=2**60 + 1)]))
    # What a browser makes of the half is its own affair.
    assert re.fullmatch(r"odd-.+\.jpg", column(page, 2)[0])
    assert column(page, 2)[1] == str(2**60 + 1)


def test_a_match_without_a_score(visit, make_report):
    """Nothing says that it is below the threshold, so it stays."""
    page = visit(make_report([answer(0, ("a", 0.8), ("b", None)), answer(1)]))
    page.get_by_label("Threshold").fill("1")
    assert (tiles(page)["With a match"], tiles(page)["Matches"]) == (1, 1)


@pytest.mark.parametrize(
    ("score", "lowest"),
    [(0.29, "0.28"), (0.6999999999, "0.69"), (1, "0.95")],
)
def test_at_its_lowest_the_threshold_leaves_nothing_out(
    visit, make_report, score, lowest
):
    """Whatever binary fractions make of a score."""
    page = visit(make_report([answer(0, ("a", score))]))
    assert page.locator("#threshold").input_value() == lowest
    assert tiles(page)["Matches"] == 1


@pytest.mark.parametrize("lines", [[], [failure(0, "ConnectError", "not_sent")]])
def test_a_batch_without_answers(visit, make_report, lines):
    """There is nothing to draw, and the page says so."""
    page = visit(make_report(lines))
    assert tiles(page)["Probes"] == len(lines)
    assert page.get_by_text("There is no match with a score.").is_visible()
    assert page.get_by_text("No search was answered.").is_visible()
    assert page.get_by_text("No search failed.").is_visible() == (not lines)
    assert page.locator("#threshold").is_hidden()


def test_pictures(visit, make_report, tmp_path):
    """Small copies of those that are there; the page says what it holds."""
    Image.new("RGB", (400, 200), "teal").save(tmp_path / "face.jpg")
    lines = [answer(0, key="face.jpg"), answer(1, key="gone.jpg")]
    page = visit(make_report(lines, "--images", folder=tmp_path))
    picture = page.locator("#rows img")
    assert picture.evaluate("img => [img.naturalWidth, img.naturalHeight]") == [96, 48]
    assert column(page, 2) == ["face.jpg", "no picturegone.jpg"]
    assert "biometric data" in page.locator(".notice").text_content()


def test_without_pictures(page):
    """Ids of persons are reason enough for a notice."""
    notice = page.locator(".notice").text_content()
    assert "ids of persons" in notice
    assert "biometric" not in notice
    assert page.get_by_text("no picture").count() == 0


CONTRAST = """(selector) => {
  const channel = (value) => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  };
  const light = (colour) => {
    const [red, green, blue] = colour.match(/[\\d.]+/g).map(Number).map(channel);
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const element = document.querySelector(selector);
  let paper = element;
  while (getComputedStyle(paper).backgroundColor === "rgba(0, 0, 0, 0)") {
    paper = paper.parentElement;
  }
  const ink = light(getComputedStyle(element).color);
  const ground = light(getComputedStyle(paper).backgroundColor);
  const [low, high] = [ink, ground].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_have_contrast(visit, report, scheme):
    """At least 4.5 to 1, as WCAG's level AA wants it, in both schemes."""
    page = visit(report, color_scheme=scheme)
    page.get_by_label("Threshold").fill("0.99")
    for selector in (".notice", ".file", "#tiles dt", "#reached", ".small", ".below"):
        assert page.evaluate(CONTRAST, selector) >= 4.5, selector
    page.get_by_role("combobox", name="Outcome").select_option("Failed")
    assert page.evaluate(CONTRAST, "#rows .bad") >= 4.5
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (scheme == "light")


@pytest.mark.parametrize("width", [375, 768, 1280])
def test_nothing_is_wider_than_the_window(visit, report, width):
    """But for the tables, which scroll in a frame of their own."""
    page = visit(report, viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_printing(page):
    """All rows that the filter leaves, on white, and no controls."""
    page.get_by_role("combobox", name="Outcome").select_option("With a match")
    page.emulate_media(media="print", color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    matched = sum(1 for matches in ANSWERED if matches)
    assert len(column(page, 1)) == matched
    assert page.locator("#printed").inner_text() == (
        f"{matched} of {matched} rows; threshold 0.70; outcome: With a match"
    )
    assert page.locator(".controls:visible").count() == 0
    assert page.locator("#failures-heading").is_visible()
    assert page.evaluate(CONTRAST, "#reached") > 15
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert len(column(page, 1)) == 100
    assert page.pdf().startswith(b"%PDF")


def test_without_scripts(visit, report):
    """The counts are there as a sentence."""
    page = visit(report, java_script_enabled=False)
    matched = sum(1 for matches in ANSWERED if matches)
    summary = page.locator("noscript p")
    assert summary.is_visible()
    told = f"268 probes: 250 answered, {matched} with a match; 18 failed."
    assert summary.text_content().startswith(told)
    assert page.locator("main").is_hidden()


def test_a_hundred_thousand_probes(visit, make_report):
    """It opens, sorts and filters; only one page of rows is there at a time."""
    rng = random.Random(9)
    lines = (
        answer(index, *[(f"id-{rng.getrandbits(96):024x}", rng.uniform(0.7, 1))] * 2)
        for index in range(100_000)
    )
    path = make_report(lines)
    assert path.stat().st_size < 20_000_000
    began = time.monotonic()
    page = visit(path)
    page.locator("#rows tr").first.wait_for()
    for name in ("Score", "Probe", "Best match"):
        sort(page, name)
    page.get_by_label("Search in names").fill("face-99999")
    assert column(page, 2) == ["face-99999.jpg"]
    page.get_by_label("Search in names").fill("")
    assert len(column(page, 1)) == 100
    # A guard against minutes, not a figure.
    assert time.monotonic() - began < 60
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert len(column(page, 1)) == 1000
    assert "no more than 1,000 are printed" in page.locator("#printed").text_content()
