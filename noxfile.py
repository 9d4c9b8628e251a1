"""What is run before anything lands; `nox -l` lists it, `nox -s lint` runs a part.

The test sessions install the wheel and run outside of the checkout: the package's
folder is out of sight, so what is tested is what users get.
"""

import pathlib
import re
import shutil
import subprocess
import tomllib
from collections.abc import Sequence

import nox

nox.options.default_venv_backend = "venv"
nox.options.sessions = ["lint", "wheel", "tests", "lowest", "plain", "more"]
nox.options.error_on_missing_interpreters = False
nox.options.reuse_existing_virtualenvs = False

OLDEST = "3.11"
PYTHONS = [OLDEST, "3.12", "3.13", "3.14"]
ROOT = pathlib.Path(__file__).parent
# What another Python, or the extra `speed`, changes little of: commands, pictures, and
# what the stand-in answers.
COMMANDS = (
    *("batch_command", "cli", "documents", "report"),
    *("image_preparation", "images_prepare", "openapi", "web_examples"),
)
# Between two Pythons that are tested wholly: what the event loop has most to do with.
BETWEEN = ("closing_storms", "faults", "hostile_servers", "life_cycle")
# Of the tests in `tests/functional`: what needs the extra `test-more`.
MORE = ("batch_tables", "openapi")
# The limit that keeps what a stranger downloads small.
WHEEL_BYTES = 240_000


def build_wheel(session: nox.Session) -> pathlib.Path:
    """Build the wheel and return its path."""
    folder = pathlib.Path(session.create_tmp()).resolve() / "wheel"
    shutil.rmtree(folder, ignore_errors=True)
    session.run(
        *("python", "-m", "pip", "wheel", "--quiet", "--no-deps"),
        *("--wheel-dir", str(folder), str(ROOT)),
    )
    return next(folder.glob("*.whl"))


def install(session: nox.Session, *constraints: str) -> None:
    """Install the wheel with all that the tests need."""
    wheel = build_wheel(session).as_uri()
    session.install(f"verifik-async[test] @ {wheel}", *constraints)


def run_tests(session: nox.Session, *without: str, paths: Sequence[str] = ()) -> None:
    """Run the tests where the checkout is not to be seen, but for some files."""
    outside = pathlib.Path(session.create_tmp()) / "outside"
    shutil.rmtree(outside, ignore_errors=True)
    outside.mkdir()
    for name in ("tests", "benchmarks", "docs", "examples"):
        shutil.copytree(ROOT / name, outside / name)
    for name in ("pyproject.toml", "README.md", "CHANGELOG.md"):
        shutil.copy(ROOT / name, outside)
    # The README's own command runs those of the benchmarks: once is enough.
    apart = [f"--ignore-glob=*/test_{name}*" for name in ("benchmark", *without)]
    with session.chdir(outside):
        session.run("python", "-m", "pytest", "-q", *apart, *paths, *session.posargs)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the client's tests against the wheel, with the newest dependencies."""
    install(session)
    some = [f"tests/functional/test_{name}.py" for name in BETWEEN]
    paths = ["tests/unit", *some] if session.python == PYTHONS[1] else []
    run_tests(session, *COMMANDS, paths=paths)


