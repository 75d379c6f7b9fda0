"""One decided value, with where it came from and why.

Door: Decision.
"""

from __future__ import annotations

from msgspec import Struct


class Decision(Struct, frozen=True):
    """One decided value. ``origin``: a flag, a file, an argument, checkpoint, machine or default."""

    name: str
    value: str
    origin: str
    reason: str
