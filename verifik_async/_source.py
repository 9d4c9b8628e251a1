"""Where the probes of a batch come from.

Pictures are masked from here on: what goes wrong with one, or with the source, comes
out with a traceback.
"""

import operator
import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any, Final, TypeAlias

from verifik_async._types import Masked
from verifik_async.errors import ConfigurationError
from verifik_async.models import ImageInput, Probe

Probes: TypeAlias = Iterable[ImageInput | Probe] | AsyncIterable[ImageInput | Probe]

END: Final = object()


class Source:
    """The caller's probes, whichever kind of iterable they come from."""

    def __init__(self, probes: Masked[Probes]) -> None:
        self._later: AsyncIterator[ImageInput | Probe] | None = None
        self._now: Iterator[ImageInput | Probe] = iter(())
        self._left = _length(probes)
        if isinstance(probes.reveal(), AsyncIterable):
            self._later = aiter(probes.reveal())  # type: ignore[arg-type]  # just found
        else:
            self._now = iter(probes.reveal())  # type: ignore[arg-type]  # the other kind

    @property
    def is_empty(self) -> bool:
        """Whether it is known to have no more, without asking for one."""
        return self._left == 0

    @property
    def is_asynchronous(self) -> bool:
        """Whether it may take its time."""
        return self._later is not None

    async def next(self) -> Any:
        """Return the next `Probe`, or `END`."""
        if self._left:
            self._left -= 1
        if self._later is not None:
            return _probe(await anext(self._later, END))
        return _probe(next(self._now, END))


def _probe(item: Any) -> Any:
    return item if item is END or isinstance(item, Probe) else Probe(item)


def _length(probes: Masked[Probes]) -> int | None:
    """Return how many there are, or None; some that have a length refuse to tell."""
    if not hasattr(type(probes.reveal()), "__len__"):
        return None
    try:
        return operator.length_hint(probes.reveal())
    except Exception:  # noqa: BLE001 - the caller's object; it is not needed
        return None


def key_of(probe: Probe) -> str | int | None:
    """Return the key of a probe: its own, else the path's text, or None."""
    if isinstance(probe.key, str | int) and not isinstance(probe.key, bool):
        return probe.key
    if isinstance(probe.image, os.PathLike):
        try:
            return os.fsdecode(probe.image)
        except Exception:  # noqa: BLE001 - the caller's object; the search will tell
            return None
    return None


def check_key(probe: Probe) -> None:
    """Refuse a key that is neither text nor a whole number.

    Raises:
        ConfigurationError: it is something else.
    """
    if probe.key is not None and (
        isinstance(probe.key, bool) or not isinstance(probe.key, str | int)
    ):
        raise ConfigurationError(
            f"key of a Probe must be a str or an int, not {type(probe.key).__name__}"
        )


def problem_with(probes: Masked[Any]) -> str | None:
    """Return what is wrong with a source of probes, or None."""
    kind = type(probes.reveal())
    one = issubclass(kind, str | os.PathLike | Probe) or hasattr(kind, "read")
    if one or _is_buffer(probes):
        return (
            "probes must be an iterable of pictures, not one: put it in a list, or "
            "call search_active_user"
        )
    if isinstance(probes.reveal(), Iterable | AsyncIterable):
        return None
    return (
        "probes must be an iterable or an async iterable of pictures, not "
        f"{kind.__name__}"
    )


def _is_buffer(value: Masked[Any]) -> bool:
    try:
        memoryview(value.reveal())
    except (TypeError, ValueError):
        return False
    return True
