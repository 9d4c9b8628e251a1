"""A source of probes that sees how far it is asked ahead."""

from collections.abc import Iterator

from ._job import make_picture

_NUMBER = 8


class Source:
    """So many small pictures, each another, made when they are asked for.

    Attributes:
        count: How many there are.
        pulled: How many were asked for.
        taken: How many of them the consumer has back; the consumer counts.
        ahead: The most that were asked for and not back.
    """

    def __init__(self, count: int, size: int = 200) -> None:
        self.count = count
        self.pulled = 0
        self.taken = 0
        self.ahead = 0
        self._start = make_picture(size - _NUMBER)

    def __iter__(self) -> Iterator[bytes]:
        for number in range(self.count):
            self.pulled += 1
            self.ahead = max(self.ahead, self.pulled - self.taken)
            yield self._start + number.to_bytes(_NUMBER, "big")
