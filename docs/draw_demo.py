"""Draw docs/demo.svg: what `verifik-async demo` shows in a terminal of 80 columns.

    python docs/draw_demo.py

It runs the real command in a pseudo-terminal (Linux, macOS) and draws what came out.
"""

import io
import os
import pathlib
import pty
import re
import struct
import sys
import termios
from fcntl import ioctl

from rich.console import Console
from rich.text import Text

COLUMNS, LINES = 80, 60
TARGET = pathlib.Path(__file__).with_name("demo.svg")
# What moves while the searches run: a picture has only the end of it.
REDRAWN = re.compile(r"\x1b\[[0-9;?]*[A-HJKSTfhlsu]|\r")


def recorded() -> str:
    """Run the demo in a terminal and return what it wrote."""
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update(TERM="xterm-256color", COLORTERM="truecolor")
        os.execv(sys.executable, [sys.executable, "-m", "verifik_async.cli", "demo"])
    ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    chunks: list[bytes] = []
    try:
        while chunk := os.read(terminal, 65_536):
            chunks.append(chunk)
    except OSError:  # Linux says so when the other end has closed
        pass
    if os.waitpid(child, 0)[1]:
        sys.exit("the demo failed")
    return b"".join(chunks).decode()


def settled(written: str) -> str:
    """Return what stays on the screen: a redrawn line is there once, as it ended."""
    lines = written.replace("\r\n", "\n").split("\n")
    return "\n".join(REDRAWN.sub("", line.rpartition("\r")[2]) for line in lines)


def main() -> None:
    """Write the picture."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text.from_ansi("$ verifik-async demo\n" + settled(recorded())))
    drawing = console.export_svg(title="verifik-async demo")
    # No font from a network: the reader's own will do.
    drawing = re.sub(r"@font-face \{.*?\}\s*", "", drawing, flags=re.DOTALL)
    TARGET.write_text(drawing)
    print(f"{TARGET.name}: {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
