"""Values that users see: answers, probes, outcomes and counts."""

import datetime as dt
import os
from collections.abc import Mapping
from typing import Any, Literal, Protocol, TypeAlias

import attrs

from verifik_async._types import Charge, OperatingSystem, SearchMode
from verifik_async.errors import VerifikError

__all__ = [
    "Attempt",
    "BatchSummary",
    "BinaryFile",
    "CallInfo",
    "Charge",
    "ClientStats",
    "Collection",
    "ImageInput",
    "Liveness",
    "Match",
    "OperatingSystem",
    "Outcome",
    "Probe",
    "SearchMode",
    "SearchResult",
    "Signature",
    "Thumbnail",
]


class BinaryFile(Protocol):
    """What is needed of a binary file object."""

    def read(self, size: int = ..., /) -> bytes: ...


# bytes-like: the encoded picture · PathLike: a file · str: base64 text · file object
ImageInput: TypeAlias = (
    bytes
    | bytearray
    | memoryview
    | os.PathLike[str]
    | os.PathLike[bytes]
    | str
    | BinaryFile
)


def _masked(_: object) -> str:
    return "<masked>"


@attrs.frozen(kw_only=True)
class Thumbnail:
    """A small picture of an enrolled person.

    Attributes:
        id: Id of the picture, or None.
        thumbnail: Base64 text of a JPEG or PNG, or None. Out of repr.
    """

    id: str | None = None
    thumbnail: str | None = attrs.field(default=None, repr=_masked)


@attrs.frozen(kw_only=True)
class Collection:
    """A collection as an answer names it; searches take its `code`.

    Attributes:
        id: The record's id, or None.
        code: UUID that searches use, or None.
        name: Display name, or None.
        description: Free text, or None.
        count: Persons in it, or None.
    """

    id: str | None = None
    code: str | None = None
    name: str | None = None
    description: str | None = None
    count: int | None = None


@attrs.frozen(kw_only=True)
class Match:
    """One enrolled person who looks like the probe.

    Only `id` and `score` are in every answer; its repr shows no more than those.

    Attributes:
        id: The person's id.
        score: Similarity from 0.0 to 1.0, 1.0 for identical, or None if not told.
        name: The person's name, or None.
        gender: As the API spells it (`M`, `F`), or None.
        date_of_birth: None too where the API's text is no date; `raw` keeps it.
        nationality: As the API spells it, or None.
        notes: Whatever JSON was stored with the person.
        thumbnails: Small pictures of the person.
        collections: Ids or codes as text, or `Collection` where the API tells more.
        extra: Fields of the answer that are not known here, as decoded JSON.
    """

    id: str
    score: float | None = None
    name: str | None = attrs.field(default=None, repr=False)
    gender: str | None = attrs.field(default=None, repr=False)
    date_of_birth: dt.date | None = attrs.field(default=None, repr=False)
    nationality: str | None = attrs.field(default=None, repr=False)
    notes: Any = attrs.field(default=None, repr=False, hash=False)
    thumbnails: tuple[Thumbnail, ...] = attrs.field(default=(), repr=False)
    collections: tuple[str | Collection, ...] = attrs.field(default=(), repr=False)
    extra: Mapping[str, Any] = attrs.field(factory=dict, repr=False, hash=False)


@attrs.frozen(kw_only=True)
class Signature:
    """The service's signature under an answer.

    Attributes:
        message: Who signed, or None.
        date_time: The API's text, untouched, or None.
        timestamp: `date_time` parsed, without a time zone because the API tells
            none; None where it can't be parsed.
    """

    message: str | None = None
    date_time: str | None = None
    timestamp: dt.datetime | None = None


@attrs.frozen(kw_only=True)
class Liveness:
    """Whether the probe shows a living person, where the API tells.

    Attributes:
        score: From 0.0 to 1.0, or None.
        passed: The API's verdict, else `score > min_score`, else None.
        min_score: Threshold that was applied, or None.
        status: The API's word for it (`success`), or None.
    """

    score: float | None = None
    passed: bool | None = None
    min_score: float | None = None
    status: str | None = None


