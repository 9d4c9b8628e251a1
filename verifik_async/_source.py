"""Where the probes of a batch come from."""

import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sized
from typing import Any, Final, TypeAlias

from verifik_async.errors import ConfigurationError
from verifik_async.models import ImageInput, Probe

Probes: TypeAlias = Iterable[ImageInput | Probe] | AsyncIterable[ImageInput | Probe]

END: Final = object()


class Source:
    """The caller's probes, whichever kind of iterable they come from."""

    def __init__(self, probes: Probes) -> None:
        self._later: AsyncIterator[ImageInput | Probe] | None = None
        self._now: Iterator[ImageInput | Probe] = iter(())
        self._left = len(probes) if isinstance(probes, Sized) else None
        if isinstance(probes, AsyncIterable):
            self._later = aiter(probes)
        else:
            self._now = iter(probes)

    @property
    def is_empty(self) -> bool:
        """Whether it is known to have no more, without asking for one."""
        return self._left == 0

    async def next(self) -> Any:
        """Return the next probe, or `END`."""
        if self._left:
            self._left -= 1
        if self._later is not None:
            return await anext(self._later, END)
        return next(self._now, END)


def probe_and_key(item: ImageInput | Probe, index: int) -> tuple[Probe, str | int]:
    """Return a probe and its key: its own, else the path's text, else the index."""
    probe = item if isinstance(item, Probe) else Probe(item)
    if isinstance(probe.key, str | int) and not isinstance(probe.key, bool):
        return probe, probe.key
    if isinstance(probe.image, os.PathLike):
        return probe, os.fsdecode(probe.image)
    return probe, index


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


def check_probes(probes: Any) -> Probes:
    """Return a source of probes.

    Raises:
        ConfigurationError: it is none, or one picture instead of many.
    """
    one = isinstance(probes, str | os.PathLike | Probe) or hasattr(probes, "read")
    try:
        memoryview(probes)
    except TypeError:
        pass
    else:
        one = True
    if one:
        raise ConfigurationError(
            "probes must be an iterable of pictures, not one: put it in a list, or "
            "call search_active_user"
        )
    if isinstance(probes, Iterable | AsyncIterable):
        return probes
    raise ConfigurationError(
        "probes must be an iterable or an async iterable of pictures, not "
        f"{type(probes).__name__}"
    )
