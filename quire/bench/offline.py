"""Timing one batch through the offline engine: prompts of random ids, greedy, ends of sequence ignored.

Not here: which batches are worth timing (latency.py, throughput.py, jobs.py).
Door: Batch, Timing, time_batch, Generator.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import Struct

from quire.core.outputs import RequestOutput
from quire.core.params import SamplingParams

Clock = Callable[[], float]


class Generator(Protocol):
    """What is timed: ``quire.LLM``, or something that stands in for it."""

    def generate(
        self, prompts: Sequence[dict[str, list[int]]], sampling_params: SamplingParams, *, use_tqdm: bool = ...
    ) -> list[RequestOutput]:
        """All continuations, in the order of the prompts."""


class Batch(Struct, frozen=True):
    """``num_prompts`` prompts of ``input_len`` ids, each continued by exactly ``output_len`` ids, ``n`` times."""

    num_prompts: int
    input_len: int
    output_len: int
    n: int = 1

    @property
    def num_input_tokens(self) -> int:
        return self.num_prompts * self.input_len

    @property
    def num_output_tokens(self) -> int:
        return self.num_prompts * self.output_len * self.n


class Timing(Struct, frozen=True):
    """How long one batch took, and the tokens that were really counted."""

    elapsed_s: float
    num_input_tokens: int
    num_output_tokens: int


def time_batch(
    engine: Generator,
    batch: Batch,
    *,
    vocab_size: int,
    seed: int,
    detokenize: bool = False,
    clock: Clock = time.perf_counter,
) -> Timing:
    """Run the batch once. Equal seeds give equal prompts.

    Raises: RuntimeError when the engine gave another number of tokens than asked: such a time compares with nothing.
    """
    chance = random.Random(seed)
    prompts = [
        {"prompt_token_ids": [chance.randrange(vocab_size) for _ in range(batch.input_len)]}
        for _ in range(batch.num_prompts)
    ]
    params = SamplingParams(
        n=batch.n, temperature=0.0, max_tokens=batch.output_len, ignore_eos=True, detokenize=detokenize
    )
    begun = clock()
    outputs = engine.generate(prompts, params, use_tqdm=False)
    elapsed_s = clock() - begun
    num_out = sum(len(one.token_ids) for output in outputs for one in output.outputs)
    if num_out != batch.num_output_tokens:
        raise RuntimeError(f"The engine gave {num_out} tokens where {batch.num_output_tokens} were asked.")
    return Timing(elapsed_s, sum(len(output.prompt_token_ids) for output in outputs), num_out)