@nox.session(python=OLDEST)
def lowest(session: nox.Session) -> None:
    """Run the tests with the lowest dependencies that the project claims to support."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    constraints = pathlib.Path(session.create_tmp()) / "lowest.txt"
    constraints.write_text(
        "\n".join(
            re.sub(r"(\[.*?\])?>=", "==", requirement)
            for requirement in (
                *project["dependencies"],
                *extras["speed"],
                *extras["cli"],
                *extras["images"],
                *extras["otel"],
            )
        )
    )
    install(session, "-c", str(constraints))
    # These tell of commands and documents what `cli` tells with less work.
    run_tests(session, "batch_command", "documents", "openapi", "web_examples")


@nox.session(python=OLDEST)
def plain(session: nox.Session) -> None:
    """Run the tests without the extra `speed`, and with the fork of backoff."""
    install(session)
    # Both distributions own the same folder: never one over the other.
    session.run(
        *("python", "-m", "pip", "uninstall", "--quiet", "-y"),
        *("pybase64", "orjson", "backoff"),
    )
    session.install("python-backoff")
    run_tests(session, *COMMANDS, "mock")


@nox.session(python=OLDEST)
def more(session: nox.Session) -> None:
    """Run the tests that the others skip: Chromium, pyarrow, Dask, schemathesis."""
    wheel = build_wheel(session).as_uri()
    session.install(f"verifik-async[test-more] @ {wheel}")
    session.env["VERIFIK_REQUIRE_BROWSER"] = "1"
    functional = (f"tests/functional/test_{name}.py" for name in MORE)
    run_tests(session, paths=["tests/browser", *functional])


@nox.session(python=OLDEST)
def lint(session: nox.Session) -> None:
    """Check style, format and types."""
    session.install(".[test,lint,bench]", "nox")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


@nox.session(python=OLDEST)
def wheel(session: nox.Session) -> None:
    """Check the size of the wheel."""
    size = build_wheel(session).stat().st_size
    session.log(f"{size} bytes of at most {WHEEL_BYTES}")
    if size > WHEEL_BYTES:
        session.error("the wheel is too large")


@nox.session(python=[OLDEST, PYTHONS[-1]])
def sbom(session: nox.Session) -> None:
    """List what comes with the wheel as CycloneDX JSON: `nox -s sbom -- speed,cli`."""
    wheel = build_wheel(session)
    folder = pathlib.Path(session.create_tmp()).resolve()
    # An environment that holds nothing else, pip and the list's own maker included.
    bare, project = folder / "bare", folder / "pyproject.toml"
    session.run("python", "-m", "venv", "--clear", "--without-pip", str(bare))
    session.run(
        *("python", "-m", "pip", "--python", str(bare), "install", "--quiet"),
        f"verifik-async[{','.join(session.posargs)}] @ {wheel.as_uri()}",
    )
    # The maker does not ask hatchling for the version.
    version = wheel.name.split("-")[1]
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    text = text.replace('dynamic = ["version"]', f'version = "{version}"')
    project.write_text(text, encoding="utf-8")
    target = ROOT / "dist" / f"verifik-async-{version}-py{session.python}.cdx.json"
    target.parent.mkdir(exist_ok=True)
    session.install("cyclonedx-bom>=7.5")
    session.run(
        *("cyclonedx-py", "environment", "--spec-version", "1.6"),
        *("--output-reproducible", "--mc-type", "library"),
        *("--pyproject", str(project), "--output-file", str(target), str(bare)),
    )


@nox.session(python=OLDEST)
def bench(session: nox.Session) -> None:
    """Measure the client beside its rivals on every Python (not part of the checks)."""
    session.install(".[bench]")
    # From a wheel its urllib3-future would take the place of urllib3, and requests
    # would run on that.
    session.install(
        *("niquests", "--no-binary", "urllib3-future"),
        env={"URLLIB3_NO_OVERRIDE": "1"},
    )
    pythons = [] if "--quick" in session.posargs else build_pythons(session)
    flags = (f"--python={path}" for path in pythons)
    session.run("python", "-m", "benchmarks", *flags, *session.posargs)


def build_pythons(session: nox.Session) -> list[pathlib.Path]:
    """Build an environment with the package for each Python that the machine has."""
    built = []
    for version in PYTHONS:
        found = shutil.which(f"python{version}")
        # A version manager's command may be there without the version.
        if found is None or subprocess.run([found, "-c", ""], check=False).returncode:  # noqa: S603
            session.log(f"no Python {version}")
            continue
        folder = pathlib.Path(session.create_tmp()) / version
        session.run(found, "-m", "venv", "--clear", str(folder), external=True)
        python = folder / "bin" / "python"
        install = ("-m", "pip", "install", "--quiet", f"{ROOT}[speed]")
        session.run(str(python), *install, external=True)
        built.append(python)
    return built
