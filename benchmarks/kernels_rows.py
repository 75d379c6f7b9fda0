"""What the row kernels and native sampling cost, against torch on the same machine, in turns.

Times are those of the thread's own processor, one thread, so that other programs disturb little; medians of the
rounds. Usage: ``OMP_NUM_THREADS=1 python benchmarks/kernels_rows.py [--rows 1 64 512] [--rounds 9]``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch.nn import functional

from quire.config.decided import KVGroup, KVLayout, LinearBackend, WorkerConfig
from quire.core.ids import Row
from quire.core.request import Sampling
from quire.core.step import NewRow
from quire.ops.activation import gated
from quire.ops.norm import add_and_norm
from quire.ops.rotary import HeadNorms, turn_heads
from quire.ops.rows_native import NativeRowKernels
from quire.sampling.draw import Draw, Want
from quire.sampling.sampler import Sampler

SIZE, INNER, HEADS, KV_HEADS, HEAD_SIZE, VOCAB = 1024, 3072, 16, 8, 128, 151_936
"""Shapes of Qwen3-0.6B."""

Pair = tuple[str, Callable[[], object], Callable[[], object]]

ASKED = {
    "greedy": Sampling(seed=0, temperature=0.0),
    "temperature": Sampling(seed=0, temperature=0.8),
    "top_p": Sampling(seed=0, temperature=0.8, top_p=0.95),
    "top_k": Sampling(seed=0, temperature=0.8, top_k=50),
    "top_p + top_k": Sampling(seed=0, temperature=0.8, top_p=0.95, top_k=50),
    "min_p": Sampling(seed=0, temperature=0.8, min_p=0.05),
    "greedy, 5 logprobs": Sampling(seed=0, temperature=0.0, num_logprobs=5),
    "greedy, penalties": Sampling(seed=0, temperature=0.0, frequency_penalty=0.5, repetition_penalty=1.1),
}


def kernels(num_rows: int) -> Iterator[Pair]:
    """Each operation by kernel and by torch."""
    dtype = torch.bfloat16
    native = NativeRowKernels(dtype)
    weight, head_weight = torch.ones(SIZE, dtype=dtype), torch.ones(HEAD_SIZE, dtype=dtype)
    norms = HeadNorms(head_weight, head_weight, 1e-6, False)
    x, added = torch.randn(num_rows, SIZE).to(dtype), torch.zeros(num_rows, SIZE, dtype=dtype)
    heads = torch.randn(num_rows, HEADS + 2 * KV_HEADS, HEAD_SIZE).to(dtype)
    angles = torch.randn(num_rows, HEAD_SIZE // 2)
    rotation = (angles.cos(), angles.sin())
    gate_up = torch.randn(num_rows, 2 * INNER).to(dtype)
    norm, gate = native.norm(weight, 1e-6, plus_one=False), native.gate("silu")
    yield "norm", lambda: norm(x, None), lambda: add_and_norm(x, None, weight, 1e-6)
    yield "add + norm", lambda: norm(x, added), lambda: add_and_norm(x, added, weight, 1e-6)
    for name, of in (("rotate", None), ("head norms + rotate", norms)):
        turn = native.turn_heads(HEADS, KV_HEADS, HEAD_SIZE, of)
        yield (
            name,
            lambda turn=turn: turn(heads, rotation),  # type: ignore[misc]
            lambda of=of: turn_heads(heads, rotation, HEADS, KV_HEADS, of),  # type: ignore[misc]
        )
    yield "silu * up", lambda: gate(gate_up), lambda: gated(gate_up, functional.silu)


def samplers(num_rows: int) -> Iterator[Pair]:
    """Each way of sampling by kernel and by torch, on smooth random logits: the worst case for top-p."""
    logits = torch.randn(num_rows, VOCAB, generator=torch.Generator().manual_seed(0)) * 2.5
    for name, asked in ASKED.items():
        yield name, _sample("native", asked, logits), _sample("torch", asked, logits)


def _sample(backend: LinearBackend, asked: Sampling, logits_RV: torch.Tensor) -> Callable[[], object]:
    num_rows = len(logits_RV)
    config = WorkerConfig(
        model_path="",
        device="cpu",
        dtype="float32",
        load_format="dummy",
        layout=KVLayout(block_size=16, groups=(KVGroup(None, (0,)),), layers_per_block=1, bytes_per_block=0),
        num_blocks=1,
        max_num_seqs=num_rows,
        max_num_batched_tokens=num_rows,
        max_model_len=4096,
        linear_backend=backend,
    )
    sampler = Sampler(config, lambda hidden: hidden)
    known_host = (np.arange(2000, dtype=np.int32) * 7) % VOCAB
    for row in range(num_rows):
        sampler.enter(NewRow(Row(row), tuple(known_host.tolist()), 1000, asked))

    def step() -> object:
        draws = (Draw(Row(row), asked, 0, known_host, len(known_host), 1000) for row in range(num_rows))
        return sampler.sample(logits_RV, [Want(draw.row, line, draw) for line, draw in enumerate(draws)])

    return step


def compare(pairs: Iterator[Pair], num_rows: int, rounds: int) -> None:
    """Prints one line a pair, in microseconds."""
    for name, native, by_torch in pairs:
        native(), by_torch()
        taken: list[tuple[float, float]] = []
        for _ in range(rounds):
            first = _time_us(native)
            taken.append((first, _time_us(by_torch)))
        ours, theirs = (statistics.median(column) for column in zip(*taken, strict=True))
        ratio = theirs / ours
        print(f"{num_rows:5} rows  {name:22} native {ours:10.1f}  torch {theirs:10.1f}  x {ratio:6.1f}", flush=True)


def _time_us(call: Callable[[], object]) -> float:
    """Of one call; short ones are repeated."""
    begun, count = time.thread_time(), 0
    while time.thread_time() - begun < 0.002:
        call()
        count += 1
    return (time.thread_time() - begun) / count * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 64, 512])
    parser.add_argument("--rounds", type=int, default=9)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with torch.inference_mode():
        for num_rows in asked.rows:
            compare(kernels(num_rows), num_rows, asked.rounds)
        for num_rows in asked.rows:
            if num_rows <= 64:
                compare(samplers(num_rows), num_rows, asked.rounds)


if __name__ == "__main__":
    main()
