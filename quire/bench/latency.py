"""How long one batch takes, again and again.

Not here: many requests that arrive over time (serve.py).
Door: measure_latency.
"""

from __future__ import annotations

from msgspec import Struct

from quire.bench.figures import percentile
from quire.bench.offline import Batch, Generator, time_batch

PERCENTILES = (10, 25, 50, 75, 90, 99)


class Latency(Struct, frozen=True):
    """Seconds a batch, in the keys that the field's latency benchmarks write."""

    avg_latency: float
    latencies: list[float]
    percentiles: dict[str, float]


def measure_latency(
    engine: Generator, batch: Batch, *, vocab_size: int, num_warmups: int, num_iterations: int, detokenize: bool = True
) -> Latency:
    """The batch's latencies after some runs that are not counted. Every run has prompts of its own."""
    times = [
        time_batch(engine, batch, vocab_size=vocab_size, seed=seed, detokenize=detokenize).elapsed_s
        for seed in range(num_warmups + num_iterations)
    ][num_warmups:]
    ordered = sorted(times)
    return Latency(sum(times) / len(times), times, {str(p): percentile(ordered, p) for p in PERCENTILES})
