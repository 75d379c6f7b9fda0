"""Numbers about many numbers: mean, median, spread and percentiles.

Not here: what was measured.
Door: Summary, summarize, percentile.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec import Struct


class Summary(Struct, frozen=True):
    """Mean, median, standard deviation (of the values themselves, not of a sample) and percentiles, in their unit."""

    mean: float
    median: float
    std: float
    percentiles: tuple[tuple[float, float], ...]
    """Pairs (p, value) with 0 < p <= 100, in the order asked."""


def summarize(values: Sequence[float], percentiles: Sequence[float] = ()) -> Summary:
    """The summary of the values; all zeros where there are none, as the field's other benchmarks print it."""
    if not values:
        return Summary(0.0, 0.0, 0.0, tuple((p, 0.0) for p in percentiles))
    mean = math.fsum(values) / len(values)
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
    ordered = sorted(values)
    found = tuple((p, percentile(ordered, p)) for p in percentiles)
    return Summary(mean, percentile(ordered, 50), spread, found)


def percentile(ordered: Sequence[float], p: float) -> float:
    """The p-th percentile of values in rising order, linear between neighbours.

    Raises: ValueError without values or with p outside 0..100.
    """
    if not ordered or not 0 <= p <= 100:
        raise ValueError(f"percentile {p} of {len(ordered)} values: p is from 0 to 100 and there must be a value")
    place = (len(ordered) - 1) * p / 100
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def name_of(p: float) -> str:
    """How a percentile is named in results: 99.0 is "p99", 99.9 is "p99.9"."""
    return f"p{p:g}"
