"""Settings: frozen, checked when they are made, with errors that name the remedy."""

import enum
import functools
import ipaddress
import json
import math
import numbers
import os
import pathlib
import urllib.parse
from collections.abc import Awaitable, Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import attrs

from verifik_async._types import OperatingSystem, SearchMode
from verifik_async.errors import ConfigurationError, VerifikError

DEFAULT_BASE_URL = "https://api.verifik.co"
# The order of https://docs.verifik.co samples first, the vendor's own SDK second.
TOKEN_VARIABLES = ("VERIFIK_TOKEN", "VERIFIK_CLIENT_JWT")
BASE_URL_VARIABLE = "VERIFIK_BASE_URL"

# Fields of the request that have an argument of their own.
OWN_FIELDS = frozenset({"image", "os", "min_score", "search_mode", "collection_id"})

_CENTURY = 3.2e9  # seconds
_ERROR_STATUSES = range(400, 600)
_SHOWN = 40  # characters of a refused word that its error repeats


def _real(name: str, value: object, allowed: str) -> float:
    """Return a number as a float; text and bool, which are no numbers, are refused."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ConfigurationError(
            f"{name} must be {allowed}, not {type(value).__name__}"
        )
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _shown(number: float) -> str:
    """Return a number as short as it can be told without rounding it."""
    short = f"{number:g}"
    return short if float(short) == number else repr(number)


def _number(name: str, value: object, low: float, high: float) -> float:
    """Return `value` as a float from `low` to `high`."""
    allowed = f"a number from {low:g} to {high:g}"
    number = _real(name, value, allowed)
    if not low <= number <= high:  # NaN fails every comparison
        raise ConfigurationError(f"{name} must be {allowed}, not {_shown(number)}")
    return number


def _seconds(name: str, value: object) -> float:
    """Return `value` as positive seconds; a century is as good as no bound."""
    allowed = "a positive number of seconds, or None to switch it off"
    number = _real(name, value, allowed)
    if not 0 < number <= _CENTURY:
        raise ConfigurationError(f"{name} must be {allowed}, not {_shown(number)}")
    return number


def whole(name: str, value: object, low: int) -> int:
    """Return `value` as an int of at least `low`.

    Raises:
        ConfigurationError: it is something else.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigurationError(
            f"{name} must be a whole number of at least {low}, "
            f"not {type(value).__name__}"
        )
    if value < low:
        raise ConfigurationError(f"{name} must be at least {low}, not {value}")
    return value


def deadline_seconds(value: object) -> float | None:
    """Return a `deadline` argument checked; None switches it off.

    Raises:
        ConfigurationError: it is no positive number of seconds.
    """
    return None if value is None else _seconds("deadline", value)


def _choice(name: str, value: object, words: type[enum.StrEnum]) -> None:
    allowed = ", ".join(f'"{word}"' for word in words)
    if not isinstance(value, str):
        raise ConfigurationError(
            f"{name} must be one of {allowed}, not {type(value).__name__}"
        )
    if value not in list(words):
        shown = repr(value[:_SHOWN])
        raise ConfigurationError(f"{name} must be one of {allowed}, not {shown}")


