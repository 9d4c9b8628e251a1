"""Measurements of what crosses a socket, beside rivals on the same server."""
