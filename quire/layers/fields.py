"""A family's own fields of ``config.json``, read with their kinds and bounds checked.

Not here: facts that every family shares (config/card.py), the checks themselves (config/json_fields.py).
Door: fields_of, positive, positive_or_none, cap, reals.
"""

from __future__ import annotations

import math
from pathlib import Path

from quire.config.card import Card
from quire.config.json_fields import Fields

_MAX = 1e12


def fields_of(card: Card) -> Fields:
    """The configuration behind a card."""
    return Fields(Path(card.path, "config.json"), card.config)


def positive(fields: Fields, name: str, default: float | None = None) -> float:
    """A finite number above zero.

    Raises: CheckpointError when it is anything else, or absent without a default.
    """
    value = fields.real(name, 0.0, _MAX, default)
    if value == 0.0:
        raise fields.refuse(name, "a number above 0")
    return value


def positive_or_none(fields: Fields, name: str) -> float | None:
    """A finite number above zero; None where the field is null or absent."""
    return positive(fields, name) if fields.has(name) else None


def cap(fields: Fields, name: str, default: float) -> float | None:
    """A soft cap above zero; null means none, absent means the default."""
    return positive_or_none(fields, name) if name in fields.values else default


def reals(fields: Fields, name: str, count: int) -> list[float]:
    """A list of exactly ``count`` finite numbers above zero.

    Raises: CheckpointError when it is anything else.
    """
    value = fields.values.get(name)
    if not isinstance(value, list) or len(value) != count:
        raise fields.refuse(name, f"a list of {count} numbers")
    if any(
        isinstance(one, bool) or not isinstance(one, int | float) or not math.isfinite(one) or one <= 0 for one in value
    ):
        raise fields.refuse(name, f"a list of {count} numbers above 0")
    return [float(one) for one in value]
