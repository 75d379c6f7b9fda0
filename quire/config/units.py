"""Bytes and tokens as people read them.

Door: in_bytes.
"""

from __future__ import annotations


def in_bytes(count: float) -> str:
    """A number of bytes with the unit that suits it, such as 1.50 GiB."""
    for unit, size in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if abs(count) >= size:
            return f"{count / size:.2f} {unit}"
    return f"{int(count)} bytes"