def _check_extra(value: object) -> Mapping[str, Any]:
    """Return a copy of fields that JSON can carry and that have no argument."""
    if not isinstance(value, Mapping):
        raise ConfigurationError(
            f"extra must be a mapping of JSON fields, not {type(value).__name__}"
        )
    if not all(isinstance(name, str) for name in value):
        raise ConfigurationError("extra must have text as names of its fields")
    if taken := sorted(OWN_FIELDS & set(value)):
        raise ConfigurationError(
            f"extra must not hold {', '.join(taken)}: use the argument of that name"
        )
    try:
        copied: dict[str, Any] = json.loads(json.dumps(dict(value), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        kind = type(error).__name__
    else:
        return copied  # all the way down: the caller may change what was given
    # Outside the handler: the chained error would show values.
    raise ConfigurationError(
        f"extra must hold JSON values only, without NaN or infinity ({kind})"
    )


def _copied(extra: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    return None if extra is None else _check_extra(extra)


@attrs.frozen(kw_only=True)
class SearchOptions:
    """What to search with where a call or a probe does not say; None: not set.

    Attributes:
        os: "ANDROID", "IOS" or "DESKTOP": the platform that captured the picture.
        min_score: Threshold for a match, from 0.5 to 1.0.
        search_mode: "FAST" or "ACCURATE".
        collection_id: The `code` of the one collection to search, sent verbatim.
        extra: Further JSON fields, sent as they are.

    Raises:
        ConfigurationError: a value is out of its range.
    """

    os: OperatingSystem | str | None = None
    min_score: float | None = None
    search_mode: SearchMode | str | None = None
    collection_id: str | None = None
    extra: Mapping[str, Any] | None = attrs.field(
        default=None, converter=_copied, repr=False, hash=False
    )

    def __attrs_post_init__(self) -> None:
        if self.os is not None:
            _choice("os", self.os, OperatingSystem)
        if self.min_score is not None:
            _number("min_score", self.min_score, 0.5, 1.0)
        if self.search_mode is not None:
            _choice("search_mode", self.search_mode, SearchMode)
        if self.collection_id is not None and not isinstance(self.collection_id, str):
            raise ConfigurationError(
                "collection_id must be text, the collection's code, "
                f"not {type(self.collection_id).__name__}"
            )


@attrs.frozen(kw_only=True)
class Timeouts:
    """Bounds of time, in seconds; None switches one off.

    Attributes:
        deadline: The whole call: queueing, all attempts, waits, reading, decoding.
        attempt: One request, connecting included; queueing never counts.
        connect: TCP and TLS handshake of a new connection.

    Raises:
        ConfigurationError: a value is not positive.
    """

    deadline: float | None = 60.0
    attempt: float | None = 30.0
    connect: float | None = 10.0

    def __attrs_post_init__(self) -> None:
        for name in ("deadline", "attempt", "connect"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _seconds(name, value))


def _statuses(given: Any) -> frozenset[int]:
    wrong = "statuses must be HTTP statuses from 400 to 599, such as {500, 503}"
    statuses: list[Any] = list(given) if isinstance(given, Iterable) else [None]
    if not all(isinstance(s, int) and s in _ERROR_STATUSES for s in statuses):
        raise ConfigurationError(wrong)
    return frozenset(map(int, statuses))


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """When a search is sent again, and how long it waits before.

    Attributes:
        attempts: Requests at most for one search, throttled ones apart; 1: never again.
        base_delay: Seconds; the first delay is random between 0 and this.
        max_delay: Seconds that a delay doubles up to.
        max_retry_after: Seconds of the service's Retry-After that are waited out;
            a longer one ends the call at once.
        retry_maybe_charged: Whether to send again what may have been charged.
        statuses: Statuses that are sent again. Throttles (429) are no business of it.
        outage_limit: Seconds that throttling may last for a call without deadline.

    Raises:
        ConfigurationError: a value is out of its range.
    """

    attempts: int = 4
    base_delay: float = 0.5
    max_delay: float = 20.0
    max_retry_after: float = 120.0
    retry_maybe_charged: bool = False
    statuses: frozenset[int] = attrs.field(
        default=frozenset({500, 502, 503, 504}), converter=_statuses
    )
    outage_limit: float = 600.0

    def __attrs_post_init__(self) -> None:
        whole("attempts", self.attempts, 1)
        for name in ("base_delay", "max_delay", "max_retry_after"):
            _number(name, getattr(self, name), 0.0, _CENTURY)
        _seconds("outage_limit", self.outage_limit)
        if not isinstance(self.retry_maybe_charged, bool):
            raise ConfigurationError("retry_maybe_charged must be True or False")


@attrs.frozen
class RateLimit:
    """At most `per_second` searches a second, `burst` of them at once.

    Attributes:
        per_second: Searches a second, above 0.
        burst: Searches that may leave at once after a quiet time, at least 1.

    Raises:
        ConfigurationError: a value is out of its range.
    """

    per_second: float
    burst: int = 1

    def __attrs_post_init__(self) -> None:
        _number("per_second", self.per_second, 1e-6, 1e6)
        whole("burst", self.burst, 1)


@runtime_checkable
class Limiter(Protocol):
    """What `rate_limit=` accepts beside `RateLimit`; one may serve many clients."""

    async def acquire(self) -> None:
        """Return when one search may be sent."""

    def pause(self, seconds: float) -> Awaitable[None] | None:
        """Take note of a throttle: the service wants that many seconds of quiet.

        It must not block. What takes time, such as telling other processes, goes into
        an awaitable: the search that was throttled awaits it, within its deadline.
        """


def check_complete(options: SearchOptions, *, apart: str = "") -> None:
    """Refuse options that leave out what the API requires; it has no defaults.

    Args:
        options: What is searched with.
        apart: One that may be missing all the same.

    Raises:
        ConfigurationError: it names the first that is missing.
    """
    for name in ("os", "min_score", "search_mode"):
        if name != apart and getattr(options, name) is None:
            raise ConfigurationError(
                f"{name} is required: pass it or set "
                "VerifikClient(defaults=SearchOptions(...))"
            )


def _is_loopback(host: str) -> bool:
    if host == "localhost":  # what ends in it is for the resolver to say
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_host(host: str) -> bool:
    """Whether this can be a host's name or address at all."""
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return True


@attrs.frozen
class Origin:
    """Where the API is: a checked base URL.

    Attributes:
        base: The URL without a slash at its end.
        host: Its host, for messages.
        port: Its port, for messages.
    """

    base: str
    host: str
    port: int

    @functools.cached_property
    def text(self) -> str:
        """Scheme, host and port."""
        parts = urllib.parse.urlsplit(self.base)
        return f"{parts.scheme}://{parts.netloc}"


def check_base_url(base_url: object, *, allow_insecure_http: bool) -> Origin:
    """Return the origin that `base_url` names.

    Raises:
        ConfigurationError: it is no http(s) URL, carries what it must not, or is
            plain http to another machine.
    """
    wrong = "base_url must be an http(s) URL such as " + DEFAULT_BASE_URL
    if not isinstance(base_url, str) or not base_url.strip():
        raise ConfigurationError(f"{wrong}; it is empty or no text")
    base_url = base_url.strip()
    if not base_url.isprintable() or " " in base_url:
        raise ConfigurationError(f"{wrong}, without white space")
    try:
        parts = urllib.parse.urlsplit(base_url)
        port = parts.port
    except ValueError:
        parts, port = urllib.parse.urlsplit(""), None
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not host or not _is_host(host):
        raise ConfigurationError(wrong)
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigurationError(f"{wrong}, without user, query or fragment")
    if parts.scheme == "http" and not allow_insecure_http and not _is_loopback(host):
        raise ConfigurationError(
            "base_url must be https: over http the token and the faces could be "
            "read on the way; allow_insecure_http=True permits it all the same"
        )
    base = urllib.parse.urlunsplit(
        (parts.scheme, parts.netloc, parts.path.rstrip("/"), "", "")
    )
    default = 443 if parts.scheme == "https" else 80
    return Origin(base, host, default if port is None else port)


def base_url_from_environment(given: str | None) -> str:
    """Return the base URL: the argument, the variable, or the API's."""
    if given is not None:
        return given
    return os.environ.get(BASE_URL_VARIABLE, DEFAULT_BASE_URL)


def check_rate_limit(given: object) -> RateLimit | Limiter | None:
    """Return the limit or limiter.

    Raises:
        ConfigurationError: it is neither.
    """
    made = not isinstance(given, type)  # a class has its instances' methods too
    if given is None or (made and isinstance(given, RateLimit | Limiter)):
        return given
    raise ConfigurationError(
        "rate_limit must be RateLimit(per_second, burst) or have acquire() and "
        f"pause(), not {type(given).__name__}"
    )


def check_proxy(given: object) -> str | None:
    """Return the proxy's URL, never shown: it may hold a password.

    Raises:
        ConfigurationError: it is no http(s) URL.
    """
    if given is None:
        return None
    if isinstance(given, str) and given.startswith(("http://", "https://")):
        return given
    raise ConfigurationError("proxy must be an http(s) URL, such as http://proxy:3128")


def check_proxied(
    origin: Origin, proxy: str | None, *, allow_insecure_http: bool
) -> None:
    """Check that a proxy may carry what is sent to an origin.

    Raises:
        ConfigurationError: it would leave this machine as plain text.
    """
    if proxy is None or allow_insecure_http or origin.base.startswith("https://"):
        return
    if not _is_loopback(urllib.parse.urlsplit(proxy).hostname or ""):
        raise ConfigurationError(
            "proxy: with an http base_url it could read the token and the faces, and "
            "so could all on the way to it; allow_insecure_http=True permits it"
        )


def check_flag(name: str, given: object) -> bool:
    """Return a switch.

    Raises:
        ConfigurationError: it is neither True nor False; "no" would count as yes.
    """
    if isinstance(given, bool):
        return given
    raise ConfigurationError(
        f"{name} must be True or False, not {type(given).__name__}"
    )


def file_path(name: str, given: Any) -> pathlib.Path:
    """Return the path of a file that is written.

    Raises:
        ConfigurationError: it is none.
    """
    path = os.fsdecode(given) if isinstance(given, str | os.PathLike) else None
    if path and "\0" not in path:
        return pathlib.Path(path)
    shown = type(given).__name__ if path is None else "such text"
    raise ConfigurationError(f"{name} must be the path of a file, not {shown}")


def check_callable(name: str, given: Any) -> Any:
    """Return a callback.

    Raises:
        ConfigurationError: it can't be called.
    """
    if given is None or callable(given):
        return given
    raise ConfigurationError(f"{name} must be callable, not {type(given).__name__}")


def check_grace(given: object) -> float:
    """Return `close_grace`, seconds from 0.

    Raises:
        ConfigurationError: it is something else.
    """
    return _number("close_grace", given, 0.0, _CENTURY)


def check_errors(name: str, given: Any) -> tuple[type[VerifikError], ...]:
    """Return classes of errors.

    Raises:
        ConfigurationError: something else is among them.
    """
    kinds = tuple(given) if isinstance(given, Iterable) else (given,)
    if all(isinstance(kind, type) and issubclass(kind, VerifikError) for kind in kinds):
        return kinds
    raise ConfigurationError(
        f"{name} must hold classes of verifik_async.errors, such as "
        "(PaymentRequiredError,)"
    )
