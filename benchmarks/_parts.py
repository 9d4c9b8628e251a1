"""What the whole run consists of: which scripts, with which flags."""

import importlib.util
import shutil
import sys
from collections.abc import Sequence

import attrs

_OURS = ("verifik_async", "search_many")
# Debian's folder of servers is on root's search path only.
_SERVERS = "/usr/sbin:/usr/local/sbin"


@attrs.frozen(kw_only=True)
class Child:
    """One process of the run.

    Attributes:
        module: Of this package.
        flags: But for those that say where the figures go.
        label: Tells it from the others of its part; None: its Python does.
        python: The interpreter.
    """

    module: str
    flags: tuple[str, ...] = ()
    label: str | None = ""
    python: str = sys.executable

    def in_brief(self) -> "Child":
        """Return the same with as little work as shows that it works."""
        brief: tuple[str, ...] = ("--quick",)
        if self.module == "searches":
            brief = ("--rounds=2", "--searches=64", "--seconds=2")
        return attrs.evolve(self, flags=(*self.flags, *brief))


@attrs.frozen(kw_only=True)
class Part:
    """One part of the run.

    Attributes:
        name: For `--only`.
        about: What it shows.
        children: Its processes, in this order.
        quick: Those of the quick run; None: it has no part in that.
        lack: Why it cannot be measured here, or None.
    """

    name: str
    about: str
    children: tuple[Child, ...]
    quick: tuple[Child, ...] | None = None
    lack: str | None = None

    def processes(self, *, quick: bool) -> tuple[Child, ...]:
        """Return what is run."""
        if not quick:
            return self.children
        return self.quick or tuple(child.in_brief() for child in self.children)


def parts(pythons: Sequence[str]) -> tuple[Part, ...]:
    """Return all parts in their order.

    Args:
        pythons: Other interpreters, in which the package is installed.
    """
    return (*_of_searches(), _of_pythons(pythons), _of_nginx(), *_of_scripts())


def _searches(flags: str, *rivals: str, label: str = "") -> Child:
    chosen = [f"--rival={name}" for name in rivals]
    if chosen:  # the legend was printed for all of them
        chosen.append("--terse")
    return Child(module="searches", flags=(*flags.split(), *chosen), label=label)


def _of_searches() -> tuple[Part, ...]:
    usual = ("aiohttp json=", "httpx")
    levels = " ".join(f"--concurrency={n}" for n in (1, 8, 32, 128, 512, 1024))
    waits = " ".join(f"--latency={ms}" for ms in (0, 50, 200))
    waits += " --concurrency=32 --concurrency=256"
    short = "--rounds=5 --searches=300"
    return (
        Part(
            name="sizes",
            about="all rivals, pictures of 20 KB to 10 MB",
            children=(
                _searches("--size=20 --size=200 --size=2000 --seconds=85"),
                _searches("--size=10000 --searches=32 --rounds=3 --seconds=60"),
            ),
            quick=(_searches(f"--size=20 --size=200 {short} --seconds=16"),),
        ),
        Part(
            name="concurrency",
            about="1 to 1024 searches at once",
            children=(_searches(f"--size=20 {levels} --seconds=60", *_OURS, *usual),),
        ),
        Part(
            name="latency",
            about="a service that takes its time",
            children=(_searches(f"--size=20 {waits} --seconds=60", *_OURS),),
        ),
        Part(
            name="layers",
            about="where the CPU of a search goes",
            children=(
                Child(
                    module="searches",
                    flags=("--layers", "--size=20", "--size=200", "--seconds=40"),
                ),
            ),
        ),
        _of_loops(),
        Part(
            name="plain",
            about="without the extra `speed`",
            children=(_plain("--size=20 --size=200 --size=2000 --seconds=24"),),
            quick=(_plain(f"--size=20 --size=200 {short} --seconds=6"),),
        ),
    )


def _plain(flags: str) -> Child:
    return _searches(f"--plain {flags}", *_OURS, label="without `speed`")


def _of_loops() -> Part:
    flags = "--size=20 --size=200 --seconds=12"
    loops = [
        _searches(f"{flags} --loop={name}", *_OURS, label=name)
        for name in ("asyncio", "uvloop")
    ]
    missing = importlib.util.find_spec("uvloop") is None
    return Part(
        name="loops",
        about="uvloop beside asyncio",
        # By turns, for a machine is not the same from minute to minute.
        children=(*loops, *reversed(loops)),
        lack="uvloop is not installed" if missing else None,
    )


def _of_pythons(pythons: Sequence[str]) -> Part:
    child = _searches("--size=20 --size=200 --seconds=12", *_OURS)
    return Part(
        name="pythons",
        about="other versions of Python",
        children=tuple(attrs.evolve(child, python=p, label=None) for p in pythons),
        lack=None if pythons else "no --python was given",
    )


def _of_nginx() -> Part:
    sizes = "--size=20 --size=200 --size=2000 --size=10000"
    flags = f"--server=nginx {sizes} --seconds=40"
    found = shutil.which("nginx") or shutil.which("nginx", path=_SERVERS)
    return Part(
        name="nginx",
        about="a server that costs next to nothing",
        children=(_searches(flags, *_OURS, "aiohttp json="),),
        lack=None if found else "nginx is not installed",
    )


def _of_scripts() -> tuple[Part, ...]:
    named = {
        "ceiling": "wrk beside the client",
        "lag": "how long others on the event loop wait",
        "files": "memory that large files take",
        "beside": "single searches beside a batch",
        "import_time": "what the import takes",
    }
    quick = ("lag", "beside")
    return tuple(
        Part(
            name=name,
            about=about,
            children=(child := Child(module=name),),
            quick=(child.in_brief(),) if name in quick else None,
        )
        for name, about in named.items()
    )
