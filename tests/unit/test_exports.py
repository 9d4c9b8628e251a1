"""The public names, and what importing them costs."""

import pathlib
import re
import subprocess
import sys

import verifik_async
from verifik_async import errors, models

# The contract's names; the errors come on top.
CONTRACT = {
    "VerifikClient",
    "SearchOptions",
    "Timeouts",
    "RetryPolicy",
    "RateLimit",
    "OperatingSystem",
    "SearchMode",
    "Charge",
    "SearchResult",
    "Match",
    "Signature",
    "Liveness",
    "CallInfo",
    "Probe",
    "Outcome",
    "BatchSummary",
    "read_journal",
}
MORE = {
    *("Attempt", "ClientStats", "Collection", "Limiter", "Pause", "SearchEnd", "Slot"),
    "Thumbnail",
}


def fresh(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in an interpreter that has imported nothing yet."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )


def test_exported_names():
    """The root exports the contract, the errors and the types of their fields."""
    assert set(verifik_async.__all__) == CONTRACT | MORE | set(errors.__all__)


def test_all_is_sorted_and_true():
    """Each list of exports is in order, and each name is there."""
    for module in (verifik_async, errors, models):
        assert module.__all__ == sorted(module.__all__)
        assert all(hasattr(module, name) for name in module.__all__)


def test_no_other_public_name():
    """What is not exported looks private, or is a module."""
    public = {name for name in vars(verifik_async) if not name.startswith("_")}
    modules = {"errors", "images", "models", "rules", "testing", "cli", "integrations"}
    assert public - modules - {"logging"} == set(verifik_async.__all__)


def test_no_optional_package_is_imported():
    """The core needs its four dependencies and takes two more if they are there."""
    code = (
        "import sys, verifik_async; print(*{m.partition('.')[0] for m in sys.modules})"
    )
    run = fresh(code)
    loaded = set(run.stdout.split())
    assert {"aiohttp", "attrs", "cattrs", "backoff"} <= loaded
    optional = {"PIL", "cyclopts", "fastapi", "django", "opentelemetry", "pillow_heif"}
    assert not optional & loaded
    assert not {"pyarrow", "rich", "uvloop"} & loaded
    assert "verifik_async.testing" not in loaded


def test_the_version_is_the_changelogs_newest():
    """Nothing is released without an entry that tells it."""
    changelog = pathlib.Path(__file__).parents[2] / "CHANGELOG.md"
    headings = re.findall(r"^## \[?([^\]\s]+)", changelog.read_text(), re.MULTILINE)
    assert verifik_async.__version__ in headings[:2]


def test_the_logger_is_silent_by_default():
    """A library says nothing unless it is asked to."""
    code = (
        "import logging, verifik_async;"
        "logging.getLogger('verifik_async').warning('heard')"
    )
    run = fresh(code)
    assert run.stderr == ""
