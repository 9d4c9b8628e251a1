"""When a bearer token says that it expires; no signature is checked."""

import functools
import json

from ._base64 import decode

_PARTS = 3
_GROUP = 4
_STANDARD = str.maketrans("-_", "+/")


@functools.lru_cache(maxsize=64)
def expiry(token: str) -> float | None:
    """Return a JWT's `exp`, in seconds since 1970; None for any other token."""
    parts = token.split(".")
    if len(parts) != _PARTS:
        return None
    decoded = [_decode(part) for part in parts]
    if None in decoded:
        return None
    try:
        payload = json.loads(decoded[1] or b"")
    except (ValueError, RecursionError):
        return None
    exp = payload.get("exp") if isinstance(payload, dict) else None
    is_number = isinstance(exp, int | float) and not isinstance(exp, bool)
    return exp if is_number else None


def _decode(part: str) -> bytes | None:
    """Decode base64 of the URL alphabet, without the padding."""
    if "+" in part or "/" in part or "=" in part:
        return None
    return decode(part.translate(_STANDARD) + "=" * (-len(part) % _GROUP))
