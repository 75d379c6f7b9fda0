"""Quire's products with quantised weights against torch's own, in turns, with the machine's limits.

    python -m benchmarks.kernels_quantized [--columns 6144 --depth 1024] [--rows 1,8,64] [--forms w8,w4] [--json FILE]

Forms: w8 and w4 are 8 and 4 bits (in groups of 128) with inputs as they are, w4z has zero points; w8a8, w4a8 and w4za8
round the inputs to 8 bits. Each round times every variant once over weights that do not fit the caches together; the
table has medians.

Not here: the engine's speed (quire bench), how much a model loses by it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.kernels_gemm import machine_limits
from quire.ops.gemm_native import NativeGemm
from quire.ops.native import native
from quire.ops.quantized import Codes, Form
from quire.ops.quantized_native import NativeQuantizedGemm

FORMS = {
    "w8": Form(8),
    "w4": Form(4, 128),
    "w4z": Form(4, 128, zero_points=True),
    "w8a8": Form(8, int8_inputs=True),
    "w4a8": Form(4, 128, int8_inputs=True),
    "w4za8": Form(4, 128, zero_points=True, int8_inputs=True),
}
_BYTES = 96 * 2**20
"""Of weights that one round reads: more than any cache of a desktop."""
_WORK = 40e9
"""Multiply-adds that one round does at most, but for one weight."""

Run = Callable[[], None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--columns", type=int, default=6144)
    parser.add_argument("--depth", type=int, default=1024)
    parser.add_argument("--rows", default="1,4,8,16,32,64,256")
    parser.add_argument("--forms", default=",".join(FORMS))
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16")
    parser.add_argument("--isa", help="portable, avx2, avx512 or avx512bf16; default: the best")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--own", action="store_true", help="without torch's kernels")
    parser.add_argument("--json", type=Path, help="append a line for each form and number of rows")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    if asked.isa:
        native().use_isa(asked.isa)
    machine = {"isa": native().isa(), "threads": asked.threads, "load": os.getloadavg()[0]}
    machine |= machine_limits(asked.threads)
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    print(f"{asked.columns} x {asked.depth}, x in {asked.dtype}; GB/s of weights and GF/s, medians")
    for name in asked.forms.split(","):
        for rows in map(int, asked.rows.split(",")):
            x = torch.randn(rows, asked.depth).to(getattr(torch, asked.dtype))
            timed = compare(FORMS[name], asked.columns, x, asked.rounds, only_own=asked.own)
            show(name, rows, asked.columns * asked.depth, timed)
            if asked.json:
                line = {"form": name, "rows": rows, "columns": asked.columns, "depth": asked.depth, **machine}
                with asked.json.open("a") as file:
                    file.write(json.dumps({**line, "timed": timed}) + "\n")


def compare(form: Form, columns: int, x: Tensor, rounds: int, *, only_own: bool) -> dict[str, tuple[float, int]]:
    """Seconds a product, medians over the rounds, and the bytes of a weight."""
    rows, depth = x.shape
    size = columns * depth * form.bits // 8
    count = max(1, min(_BYTES // size + 1, int(_WORK / (2 * rows * columns * depth))))
    codes = [_drawn(columns, depth, form) for _ in range(count)]
    variants = {"own": _own(codes, form, x)}
    if not only_own:
        variants |= _torchs(codes, form, x)
    taken: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(rounds + 1):
        for name, (run, _) in variants.items():
            start = time.perf_counter()
            run()
            if turn:  # the first is for warming up
                taken[name].append((time.perf_counter() - start) / count)
    return {name: (statistics.median(taken[name]), num_bytes) for name, (_, num_bytes) in variants.items()}


def _drawn(columns: int, depth: int, form: Form) -> Codes:
    groups = form.num_groups(depth)
    low, high, kind = (-127, 128, torch.int8) if form.bits == 8 else (0, 16, torch.uint8)
    codes_NK = torch.randint(low, high, (columns, depth), dtype=kind)
    zeros_NG = torch.randint(0, 16, (columns, groups), dtype=torch.uint8) if form.zero_points else None
    return Codes(codes_NK, torch.rand(columns, groups) * 1e-3 + 1e-4, zeros_NG)


def _own(codes: list[Codes], form: Form, x: Tensor) -> tuple[Run, int]:
    gemm = NativeQuantizedGemm()
    packed = [gemm.pack(weight, form) for weight in codes]

    def run() -> None:
        for weight in packed:
            gemm.multiply(x, weight)

    return run, packed[0].num_bytes


def _torchs(codes: list[Codes], form: Form, x: Tensor) -> dict[str, tuple[Run, int]]:
    """What torch has for the same bits, and Quire's own product with weights in bfloat16."""
    found = {"bf16": _unquantised(codes, x)} if x.dtype == torch.bfloat16 else {}
    if x.dtype == torch.bfloat16 and form.bits == 8:
        scales = [weight.scales_NG[:, 0].to(x.dtype) for weight in codes]

        def int8() -> None:
            for weight, scale in zip(codes, scales, strict=True):
                torch._weight_int8pack_mm(x, weight.codes_NK, scale)

        found["int8pack"] = (int8, codes[0].codes_NK.numel())
    if x.dtype == torch.bfloat16 and form.bits == 4 and form.group is not None:
        pack, product = torch.ops.aten._convert_weight_to_int4pack_for_cpu, torch.ops.aten._weight_int4pack_mm_for_cpu
        packed = [pack(weight.codes_NK.int(), 2) for weight in codes]
        scales = [_scales_and_zeros(weight).to(x.dtype) for weight in codes]
        group = form.group

        def int4() -> None:
            for weight, scale in zip(packed, scales, strict=True):
                product(x, weight, group, scale)

        found["int4pack"] = (int4, packed[0].numel() + scales[0].numel() * 2)
    return found


def _unquantised(codes: list[Codes], x: Tensor) -> tuple[Run, int]:
    gemm, columns = NativeGemm(), codes[0].codes_NK.shape[0]
    packed = [gemm.pack(weight.codes_NK.to(x.dtype)) for weight in codes[: len(codes) // 2 + 1]]

    def run() -> None:
        for turn in range(len(codes)):
            gemm.multiply(x, packed[turn % len(packed)], columns)

    return run, packed[0].numel() * 2


def _scales_and_zeros(weight: Codes) -> Tensor:
    """As torch wants them: ``[G, N, 2]``."""
    scales_GN = weight.scales_NG.T
    return torch.stack((scales_GN, torch.zeros_like(scales_GN)), dim=-1).contiguous()


def show(name: str, rows: int, numbers: int, timed: dict[str, tuple[float, int]]) -> None:
    own = timed["own"][0]
    cells = []
    for variant, (taken, num_bytes) in timed.items():
        ratio = "" if variant == "own" else f" (own {taken / own:.2f} x)"
        speeds = f"{num_bytes / taken / 1e9:5.1f} GB/s {2 * rows * numbers / taken / 1e9:5.0f} GF/s"
        cells.append(f"{variant} {speeds}{ratio}")
    print(f"{name:5s} rows {rows:4d} | " + " | ".join(cells), flush=True)


if __name__ == "__main__":
    main()
