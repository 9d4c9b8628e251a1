"""What `batch` is told to search, without a command around it."""

import pytest

from verifik_async.cli._exit import UsageError
from verifik_async.cli._inputs import PICTURES, PREPARED, Inputs


def keys(names, suffixes=PICTURES):
    """Return what would be searched, in its order."""
    return [probe.key or str(probe.image) for probe in Inputs(names, suffixes).probes()]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Work in a folder with some files."""
    monkeypatch.chdir(tmp_path)
    for name in ("b/2.JPG", "b/1.png", "a/3.jpeg", "a/4.webp", "a/5.txt"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path


def test_a_folder_in_the_same_order_every_time():
    """By names, folder after folder; what is no picture is passed over."""
    assert keys(["photos"]) == ["photos/a/3.jpeg", "photos/b/1.png", "photos/b/2.JPG"]


def test_more_kinds_where_pictures_are_prepared():
    """What the API does not take is made JPEG."""
    assert "photos/a/4.webp" in keys(["photos"], PREPARED)


def test_what_is_named_itself_is_taken_whatever_its_name():
    """Whoever names a file knows what it is."""
    assert keys(["photos/a/5.txt"]) == ["photos/a/5.txt"]


def test_how_much_there_is():
    """Files that are not there are counted apart: the search will tell."""
    found = Inputs(["photos"], PICTURES).survey()
    assert (found.probes, found.size, found.missing) == (3, 3, 0)


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("l.csv", "path,min_score\n0.jpg,0.8\n2.jpg,high\n", "row 2: min_score is no"),
        ("l.csv", "path,min_score\n0.jpg,0.2\n", "row 1: min_score must be"),
        ("l.csv", "picture\n0.jpg\n", "row 1: path is missing"),
        ("l.csv", 'path\n"0.jpg', "row 1: unexpected end of data"),
        ("l.jsonl", '{"path": "a"}\n[]\n', "row 2: it is no object"),
        ("l.jsonl", '{"path": "a"}\n{"pa', "row 2: "),
        ("l.jsonl", "[" * 100_000, "row 1: "),
    ],
    ids=["no number", "range", "no path", "open", "no object", "no JSON", "deep"],
)
def test_a_wrong_list(folder, name, text, fault):
    """Its row is named, and what a list looks like."""
    (folder / name).write_text(text)
    with pytest.raises(UsageError, match="a list has the column path") as caught:
        keys([name])
    assert fault in str(caught.value)


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        (["nowhere"], "there is no such file or folder"),
        (["nowhere/*.jpg"], "matches no file"),
        (["-", "-"], "- can be given once"),
        (["--frob"], "unknown option"),
        (["x" * 5000], "it cannot be looked at"),
        (["a\0b"], "there is no such file|cannot be looked at"),
    ],
    ids=["missing", "pattern", "twice", "option", "long", "nul"],
)
def test_wrong_names(names, fault):
    """Told before anything is sent."""
    with pytest.raises(UsageError, match=fault):
        Inputs(names, PICTURES)


def test_paths_of_a_list(folder):
    """Beside the list first, then in the working folder, else as if beside it."""
    lists = folder / "photos" / "list.csv"
    lists.write_text("path\na/3.jpeg\nphotos/b/1.png\nnowhere.jpg\n")
    images = [str(p.image) for p in Inputs(["photos/list.csv"], PICTURES).probes()]
    assert images == ["photos/a/3.jpeg", "photos/b/1.png", "photos/nowhere.jpg"]


def test_keys_of_a_list(folder):
    """Numbers stay numbers in JSON; without a key the path is it."""
    rows = '{"path": "a", "key": 7}\n{"file": "b"}\n{"image": "c", "key": ""}\n'
    (folder / "l.jsonl").write_text(rows)
    assert keys(["l.jsonl"]) == [7, "b", "c"]
