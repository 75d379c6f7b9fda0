"""How many tokens a second when everything is asked at once.

Not here: the jobs that are compared with peers (jobs.py).
Door: measure_throughput.
"""

from __future__ import annotations

from msgspec import Struct

from quire.bench.offline import Batch, Generator, time_batch


class Throughput(Struct, frozen=True):
    """In the field's usual keys; ``tokens_per_second`` counts prompt and output tokens."""

    elapsed_time: float
    num_requests: int
    total_num_tokens: int
    requests_per_second: float
    tokens_per_second: float
    output_tokens_per_second: float


def measure_throughput(
    engine: Generator, batch: Batch, *, vocab_size: int, seed: int = 0, num_warmups: int = 1, detokenize: bool = True
) -> Throughput:
    """One timed run of the batch after ``num_warmups`` short ones (a few prompts, a few tokens)."""
    short = Batch(min(batch.num_prompts, 4), batch.input_len, min(batch.output_len, 4), batch.n)
    for number in range(num_warmups):
        time_batch(engine, short, vocab_size=vocab_size, seed=seed + 1 + number, detokenize=detokenize)
    timing = time_batch(engine, batch, vocab_size=vocab_size, seed=seed, detokenize=detokenize)
    total = timing.num_input_tokens + timing.num_output_tokens
    return Throughput(
        elapsed_time=timing.elapsed_s,
        num_requests=batch.num_prompts,
        total_num_tokens=total,
        requests_per_second=batch.num_prompts / timing.elapsed_s,
        tokens_per_second=total / timing.elapsed_s,
        output_tokens_per_second=timing.num_output_tokens / timing.elapsed_s,
    )
