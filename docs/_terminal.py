"""A command in a terminal, and the picture of what it wrote there (Linux, macOS)."""

import io
import os
import pathlib
import pty
import re
import struct
import sys
import termios
from collections.abc import Mapping
from fcntl import ioctl

from rich.console import Console
from rich.text import Text

LINES = 60
# What moves while a command runs: a picture has only the end of it.
_REDRAWN = re.compile(r"\x1b\[[0-9;?]*[A-HJKSTfhlsu]|\r")


def recorded(
    arguments: list[str],
    columns: int,
    environment: Mapping[str, str] | None = None,
    *,
    code: int = 0,
) -> str:
    """Run `verifik-async` in a terminal and return what it wrote; it must end so."""
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update(TERM="xterm-256color", COLORTERM="truecolor")
        os.environ.update(environment or {})
        command = [sys.executable, "-m", "verifik_async.cli", *arguments]
        os.execv(sys.executable, command)
    ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, columns, 0, 0))
    chunks: list[bytes] = []
    try:
        while chunk := os.read(terminal, 65_536):
            chunks.append(chunk)
    except OSError:  # Linux says so when the other end has closed
        pass
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != code:
        sys.exit("the command did not end as it should")
    return b"".join(chunks).decode()


def settled(written: str) -> str:
    """Return what stays on the screen: a redrawn line is there once, as it ended."""
    lines = written.replace("\r\n", "\n").split("\n")
    return "\n".join(_REDRAWN.sub("", line.rpartition("\r")[2]) for line in lines)


def frames(written: str, mark: str) -> list[str]:
    """Return a redrawn line as it was each time it was drawn."""
    lines = re.split(r"[\r\n]+", written)
    return [_REDRAWN.sub("", line) for line in lines if mark in line]


def draw(written: str, columns: int, title: str, target: pathlib.Path) -> None:
    """Write a picture of a terminal."""
    console = Console(record=True, width=columns, file=io.StringIO())
    console.print(Text.from_ansi(written))
    drawing = console.export_svg(title=title)
    # No font from a network: the reader's own will do.
    drawing = re.sub(r"@font-face \{.*?\}\s*", "", drawing, flags=re.DOTALL)
    target.write_text(drawing)
    print(f"{target.name}: {target.stat().st_size} bytes")
