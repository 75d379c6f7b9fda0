"""Quire's products with packed weights against torch's own and oneDNN's, in turns, with the machine's limits.

    python benchmarks/kernels_gemm.py [--columns 6144 --depth 1024] [--rows 1,8,64] [--dtype bfloat16] [--json FILE]

Each round times every variant once over weights that do not fit the caches together; the table has medians.

Not here: the engine's speed (quire bench).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from quire.ops.gemm_native import NativeGemm
from quire.ops.native import native

_BYTES = 256 * 2**20
"""Of weights that one round reads: more than any cache of a desktop."""
_WORK = 60e9
"""Multiply-adds that one round does at most, but for one weight."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--columns", type=int, default=6144)
    parser.add_argument("--depth", type=int, default=1024)
    parser.add_argument("--rows", default="1,4,8,16,32,64,256,1024")
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16")
    parser.add_argument("--isa", help="portable, avx2, avx512 or avx512bf16; default: the best")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="append a line for each number of rows")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    if asked.isa:
        native().use_isa(asked.isa)
    limits = machine_limits(asked.threads)
    machine = {"isa": native().isa(), "threads": asked.threads, "load": os.getloadavg()[0], **limits}
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    print(f"{asked.columns} x {asked.depth} {asked.dtype}; GB/s of weights and GF/s, medians; ratio: own / other")
    for rows in map(int, asked.rows.split(",")):
        timed = compare(asked.columns, asked.depth, rows, getattr(torch, asked.dtype), asked.rounds)
        show(rows, asked.columns, asked.depth, 4 if asked.dtype == "float32" else 2, timed)
        if asked.json:
            line = {"rows": rows, "columns": asked.columns, "depth": asked.depth, "dtype": asked.dtype, **machine}
            with asked.json.open("a") as file:
                file.write(json.dumps({**line, "seconds": timed}) + "\n")


def machine_limits(threads: int) -> dict[str, float]:
    """What machine_limits.cpp finds; nothing without a compiler."""
    compiler = shutil.which("c++")
    if compiler is None:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        program, source = Path(folder) / "limits", Path(__file__).with_name("machine_limits.cpp")
        subprocess.run([compiler, "-O3", "-march=native", "-fopenmp", str(source), "-o", str(program)], check=True)
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        found = subprocess.run([str(program)], capture_output=True, text=True, check=True, env=environment)
    limits: dict[str, float] = json.loads(found.stdout)
    return limits


def compare(columns: int, depth: int, rows: int, dtype: torch.dtype, rounds: int) -> dict[str, float]:
    """Seconds a product, medians over the rounds."""
    size = columns * depth * dtype.itemsize
    count = max(1, min(_BYTES // size + 1, int(_WORK / (2 * rows * columns * depth))))
    weights = [torch.randn(columns, depth).mul_(0.02).to(dtype) for _ in range(count)]
    x = torch.randn(rows, depth).to(dtype)
    variants = {name: make(weights, x, columns) for name, make in _VARIANTS.items() if _serves(name, dtype)}
    taken: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(rounds + 1):
        for name, run in variants.items():
            start = time.perf_counter()
            run()
            if turn:  # the first is for warming up
                taken[name].append((time.perf_counter() - start) / count)
    return {name: statistics.median(found) for name, found in taken.items()}


def _own(weights: list[Tensor], x: Tensor, columns: int) -> Callable[[], None]:
    gemm = NativeGemm()
    packed = [gemm.pack(weight.clone()) for weight in weights]

    def run() -> None:
        for weight in packed:
            gemm.multiply(x, weight, columns)

    return run


def _one_dnn(weights: list[Tensor], x: Tensor, columns: int) -> Callable[[], None]:
    packed = [torch.ops.mkldnn._reorder_linear_weight(weight, None) for weight in weights]

    def run() -> None:
        for weight in packed:
            torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")

    return run


def _plain(weights: list[Tensor], x: Tensor, columns: int) -> Callable[[], None]:
    def run() -> None:
        for weight in weights:
            functional.linear(x, weight)

    return run


_VARIANTS = {"own": _own, "oneDNN": _one_dnn, "linear": _plain}


def _serves(name: str, dtype: torch.dtype) -> bool:
    # oneDNN takes float16 only where the processor computes in it.
    return name != "oneDNN" or dtype != torch.float16


def show(rows: int, columns: int, depth: int, element: int, timed: dict[str, float]) -> None:
    gigabytes, work = columns * depth * element / 1e9, 2 * rows * columns * depth / 1e9
    cells = [f"{name} {gigabytes / taken:6.1f} GB/s {work / taken:6.0f} GF/s" for name, taken in timed.items()]
    ratios = [f"{timed[name] / timed['own']:.2f} x {name}" for name in timed if name != "own"]
    print(f"rows {rows:5d} | " + " | ".join(cells) + " | " + ", ".join(ratios))


if __name__ == "__main__":
    main()
