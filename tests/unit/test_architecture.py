"""The house rules that a reader can rely on: imports point down, one gate each."""

import ast
import pathlib

import pytest

import verifik_async

ROOT = pathlib.Path(verifik_async.__file__).parent

# A module imports only from lower levels.
LEVELS = {
    "_types": 0,
    "_version": 0,
    "_sanitize": 0,
    "errors": 1,
    "models": 2,
    "_config": 2,
    "rules": 2,
    "_images": 3,
    "images": 3,
    "_convert": 3,
    "_auth": 3,
    "_pace": 3,
    "_source": 3,
    "_tally": 3,
    "_coalesce": 3,
    "_gate": 4,
    "_journal": 4,
    "_retry": 4,
    "_wire": 4,
    "_deadline": 4,
    "_observe": 5,
    "_journal_file": 5,
    "_transport": 5,
    "_state": 6,
    "_call": 7,
    "_core": 7,
    "_order": 8,
    "_plan": 8,
    "_finder": 9,
    "_batch": 10,
    "_client": 11,
    "__init__": 12,
}
# Folders beside the core: what they may know of it.
OUTSIDE = {
    "testing": set(),
    "cli": {"__init__", "testing"},
    "integrations": {"__init__", "errors", "models"},
}
# The fixtures for users' tests are there to make a client.
EXCEPT = {"testing/plugin.py": {"__init__"}}
GATES = {
    "aiohttp": {"_transport"},
    "yarl": {"_transport"},
    "multidict": {"_transport"},
    "backoff": {"_retry"},
    "cattrs": {"_convert"},
    "orjson": {"_convert"},
    "pybase64": {"_images"},
    "PIL": {"images"},
    "pillow_heif": {"images"},
}
# Modules whose functions decide and never wait.
PURE = [
    "_wire",
    "_journal",
    "_convert",
    "_retry",
    "_sanitize",
    "_config",
    "_pace",
    "_tally",
    "errors",
    "models",
    "rules",
]


def imported(path: pathlib.Path) -> set[str]:
    """Return the dotted names that a file imports, wherever in the file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            module = node.module or ""
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


def edges() -> list[tuple[str, str]]:
    """Return (importer, imported) between the modules of the core."""
    found = set()
    for path in ROOT.glob("*.py"):
        for name in imported(path):
            package, _, rest = name.partition(".")
            if package == "verifik_async":
                found.add((path.stem, rest.split(".")[0] or "__init__"))
    return sorted(found)


def test_every_module_has_a_level():
    """A new module is put somewhere on purpose."""
    assert {path.stem for path in ROOT.glob("*.py")} == set(LEVELS)


@pytest.mark.parametrize(("source", "target"), edges())
def test_imports_point_down(source, target):
    """No cycle, and no way up."""
    assert target in LEVELS, f"{source} imports {target} from outside of the core"
    assert LEVELS[target] < LEVELS[source]


@pytest.mark.parametrize("package", GATES)
def test_one_gate_per_dependency(package):
    """An upgrade or a swap touches one file."""
    users = {
        path.stem
        for path in ROOT.glob("*.py")
        if any(name.split(".")[0] == package for name in imported(path))
    }
    assert users == GATES[package]


def test_opentelemetry_has_one_gate():
    """Whoever has no telemetry needs none of its packages."""
    users = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.rglob("*.py")
        if any(name.split(".")[0] == "opentelemetry" for name in imported(path))
    }
    assert users == {"integrations/otel.py"}


@pytest.mark.parametrize("folder", sorted(OUTSIDE))
def test_folders_beside_the_core_use_its_public_face(folder):
    """The stand-in knows nothing of the client; the command line what users know."""
    for path in (ROOT / folder).rglob("*.py"):
        known = OUTSIDE[folder] | EXCEPT.get(path.relative_to(ROOT).as_posix(), set())
        for name in imported(path):
            package, _, rest = name.partition(".")
            if package != "verifik_async":
                continue
            first = rest.split(".")[0]
            private = first.startswith("_") and not first.startswith("__")
            public = first if (ROOT / first).exists() else "__init__"
            assert not private, f"{path.name} imports {name}"
            assert public == folder or public in known, f"{path.name}: {name}"


@pytest.mark.parametrize("module", PURE)
def test_pure_modules_never_wait(module):
    """Every decision can be tested with plain values."""
    tree = ast.parse((ROOT / f"{module}.py").read_text())
    waits = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith)
    ]
    assert waits == []
