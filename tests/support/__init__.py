"""What several tests use, beside the fixtures."""

import re

from verifik_async import RetryPolicy, SearchOptions, VerifikClient

TOKEN = "token-of-the-tests-7f3a"
OPTIONS = SearchOptions(os="DESKTOP", min_score=0.7, search_mode="FAST")
# Delays as short as a test can wait for them; the number of attempts is the default.
QUICK = RetryPolicy(base_delay=0.01, max_delay=0.02)


def client_of(url: str, **settings: object) -> VerifikClient:
    """Return a client of a server, with short delays and the options of the tests."""
    return VerifikClient(
        TOKEN, base_url=url, **{"defaults": OPTIONS, "retry": QUICK, **settings}
    )


def complaints(errors: bytes) -> str:
    """Return what a process in development mode wrote to standard error.

    Without what asyncio says of a step that took long: that is a busy machine.
    """
    return re.sub(r"(?m)^Executing <.*> took .* seconds\n", "", errors.decode())
