"""What strangers download: the package, what describes it, and nothing else.

The installed wheel is looked at wherever it is a regular install; a wheel and an sdist
are built, without network, where there is a checkout and hatchling.
"""

import importlib.metadata
import pathlib
import re
import stat
import subprocess
import sys
import tarfile
import zipfile
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement

from verifik_async import __version__

ROOT = pathlib.Path(__file__).parents[2]
INSTALLED = importlib.metadata.distribution("verifik-async")

PACKAGE = "verifik_async"
ABOUT = f"{PACKAGE}-{__version__}.dist-info"
# No picture, no byte code, no file that only its maker's machine needs.
PACKAGE_FILE = re.compile(
    rf"{PACKAGE}/(?:\w+/)*(?:\w+\.(?:py|html|css|js|json)|py\.typed)"
)
ABOUT_FILES = {
    f"{ABOUT}/{name}"
    for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")
}
SDIST_ENTRIES = {
    "verifik_async",
    *("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md", "SECURITY.md"),
    *(".gitignore", "PKG-INFO", "pyproject.toml"),  # hatchling adds them
}
# What installers write beside the wheel's own files.
INSTALLERS = re.compile(
    rf"{re.escape(ABOUT)}/(INSTALLER|REQUESTED|direct_url\.json|uv_\w+\.json)"
    r"|.*/__pycache__/.*\.pyc|\.\./.*/verifik-async(\.exe)?"
)
LARGEST = 100_000  # bytes

CORE = {"aiohttp", "attrs", "cattrs"}
# The original of backoff, and the fork where that one warns.
CORE_ON = {
    "3.11": CORE | {"backoff"},
    "3.13": CORE | {"backoff"},
    "3.14": CORE | {"python-backoff"},
    "3.15": CORE | {"python-backoff"},
}


class Member(NamedTuple):
    """A file of an archive, or one that was installed from it."""

    path: str
    mode: int
    size: int


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of a wheel and an sdist of this checkout."""
    if not (ROOT / PACKAGE).is_dir():
        pytest.skip("has no checkout to build from")
    pytest.importorskip("hatchling", reason="has no hatchling to build with")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


def _wheel(folder):
    return next(folder.glob("*-py3-none-any.whl"))


def _of_wheel(folder):
    with zipfile.ZipFile(_wheel(folder)) as archive:
        return [
            Member(info.filename, info.external_attr >> 16, info.file_size)
            for info in archive.infolist()
        ]


def _of_sdist(folder):
    top = f"{PACKAGE}-{__version__}/"
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        return [
            Member(
                info.name.removeprefix(top),
                info.mode | (stat.S_IFREG if info.isreg() else stat.S_IFLNK),
                info.size,
            )
            for info in archive
        ]


def _of_install():
    paths = [file.as_posix() for file in INSTALLED.files]
    if f"{PACKAGE}/__init__.py" not in paths:
        pytest.skip("is installed as a link to the checkout")
    found = []
    for path in paths:
        if not INSTALLERS.fullmatch(path):
            status = pathlib.Path(INSTALLED.locate_file(path)).lstat()
            found.append(Member(path, status.st_mode, status.st_size))
    return found


def _members(request, kind):
    if kind == "installed":
        return _of_install()
    folder = request.getfixturevalue("built")
    return _of_wheel(folder) if kind == "wheel" else _of_sdist(folder)


@pytest.fixture(params=["installed", "wheel"])
def wheel(request):
    """The paths of a wheel."""
    return {member.path for member in _members(request, request.param)}


@pytest.fixture(params=["installed", "wheel", "sdist"])
def members(request):
    """The files of each kind of download."""
    return _members(request, request.param)


@pytest.fixture(scope="module")
def tracked():
    """What git knows of, by its path."""
    if not (ROOT / ".git").exists():
        pytest.skip("is no checkout of git")
    listed = subprocess.run(
        ["git", "ls-files", "-z"],  # noqa: S607
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return set(listed.stdout.split("\0")) - {""}


def test_a_wheel_holds_the_package_and_what_describes_it(wheel):
    """No test, benchmark, document or picture, and nothing beside the two folders."""
    assert f"{PACKAGE}/py.typed" in wheel
    assert wheel >= ABOUT_FILES
    strange = [p for p in wheel - ABOUT_FILES if not PACKAGE_FILE.fullmatch(p)]
    assert strange == []


def test_an_sdist_holds_these_entries(built):
    """A new folder of the project is shipped on purpose or not at all."""
    assert {m.path.partition("/")[0] for m in _of_sdist(built)} == SDIST_ENTRIES


def test_files_are_plain_and_small(members):
    """No link, no executable, no way out of the folder, nothing of a size to hide."""
    for path, mode, size in members:
        assert stat.S_IFMT(mode) in {0, stat.S_IFREG}, path  # 0: none told
        assert not mode & 0o111, path
        assert size < LARGEST, path
        assert not path.startswith(("/", "\\")), path
        assert ".." not in path.split("/"), path


def test_git_knows_what_is_shipped(built, tracked):
    """What lies about in a checkout must not go out: `git add` it, or remove it."""
    wheel = {member.path for member in _of_wheel(built)}
    sdist = {member.path for member in _of_sdist(built)}
    package = {path for path in tracked if path.startswith(f"{PACKAGE}/")}
    assert wheel - ABOUT_FILES == package
    expected = {path for path in tracked if path.partition("/")[0] in SDIST_ENTRIES}
    assert sdist - {"PKG-INFO"} == expected


@pytest.mark.parametrize("python", CORE_ON)
@pytest.mark.parametrize("kind", ["installed", "wheel"])
def test_four_packages_are_needed(kind, python, request):
    """Whoever asks for no extra gets these and what they need, on each Python."""
    found = INSTALLED
    if kind == "wheel":
        archive = _wheel(request.getfixturevalue("built"))
        found = importlib.metadata.PathDistribution(zipfile.Path(archive, f"{ABOUT}/"))
    environment = {"python_version": python, "extra": ""}
    needed = {
        need.name
        for need in map(Requirement, found.requires)
        if need.marker is None or need.marker.evaluate(environment)
    }
    assert needed == CORE_ON[python]
