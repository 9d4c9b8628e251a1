"""Measurements of what needs no socket: `python -m pytest benchmarks/micro`."""
