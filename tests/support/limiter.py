"""A limiter that worker processes make; what it does is in a file."""

import pathlib

import attrs


@attrs.define
class Noted:
    """Lets all searches go, but for the first ones, and notes what it was asked.

    Attributes:
        file: Where a letter is written for each call.
        broken: How often it fails first, all processes together.
    """

    file: pathlib.Path
    broken: int = 0

    async def acquire(self) -> None:
        """Let a search go."""
        with self.file.open("a") as file:
            file.write("a")
        if self.file.read_text().count("a") <= self.broken:
            raise OSError("broken, for a test")

    def pause(self, seconds: float) -> None:
        """Take note of nothing: the stand-in throttles nobody here."""

    async def aclose(self) -> None:
        """Note it."""
        with self.file.open("a") as file:
            file.write("c")
