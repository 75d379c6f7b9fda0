"""The book of decisions: each decided value with its origin and its reason.

Not here: the deciding (resolve.py).
Door: Ledger.
"""

from __future__ import annotations

from collections.abc import Mapping

from quire.config.decision import Decision


class Ledger:
    """Collects decisions in the order in which they are made, and notices for the user."""

    def __init__(self, origins: Mapping[str, str]) -> None:
        self._origins = origins
        self.decisions: list[Decision] = []
        self.notices: list[str] = []

    def note(self, name: str, value: object, reason: str, *, source: str = "default") -> None:
        """Write down one value. What was asked for names its flag as the origin; anything else names ``source``."""
        self.decisions.append(Decision(name, str(value), self._origins.get(name, source), reason))

    def warn(self, notice: str) -> None:
        """One line that the user should see once."""
        self.notices.append(notice)
