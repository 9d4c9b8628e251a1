"""Reading the body of a request."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from ._answers import load_json

# A picture of 20 MiB as base64, with room for the other fields.
MAX_BODY_BYTES = 32 * 1024 * 1024


async def read_body(request: web.BaseRequest) -> bytes | None:
    """Read a request's body; None when it is too large."""
    if (request.content_length or 0) > MAX_BODY_BYTES:
        return None
    expect = request.headers.get("Expect")
    if expect and expect.lower() == "100-continue" and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    size = 0
    parts = []
    while part := await request.content.readany():
        size += len(part)
        if size > MAX_BODY_BYTES:
            return None
        parts.append(part)
    return b"".join(parts)


def parse_fields(content_type: str, body: bytes) -> Mapping[str, Any] | None:
    """Return the fields of a JSON body; None when it is malformed.

    Bodies of other types, and JSON that is no object, have no fields: a server of this
    kind does not look into them and then misses every parameter.
    """
    if not body or not content_type.lower().startswith("application/json"):
        return {}
    try:
        fields = load_json(body)
    except ValueError:
        return None
    return fields if isinstance(fields, dict) else {}
