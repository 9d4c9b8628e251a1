"""What a batch is asked for."""

import pathlib
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import attrs

from verifik_async._call import Plan
from verifik_async._source import Probes
from verifik_async._state import LoopState
from verifik_async._types import Masked
from verifik_async.errors import VerifikError
from verifik_async.models import Probe

# From an encoded picture to the one that is sent.
Prepare: TypeAlias = Callable[[bytes], Awaitable[bytes]]


@attrs.frozen
class JournalOrder:
    """Where a journal is, and the digest of what its batch searches with."""

    path: pathlib.Path
    parameters: str


@attrs.frozen(kw_only=True)
class Order:
    """What a batch is asked for, checked.

    Attributes:
        probes: The source; never shown.
        plan_of: Makes the plan of one search; raises what is wrong with a probe.
        state: Returns what belongs to the running loop.
        concurrency: Workers.
        ordered: Whether outcomes come in the order of the input.
        deadline: Seconds for all of it, or None.
        coalesce: Whether equal searches go over the wire once.
        stop_on: Errors that stop the batch.
        max_searches: Searches at most, or None.
        journal: Where the outcomes are kept, and what the batch searches with; None:
            nowhere.
        prepare: Makes of a picture the one that is sent, or None.
        max_image_bytes: Size of that at most.
        patient: Whether a stopped batch waits for what its source is asked for, so
            that nothing of that is lost.
    """

    probes: Masked[Probes]
    plan_of: Callable[[Probe], Plan]
    state: Callable[[], Awaitable[LoopState]]
    concurrency: int
    ordered: bool
    deadline: float | None
    coalesce: bool
    stop_on: tuple[type[VerifikError], ...]
    max_searches: int | None
    journal: JournalOrder | None = None
    prepare: Prepare | None = None
    max_image_bytes: int
    patient: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether nothing comes before the search of a probe."""
        return self.journal is None and self.prepare is None and not self.coalesce