@attrs.frozen(kw_only=True)
class CallInfo:
    """What one search took.

    Attributes:
        attempts: Requests, throttled ones apart; those that found no connection
            count as well.
        throttled: Requests that the service throttled.
        maybe_charged: Earlier attempts that may have been charged as well.
        queued_s: Seconds in the queue for a slot.
        waited_s: Seconds in pauses and backoff.
        elapsed_s: Seconds in all.
        status: HTTP status of the answer, or None.
        request_bytes: Bytes of the last request's body.
        response_bytes: Bytes of the last answer's body, inflated.
    """

    attempts: int = 0
    throttled: int = 0
    maybe_charged: int = 0
    queued_s: float = 0.0
    waited_s: float = 0.0
    elapsed_s: float = 0.0
    status: int | None = None
    request_bytes: int = 0
    response_bytes: int = 0


@attrs.frozen(kw_only=True)
class SearchResult:
    """The answer to one search.

    Attributes:
        id: The API's id of the request, for its support, or None.
        matches: Best first; empty if nobody reached the threshold.
        signature: The service's signature, or None.
        liveness: The liveness verdict, or None.
        raw: The decoded JSON. Holds personal data; out of repr and eq.
        call: What the search took; out of eq.
    """

    id: str | None = None
    matches: tuple[Match, ...] = ()
    signature: Signature | None = None
    liveness: Liveness | None = None
    raw: Any = attrs.field(default=None, repr=False, eq=False)
    call: CallInfo = attrs.field(factory=CallInfo, eq=False)

    @property
    def best(self) -> Match | None:
        """The match with the highest score, or None if there is none."""
        return self.matches[0] if self.matches else None


@attrs.frozen(eq=False)  # equal is the same: pictures are not compared
class Probe:
    """A picture to search, with what differs from the call's settings.

    Attributes:
        image: As `search_active_user` takes it. Out of repr.
        key: The caller's name for it, a str or an int.
        collection_id: The collection's `code`; None: the call's.
        min_score: From 0.5 to 1.0; None: the call's.
        extra: Further JSON fields; None: the call's.
        context: Any object of the caller's; handed back, never stored.
    """

    image: ImageInput = attrs.field(repr=_masked)
    key: str | int | None = attrs.field(default=None, kw_only=True)
    collection_id: str | None = attrs.field(default=None, kw_only=True)
    min_score: float | None = attrs.field(default=None, kw_only=True)
    extra: Mapping[str, Any] | None = attrs.field(
        default=None, kw_only=True, repr=False
    )
    context: Any = attrs.field(default=None, kw_only=True, repr=False)


@attrs.frozen(kw_only=True)
class Outcome:
    """What became of one probe of a batch.

    Attributes:
        index: Position in the input, from 0.
        key: The caller's key, else the path's text, else the index.
        context: The probe's `context`.
        result: The answer, or None.
        error: Why there is none, or None.
        call: What the search took.
    """

    index: int
    key: str | int
    context: Any = attrs.field(default=None, repr=False, eq=False)
    result: SearchResult | None = None
    error: VerifikError | None = None
    call: CallInfo = attrs.field(factory=CallInfo, eq=False)

    @property
    def ok(self) -> bool:
        """Whether there is a result."""
        return self.error is None

    @property
    def state(self) -> Charge:
        """What the search may have cost."""
        return Charge.ANSWERED if self.error is None else self.error.charge

    def unwrap(self) -> SearchResult:
        """Return the result, or raise the error.

        Raises:
            VerifikError: the probe's own error.
        """
        if self.error is not None:
            raise self.error
        if self.result is None:
            raise ValueError("the outcome has neither a result nor an error")
        return self.result


