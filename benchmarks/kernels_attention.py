"""Attention backends in turns, over scattered blocks, with the machine's limits.

    python benchmarks/kernels_attention.py [--decodes 8x8192,32x1024] [--prefills 32x128,1x512+4096] [--kv fp8]

Decode: GB/s of keys and values, over several layers that do not fit the caches together. Prefill: GF/s, where a query's
work is the keys that it sees. Medians over the rounds, after the plan that all layers share.

Not here: the engine's speed (quire bench).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from kernels_gemm import machine_limits

from quire import plugins
from quire.layers.batch import AttentionBackend, KVLayer, RowSpans
from quire.ops.eight_bits import is_eight_bits, narrowed, stored_width
from quire.ops.native import native

_BYTES = 256 * 2**20
"""Of keys and values that one round of decoding reads at least."""


@dataclass(frozen=True)
class Heads:
    query: int
    kv: int
    size: int


@dataclass(frozen=True)
class Types:
    """Of queries, and of keys and values."""

    query: torch.dtype
    stored: torch.dtype

    def plane(self, shape: tuple[int, int, int, int]) -> torch.Tensor:
        """Random tokens as they are stored, a few thousand of them again and again."""
        tokens = torch.randn(min(4096, shape[0] * shape[1]), *shape[2:])
        stored = narrowed(tokens, self.stored) if is_eight_bits(self.stored) else tokens.to(self.stored)
        repeated = stored.view(torch.uint8).repeat(-(-shape[0] * shape[1] // len(stored)), 1, 1)
        return repeated[: shape[0] * shape[1]].view(self.stored).view(*shape[:3], -1)


class Step:
    """Rows of one length with ``queries`` new tokens each, over as many layers as exceed the caches."""

    def __init__(
        self, heads: Heads, types: Types, block_size: int, rows: int, length: int, queries: int, layers: int
    ) -> None:
        dtype = types.query
        width = -(-length // block_size)
        shape = (rows * width, block_size, heads.kv, heads.size)
        self.kv = [KVLayer(types.plane(shape), types.plane(shape)) for _ in range(layers)]
        self.q_THD = torch.randn(rows * queries, heads.query, heads.size, dtype=dtype)
        self.table_RB = torch.randperm(rows * width).int().view(rows, width)
        self.rows = RowSpans(tuple(range(0, rows * queries + 1, queries)), (length,) * rows)
        self.scale = heads.size**-0.5

    def seconds(self, backend: AttentionBackend) -> float:
        """Of one layer."""
        plan = backend.plan(self.rows, self.table_RB, self.kv[0], window=None)
        plan.attend(self.q_THD, self.kv[0], scale=self.scale, soft_cap=None)
        start = time.perf_counter()
        for kv in self.kv:
            plan.attend(self.q_THD, kv, scale=self.scale, soft_cap=None)
        return (time.perf_counter() - start) / len(self.kv)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--decodes", default="1x8192,8x8192,32x1024", help="rows x tokens of each")
    parser.add_argument("--prefills", default="32x128,1x512,1x1024,1x512+4096", help="rows x tokens + tokens before")
    parser.add_argument("--heads", default="16,8,128", help="query heads, KV heads, head size")
    parser.add_argument("--block-size", type=int, default=16)
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16")
    parser.add_argument("--kv", choices=("fp8", "int8"), help="type of keys and values; default: --dtype")
    parser.add_argument("--backends", default="cpu,torch_sdpa")
    parser.add_argument("--isa", help="portable, avx2, avx512 or avx512bf16; default: the best")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="append a line for each measurement")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    if asked.isa:
        native().use_isa(asked.isa)
    backends: dict[str, AttentionBackend] = {
        name: plugins.load("attention", name).Backend() for name in asked.backends.split(",")
    }
    heads, dtype = Heads(*map(int, asked.heads.split(","))), getattr(torch, asked.dtype)
    types = Types(dtype, {"fp8": torch.float8_e4m3fn, "int8": torch.int8, None: dtype}[asked.kv])
    machine = {"isa": native().isa(), "threads": asked.threads, **machine_limits(asked.threads)}
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    token_bytes = 2 * heads.kv * stored_width(heads.size, types.stored) * types.stored.itemsize
    machine |= {"kv": asked.kv or asked.dtype, "block_size": asked.block_size}
    for case in filter(None, asked.decodes.split(",")):
        batch, context = map(int, case.split("x"))
        size = batch * context * token_bytes
        step = Step(heads, types, asked.block_size, batch, context, 1, _BYTES // size + 1)
        timed = compare(step, backends, asked.rounds)
        figures = {name: size / taken / 1e9 for name, taken in timed.items()}
        tell(f"decode {case}", "GB/s", figures, machine, asked.json)
    for case in filter(None, asked.prefills.split(",")):
        batch, _, tokens = case.partition("x")
        rows, queries, before = int(batch), *(int(x or 0) for x in tokens.partition("+")[::2])
        step = Step(heads, types, asked.block_size, rows, before + queries, queries, 2)
        work = 4 * rows * heads.query * heads.size * (queries * before + queries * (queries + 1) // 2)
        timed = compare(step, backends, asked.rounds)
        figures = {name: work / taken / 1e9 for name, taken in timed.items()}
        tell(f"prefill {case}", "GF/s", figures, machine, asked.json)
    print("limits afterwards:", machine_limits(asked.threads), "load:", os.getloadavg()[0])


def compare(step: Step, backends: dict[str, AttentionBackend], rounds: int) -> dict[str, float]:
    """Seconds of a layer, medians over the rounds, of which the first is for warming up."""
    taken: dict[str, list[float]] = {name: [] for name in backends}
    for turn in range(rounds + 1):
        for name, backend in backends.items():
            seconds = step.seconds(backend)
            if turn:
                taken[name].append(seconds)
    return {name: statistics.median(found) for name, found in taken.items()}


def tell(what: str, unit: str, figures: dict[str, float], machine: dict[str, object], file: Path | None) -> None:
    load = os.getloadavg()[0]
    print(f"{what:24s} | " + " | ".join(f"{name} {figure:7.1f} {unit}" for name, figure in figures.items()), flush=True)
    if file is not None:
        with file.open("a") as lines:
            lines.write(json.dumps({"what": what, "unit": unit, **figures, **machine, "load": load}) + "\n")


if __name__ == "__main__":
    main()
