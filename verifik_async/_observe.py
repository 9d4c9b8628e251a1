"""Who is told of searches and requests; what they raise costs no answer."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, TypeAlias, TypeVar

from verifik_async import _wire
from verifik_async.models import Attempt, Pause, SearchEnd, Slot

T = TypeVar("T")

SearchEvent: TypeAlias = Slot | Attempt | Pause | SearchEnd
Told: TypeAlias = Callable[[SearchEvent], object]
OnAttempt: TypeAlias = Callable[[Attempt], object]
OnSearch: TypeAlias = Callable[[], Told | None]

TAKEN: Final = Slot(taken=True)
LEFT: Final = Slot(taken=False)

_logger = logging.getLogger("verifik_async")

# The second comes of a cancelled future that is asked: whoever cancels a search does so
# where it waits.
_HARMLESS: Final = (Exception, asyncio.CancelledError)


def told_of(on_search: OnSearch) -> Told | None:
    """Return who is told of the search that begins, if anybody."""
    try:
        return on_search()
    except _HARMLESS as error:  # a search is worth more
        _ignored("on_search", error)
    return None


def tell(told: Callable[[T], object], event: T, name: str = "on_search") -> None:
    """Tell somebody of an event.

    Args:
        told: Who is told.
        event: Of what.
        name: The argument that brought them.
    """
    try:
        told(event)
    except _HARMLESS as error:  # a paid answer is worth more
        _ignored(name, error)


def _ignored(name: str, error: BaseException) -> None:
    _logger.warning("%s raised %s; it is ignored", name, type(error).__name__)


def wants_attempts(on_attempt: OnAttempt | None, told: Told | None) -> bool:
    """Return whether anybody is to be told of requests."""
    heard = on_attempt is not None or told is not None
    return heard or _logger.isEnabledFor(logging.DEBUG)


def report(attempt: Attempt, on_attempt: OnAttempt | None, told: Told | None) -> None:
    """Log a request on the wire, and tell who wants to know."""
    if _logger.isEnabledFor(logging.DEBUG):
        _log(attempt)
    if on_attempt is not None:
        tell(on_attempt, attempt, "on_attempt")
    if told is not None:
        tell(told, attempt)


def _log(attempt: Attempt) -> None:
    _logger.debug(
        "POST %s status=%s error=%s ms=%.1f sent=%d received=%d",
        _wire.SEARCH_PATH,
        attempt.status,
        attempt.error,
        attempt.elapsed_s * 1000,
        attempt.request_bytes,
        attempt.response_bytes,
    )
