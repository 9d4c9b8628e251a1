"""Exit codes, and the one line that an error is told in."""

import contextlib
import enum
import sys

from verifik_async import (
    APIStatusError,
    AuthenticationError,
    Charge,
    ConfigurationError,
    ConnectError,
    DeadlineExceededError,
    FaceRejectedError,
    ImageError,
    JournalError,
    NotFoundError,
    PaymentRequiredError,
    PermissionDeniedError,
    RateLimitedError,
    RedirectError,
    ServerError,
    TransportError,
    VerifikError,
)

_MAX_TEXT = 300

# What to do about it; the first class that fits, so subclasses come first.
_REMEDIES: tuple[tuple[type[VerifikError], str], ...] = (
    (
        AuthenticationError,
        "check the token in VERIFIK_TOKEN, VERIFIK_CLIENT_JWT or --token-file",
    ),
    (PaymentRequiredError, "top up the account's credits"),
    (PermissionDeniedError, "use a token of an account that may search faces"),
    (NotFoundError, "check --base-url and --collection-id"),
    (RateLimitedError, "lower --concurrency or try again later"),
    (FaceRejectedError, "use a picture with one clear face, seen from the front"),
    (ImageError, "check the file"),
    (ConfigurationError, "see --help"),
    (ConnectError, "check --base-url, VERIFIK_BASE_URL and the network"),
    (DeadlineExceededError, "raise --deadline or lower --concurrency"),
    (RedirectError, "give the final address as --base-url"),
    (ServerError, "try again later"),
    (JournalError, "make room, or choose another --output"),
    (TransportError, "check the network"),
    (APIStatusError, "check the options against --help"),
)


class Exit(enum.IntEnum):
    """How a command ended."""

    OK = 0
    USAGE = 2
    SOME_FAILED = 3
    STOPPED = 4


def complain(text: str) -> None:
    """Tell on stderr what is no result; where nobody can read it, go on."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"verifik-async: {text}\n")
        sys.stderr.flush()


class UsageError(Exception):
    """The command cannot begin; nothing was sent. Its text names the remedy."""


def printable(text: object) -> str:
    """Return text that cannot move the cursor or change colours.

    Ids come from a server and names of files from anywhere.
    """
    return "".join(char if char.isprintable() else "\ufffd" for char in str(text))


def one_line(error: VerifikError) -> str:
    """Return what went wrong and what to do about it."""
    text = " ".join(printable(error).split()) or type(error).__name__
    if error.charge is Charge.MAYBE_CHARGED:
        text += "; it may have been charged"
    if len(text) > _MAX_TEXT:
        text = text[: _MAX_TEXT - 3] + "..."
    return f"{text} ({remedy(error) or '--debug tells more'})"


def remedy(error: VerifikError) -> str | None:
    """Return what to do about an error, or None."""
    for kind, text in _REMEDIES:
        if isinstance(error, kind):
            return text
    return None
