"""What the machine can do at most: bytes read a second, and bf16, float32 and int8 multiplications through torch.

Not here: the measuring (limits_program.py, a process of its own, so that the engine's threads and memory do not disturb
it and nothing outside the device stack imports torch), how the figures are compared (jobs.py).
Door: measure_limits, Limits.
"""

from __future__ import annotations

import os
import subprocess
import sys

import msgspec


class Limits(msgspec.Struct, frozen=True):
    """Best of several tries, with ``num_threads`` threads."""

    read_gb_s: float
    """1e9 bytes a second, summing a buffer far larger than the caches."""
    bf16_gflop_s: float
    float32_gflop_s: float
    num_threads: int
    torch: str
    int8_gop_s: float = 0.0
    """int8 by int8 into int32, with two operations a multiplication, as the others count; 0: this torch has none."""


def measure_limits(num_threads: int = 0) -> Limits:
    """The limits of this machine, measured by a process of its own (about five seconds). 0 threads: as many as cores.

    Raises: RuntimeError with that process' last line when it fails.
    """
    done = subprocess.run(
        [sys.executable, "-m", "quire.bench.limits_program", str(num_threads or len(os.sched_getaffinity(0)))],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"Measuring the machine's limits failed: {done.stderr.strip().splitlines()[-1:]}")
    return msgspec.json.decode(done.stdout, type=Limits)
