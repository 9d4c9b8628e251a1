"""What commands need to reach the API: the token, and a log of requests."""

import logging
from os import environ
from pathlib import Path

from verifik_async.cli._exit import UsageError

_TOKEN_VARIABLES = ("VERIFIK_TOKEN", "VERIFIK_CLIENT_JWT")


def base_url(given: str | None) -> str | None:
    """Return where the API is; None: where it always is."""
    return environ.get("VERIFIK_BASE_URL") if given is None else given


def token(path: Path | None) -> str:
    """Return the token of a file, or of the environment.

    Raises:
        UsageError: there is none.
    """
    if path is not None:
        try:
            return path.read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            raise UsageError(
                f"the token file cannot be read: {type(error).__name__} "
                "(check --token-file)"
            ) from None
    for name in _TOKEN_VARIABLES:
        if found := environ.get(name):
            return found
    raise UsageError(
        f"there is no token (set {' or '.join(_TOKEN_VARIABLES)}, or give "
        "--token-file PATH; any text will do for the local stand-in)"
    )


def log_requests() -> None:
    """Show every request in one line on stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(message)s"))
    logger = logging.getLogger("verifik_async")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
