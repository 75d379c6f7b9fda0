"""The seven jobs on which engines are compared, run in turn, beside what the machine could do at most.

Six jobs are batches (``requests x prompt + output``); the seventh is the start: the time from the start of a process
until its engine is ready. A job is run once to warm up, then ``repeat`` times; its figure is the median. Prompts of
1,024 tokens with one token out count prompt tokens, the others output tokens.

Not here: the machine's limits (limits.py), flags (cli/bench.py), measured figures (benchmarks/results/).
Door: PEER_JOBS, run_job, measure_start, ceiling.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping

from msgspec import Struct

from quire.bench.figures import percentile
from quire.bench.limits import Limits
from quire.bench.offline import Batch, Generator, time_batch

PEER_JOBS = (
    Batch(1, 16, 64),
    Batch(8, 128, 64),
    Batch(32, 128, 64),
    Batch(64, 128, 64),
    Batch(1, 1024, 1),
    Batch(4, 1024, 1),
)


class ModelCost(Struct, frozen=True):
    """What one model asks of a machine: bytes of weights read a step, FLOP a token of its body and of its head."""

    weight_bytes: int
    body_flop: float
    head_flop: float


class JobFigure(Struct, frozen=True):
    """A job's figure. ``unit``: "output tokens/s", "prompt tokens/s" or "s".

    ``ceiling`` is the machine's limit in the same unit, None where there is none.
    """

    job: str
    unit: str
    value: float
    runs: tuple[float, ...]
    ceiling: float | None = None


def counts_prompts(batch: Batch) -> bool:
    """Whether the job's figure counts prompt tokens: its output is a single token."""
    return batch.output_len == 1


def name_of(batch: Batch) -> str:
    """The job's name, such as ``8 x 128 + 64``."""
    return f"{batch.num_prompts} x {batch.input_len} + {batch.output_len}"


def run_job(
    engine: Generator, batch: Batch, *, vocab_size: int, repeat: int, ceiling: float | None = None
) -> JobFigure:
    """One warm-up, then the median of ``repeat`` runs; every run has prompts of its own."""
    time_batch(engine, batch, vocab_size=vocab_size, seed=0)
    rates = []
    for seed in range(1, repeat + 1):
        timing = time_batch(engine, batch, vocab_size=vocab_size, seed=seed)
        tokens = timing.num_input_tokens if counts_prompts(batch) else timing.num_output_tokens
        rates.append(tokens / timing.elapsed_s)
    unit = "prompt tokens/s" if counts_prompts(batch) else "output tokens/s"
    return JobFigure(name_of(batch), unit, percentile(sorted(rates), 50), tuple(rates), ceiling)


def ceiling(batch: Batch, cost: ModelCost, limits: Limits, *, is_bf16: bool) -> float:
    """The job's figure on a machine that does nothing but read weights and multiply, at its measured limits.

    A prompt token costs the body's FLOP (the head is needed once a prompt); a decode step costs the larger of reading
    the weights once and computing one token of every row. Reading KV is left out: it is small at these lengths.
    """
    flop_s = (limits.bf16_gflop_s if is_bf16 else limits.float32_gflop_s) * 1e9
    read_s = cost.weight_bytes / (limits.read_gb_s * 1e9)
    prompts_s = (batch.num_input_tokens * cost.body_flop + batch.num_prompts * cost.head_flop) / flop_s
    step_s = max(read_s, batch.num_prompts * (cost.body_flop + cost.head_flop) / flop_s)
    total_s = max(prompts_s, read_s) + (batch.output_len - 1) * step_s
    return (batch.num_input_tokens if counts_prompts(batch) else batch.num_output_tokens) / total_s


_START = """
import json, sys, time
from quire import LLM
LLM(**json.loads(sys.argv[2]))
print("ready", time.monotonic() - float(sys.argv[1]))
"""


def measure_start(options: Mapping[str, object], *, repeat: int) -> JobFigure:
    """Seconds from the start of a Python process until its engine is ready.

    The first of ``repeat + 1`` runs is not counted.

    Raises: RuntimeError with the process' last line when it fails.
    """
    times = []
    for _ in range(repeat + 1):
        command = [sys.executable, "-c", _START, str(time.monotonic()), json.dumps(dict(options))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        ready = [line for line in done.stdout.splitlines() if line.startswith("ready ")]
        if done.returncode or not ready:
            raise RuntimeError(f"The engine did not start: {(done.stderr.strip().splitlines() or ['(silent)'])[-1]}")
        times.append(float(ready[-1].split()[1]))
    counted = times[1:]
    return JobFigure("start", "s", percentile(sorted(counted), 50), tuple(counted))
