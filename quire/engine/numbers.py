"""Numbers that are gathered in plain lists and become Prometheus families when somebody reads them.

Not here: which series there are (metrics.py). Door: Histogram, HttpNumbers.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

HTTP_S = (0.1, 0.5, 1.0)


class Histogram:
    """Counts of values by bucket. Invariant: one more count than bounds, the last for what exceeds them all."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0

    @property
    def count(self) -> int:
        """How many values."""
        return sum(self._counts)

    @property
    def total(self) -> float:
        """Their sum."""
        return self._sum

    def observe(self, value: float) -> None:
        """One value; a bound belongs to its own bucket."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def add_to(self, family: HistogramMetricFamily, labels: Sequence[str]) -> None:
        """Give the counts, cumulated, to a family."""
        buckets, total = [], 0
        for bound, count in zip((*self._bounds, float("inf")), self._counts, strict=True):
            total += count
            buckets.append(("+Inf" if bound == float("inf") else str(float(bound)), float(total)))
        family.add_metric(labels, buckets, self._sum)


class HttpNumbers:
    """Counts and times of HTTP exchanges. Its labels come from closed sets, so that nothing a client sends makes a
    series.
    """

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, str], int] = {}
        self._times: dict[tuple[str, str], Histogram] = {}

    def note(self, handler: str, method: str, status: str, seconds: float) -> None:
        """One exchange."""
        key = (handler, method, status)
        self._counts[key] = self._counts.get(key, 0) + 1
        times = self._times.get((handler, method))
        if times is None:
            times = self._times[(handler, method)] = Histogram(HTTP_S)
        times.observe(seconds)

    def families(self) -> Iterator[Metric]:
        """As Prometheus families."""
        counts = CounterMetricFamily("http_requests", "HTTP exchanges.", labels=("handler", "method", "status"))
        for key, count in self._counts.items():
            counts.add_metric(key, count)
        yield counts
        times = HistogramMetricFamily(
            "http_request_duration_seconds",
            "Time of HTTP exchanges, streams to their end.",
            labels=("handler", "method"),
        )
        for labels, histogram in self._times.items():
            histogram.add_to(times, labels)
        yield times
