"""Measures the machine's limits: ``python -m quire.bench.limits_program THREADS`` prints one line of JSON.

Not here: who starts it and reads the line (limits.py).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial

import msgspec
import torch

from quire.bench.limits import Limits

_READ_BYTES = 1 << 30
_GEMM_SIZE = 2048


def _best_seconds(work: Callable[[], object], tries: int) -> float:
    work()
    best = float("inf")
    for _ in range(tries):
        begun = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - begun)
    return best


def _measure(num_threads: int) -> Limits:
    torch.set_num_threads(num_threads)
    read_s = float("inf")
    for dtype in (torch.int64, torch.float32):
        buffer = torch.ones(_READ_BYTES // dtype.itemsize, dtype=dtype)
        read_s = min(read_s, _best_seconds(buffer.sum, tries=7))
        del buffer
    flop = 2 * _GEMM_SIZE**3
    rates = {}
    for dtype in (torch.bfloat16, torch.float32):
        left, right = (torch.randn(_GEMM_SIZE, _GEMM_SIZE).to(dtype) for _ in range(2))
        rates[dtype] = flop / _best_seconds(partial(torch.mm, left, right), tries=9) / 1e9
    return Limits(
        read_gb_s=round(_READ_BYTES / read_s / 1e9, 2),
        bf16_gflop_s=round(rates[torch.bfloat16], 1),
        float32_gflop_s=round(rates[torch.float32], 1),
        num_threads=num_threads,
        torch=str(torch.__version__),
        int8_gop_s=round(_int8_gop_s(), 1),
    )


def _int8_gop_s() -> float:
    """Through the one product of int8 matrices that torch has; its name is private, so it may be gone one day."""
    multiply: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = getattr(torch, "_int_mm", None)
    if multiply is None:
        return 0.0
    left, right = (torch.randint(-127, 128, (_GEMM_SIZE, _GEMM_SIZE), dtype=torch.int8) for _ in range(2))
    return 2 * _GEMM_SIZE**3 / _best_seconds(partial(multiply, left, right), tries=9) / 1e9


if __name__ == "__main__":
    print(msgspec.json.encode(_measure(int(sys.argv[1]))).decode())