@attrs.frozen(kw_only=True)
class BatchSummary:
    """Counts of a batch; `answered` + `failed` is what was yielded.

    Attributes:
        answered: Probes with a result.
        failed: Probes with an error.
        not_sent: Of the failed: never left this machine.
        maybe_charged: Of the failed: may have been charged.
        skipped: Found in the journal as answered; not yielded.
        coalesced: Answered by an equal probe's search.
        attempts: Requests, throttled ones apart; those that found no connection
            count as well.
        throttled: Requests that the service throttled.
        elapsed_s: Seconds since the batch began.
        errors: Failed probes per error class name.
        stopped_by: What ended the batch before its input did, or None.
    """

    answered: int = 0
    failed: int = 0
    not_sent: int = 0
    maybe_charged: int = 0
    skipped: int = 0
    coalesced: int = 0
    attempts: int = 0
    throttled: int = 0
    elapsed_s: float = 0.0
    errors: Mapping[str, int] = attrs.field(factory=dict, hash=False)
    stopped_by: str | None = None


@attrs.frozen(kw_only=True)
class Attempt:
    """One request on the wire, as `on_attempt` is told of it.

    Attributes:
        number: 1 for a search's first request, throttled ones included.
        status: HTTP status, or None if none came.
        error: Class name of the error it ended in, or None.
        charge: What this request may have cost.
        throttled: Whether the service refused it for its rate.
        elapsed_s: Seconds from the slot to the verdict, connecting included.
        request_bytes: Bytes of the body announced.
        response_bytes: Bytes of the answer's body, inflated.
    """

    number: int
    status: int | None = None
    error: str | None = None
    charge: Charge = Charge.ANSWERED
    throttled: bool = False
    elapsed_s: float = 0.0
    request_bytes: int = 0
    response_bytes: int = 0


@attrs.frozen
class Slot:
    """A search of `on_search` takes a slot, or gives it back.

    Attributes:
        taken: Whether it may be on the wire from now on; if not, it is no longer. The
            two alternate: a search that is throttled goes back to the queue.
    """

    taken: bool


@attrs.frozen(kw_only=True)
class Pause:
    """A search of `on_search` has waited because of what was answered.

    Attributes:
        reason: "pause": all senders were held back, for the quiet that the service
            asked for, or for a look at its first answer; "backoff": before the search
            is sent again.
        seconds: How long.
    """

    reason: Literal["pause", "backoff"]
    seconds: float


@attrs.frozen(kw_only=True)
class SearchEnd:
    """A search of `on_search` is over.

    Attributes:
        call: What it took; `status` is that of the last answer.
        charge: What it may have cost.
        error: Class name of the error that it ended in ("CancelledError" for one that
            was cancelled), or None.
        matches: How many persons were found.
    """

    call: CallInfo
    charge: Charge = Charge.ANSWERED
    error: str | None = None
    matches: int = 0


@attrs.frozen(kw_only=True)
class ClientStats:
    """Counts of a client over all its event loops, since it was made.

    `attempts` + `throttled` is the number of requests on the wire.

    Attributes:
        attempts: Requests that were not throttled.
        answered: Searches with a result.
        failed: Searches that ended in an error, cancelled ones included.
        throttled: Requests that the service refused for their rate.
        resent: Requests beyond a search's first, throttled ones apart.
        in_flight: Searches on the wire now.
        waiting: Searches in the queue now.
        window: Searches that may be on the wire at once now.
        bytes_sent: Bytes of request bodies that were announced and begun.
        bytes_received: Bytes of answers' bodies, inflated.
        latency_p50_s: Median seconds of the latest answered requests, or None.
        latency_p95_s: 95th percentile of the same.
        latency_p99_s: 99th percentile of the same.
    """

    attempts: int = 0
    answered: int = 0
    failed: int = 0
    throttled: int = 0
    resent: int = 0
    in_flight: int = 0
    waiting: int = 0
    window: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    latency_p50_s: float | None = None
    latency_p95_s: float | None = None
    latency_p99_s: float | None = None
