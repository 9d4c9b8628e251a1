"""Words of the API and small types that every layer needs."""

import enum
from typing import Final, Generic, NoReturn, TypeVar

T = TypeVar("T")


class OperatingSystem(enum.StrEnum):
    """Platform that captured the picture, the API's `os`."""

    ANDROID = "ANDROID"
    IOS = "IOS"
    DESKTOP = "DESKTOP"


class SearchMode(enum.StrEnum):
    """How thoroughly the gallery is searched, the API's `search_mode`."""

    FAST = "FAST"
    ACCURATE = "ACCURATE"


class Charge(enum.StrEnum):
    """What a search may have cost, judged from what went over the wire.

    Attributes:
        NOT_SENT: The last byte of the request was not written.
        ANSWERED: A status came back.
        MAYBE_CHARGED: Lost or timed out after the last byte, or answered with
            502 or 504: the service may have done, and billed, the work.
    """

    NOT_SENT = "not_sent"
    ANSWERED = "answered"
    MAYBE_CHARGED = "maybe_charged"

    def worst(self, other: "Charge") -> "Charge":
        """Return the graver of two: maybe_charged, then answered, then not_sent."""
        return self if _GRAVITY[self] >= _GRAVITY[other] else other


_GRAVITY: Final = {Charge.NOT_SENT: 0, Charge.ANSWERED: 1, Charge.MAYBE_CHARGED: 2}


class NotGiven(enum.Enum):
    """Type of `NOT_GIVEN`: an argument left out, where None has a meaning."""

    NOT_GIVEN = "NOT_GIVEN"

    def __repr__(self) -> str:
        return "NOT_GIVEN"


NOT_GIVEN: Final = NotGiven.NOT_GIVEN


class Masked(Generic[T]):
    """Holds a value that no repr, log or traceback with locals may show.

    Tokens and pictures travel through the package inside one of these; a raw
    value never stays in a local variable of a frame that can raise.
    """

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value

    def reveal(self) -> T:
        """Return the value; use it in an expression, do not keep it in a local."""
        return self._value

    def __repr__(self) -> str:
        return "<masked>"

    def __reduce__(self) -> NoReturn:
        # A pickle would be a copy on disk or on a wire that nobody asked for.
        raise TypeError("a masked value is not pickled")
