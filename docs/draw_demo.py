"""Draw docs/demo.svg: what `verifik-async demo` shows in a terminal of 80 columns.

    python docs/draw_demo.py

It runs the real command in a pseudo-terminal and draws what came out.
"""

import pathlib

from _terminal import draw, recorded, settled

COLUMNS = 80
TARGET = pathlib.Path(__file__).with_name("demo.svg")


def main() -> None:
    """Write the picture."""
    written = "$ verifik-async demo\n" + settled(recorded(["demo"], COLUMNS))
    draw(written, COLUMNS, "verifik-async demo", TARGET)


if __name__ == "__main__":
    main()
