"""Text from outside, made fit for messages and logs."""

import re
import string

MAX_TEXT = 200
_ENOUGH = 2_000

# A picture echoed back is one long run of base64; ids are shorter (a Mongo id
# has 24 characters, a UUID is broken by its hyphens).
_BASE64 = string.ascii_letters + string.digits + "+/="
_BASE64_RUN = re.compile(r"[A-Za-z0-9+/=]{40,}")
_JWT = re.compile(r"eyJ[\w-]*\.[\w-]+(?:\.[\w-]*)?")
_BEARER = re.compile(r"(?i)\b(bearer|jwt)\s+\S+")


def enough(text: str) -> str:
    """Return the beginning of a text: some patterns take very long over long ones."""
    if len(text) <= _ENOUGH:
        return text
    # Less than a run of base64 would no longer be known as a part of one.
    return text[:_ENOUGH].rstrip(_BASE64)


def clean(text: str, secret: str = "") -> str:
    """Return `text` without non-printables, tokens and base64, cut at 200 characters.

    Args:
        text: What the server wrote.
        secret: The token of this request, masked wherever it is echoed.
    """
    if secret:
        text = text.replace(secret, "***")
    text = enough(text)
    text = _JWT.sub("***", text)
    text = _BEARER.sub(r"\1 ***", text)
    text = _BASE64_RUN.sub("***", text)
    text = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(text.split())[:MAX_TEXT]
