"""Drawing without a model: the head is the identity, so that hidden states are logits; and the distributions, written
a second time in numpy.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from msgspec.structs import replace
from torch import Tensor

from quire.config.decided import KVGroup, KVLayout, LinearBackend, WorkerConfig
from quire.core.ids import Row
from quire.core.request import Sampling
from quire.core.step import NewRow, RowResult
from quire.sampling.draw import Draw, Want
from quire.sampling.sampler import Sampler

Floats = npt.NDArray[np.float64]

backend: LinearBackend = "torch"
"""What samples; see conftest.py."""


def worker_config(**changes: object) -> WorkerConfig:
    """A configuration for the CPU; sampling reads its device, its processors and its limits."""
    config = WorkerConfig(
        model_path="",
        device="cpu",
        dtype="float32",
        load_format="dummy",
        layout=KVLayout(block_size=4, groups=(KVGroup(None, (0,)),), layers_per_block=1, bytes_per_block=0),
        num_blocks=64,
        max_num_seqs=8,
        max_num_batched_tokens=64,
        max_model_len=64,
        linear_backend=backend,
    )
    return replace(config, **changes)


def identity(hidden_NV: Tensor) -> Tensor:
    return hidden_NV


def sampler(**changes: object) -> Sampler:
    return Sampler(worker_config(**changes), identity)


def new_row(
    row: int,
    sampling: Sampling,
    token_ids: Sequence[int] = (1,),
    num_prompt_tokens: int = 1,
    sample_index: int = 0,
    min_length: int = 0,
    ends: tuple[int, ...] = (),
) -> NewRow:
    return NewRow(Row(row), tuple(token_ids), num_prompt_tokens, sampling, sample_index, min_length, ends)


def draw_of(new: NewRow) -> Draw:
    known_host = np.array(new.token_ids, dtype=np.int32)
    return Draw(new.row, new.sampling, new.sample_index, known_host, len(known_host), new.num_prompt_tokens)


def sample(rows: Sequence[NewRow], logits_RV: Tensor, by: Sampler | None = None) -> tuple[RowResult, ...]:
    """Results of rows that have just entered; line i of the logits is for row i."""
    by = by or sampler()
    for new in rows:
        by.enter(new)
    return by.sample(logits_RV, [Want(new.row, line, draw_of(new)) for line, new in enumerate(rows)])


def counts(new: NewRow, logits_V: Tensor, *, by: Sampler | None = None, rows: int = 256, rounds: int = 80) -> Floats:
    """How often each token is drawn in ``rows * rounds`` draws that differ in seed and sample index alone."""
    by = by or sampler()
    seeded = [replace(new.sampling, seed=1000 + row) for row in range(rows)]
    for row, sampling in enumerate(seeded):
        by.enter(replace(new, row=Row(row), sampling=sampling))
    logits_RV = logits_V.expand(rows, -1)
    known_host = np.array(new.token_ids, dtype=np.int32)
    found = np.zeros(len(logits_V))
    for index in range(rounds):
        wants = [
            Want(Row(row), row, Draw(Row(row), sampling, index, known_host, len(known_host), new.num_prompt_tokens))
            for row, sampling in enumerate(seeded)
        ]
        for result in by.sample(logits_RV, wants):
            found[result.token_ids[0]] += 1
    return found


def probabilities(new: NewRow, logits_V: Tensor) -> Floats:
    """What the tokens' probabilities should be, by the order of work that the documentation gives, in float64."""
    asked, known = new.sampling, list(new.token_ids)
    x = logits_V.numpy().astype(np.float64)
    if asked.allowed_token_ids:
        x = np.where(np.isin(np.arange(len(x)), asked.allowed_token_ids), x, -np.inf)
    for word in asked.bad_words_ids:
        if known[len(known) - len(word) + 1 :] == list(word[:-1]):
            x[word[-1]] = -np.inf
    if len(known) < new.min_length:
        x[list(new.masked_until_min)] = -np.inf
    for token_id, bias in asked.logit_bias:
        x[token_id] += bias
    output = known[new.num_prompt_tokens :]
    for token_id in set(known):
        x[token_id] = (
            x[token_id] / asked.repetition_penalty if x[token_id] > 0 else x[token_id] * asked.repetition_penalty
        )
    for token_id in set(output):
        x[token_id] -= asked.frequency_penalty * output.count(token_id) + asked.presence_penalty
    p = softmax(x / asked.temperature)
    p = np.where(p >= asked.min_p * p.max() * (1 - 1e-9), p, 0.0)
    line = sorted(range(len(p)), key=lambda token_id: (-p[token_id], token_id))
    if asked.top_k:
        p[line[asked.top_k :]] = 0.0
    p /= p.sum()
    mass = 0.0
    for token_id in line:
        if mass >= asked.top_p:
            p[token_id] = 0.0
        mass += p[token_id]
    p /= p.sum()
    return p


def softmax(x: Floats) -> Floats:
    weights = np.exp(x - x.max())
    normalised: Floats = weights / weights.sum()
    return normalised


def random_logits(rows: int, size: int, seed: int = 0, scale: float = 2.0) -> Tensor:
    logits: Tensor = torch.randn(rows, size, generator=torch.Generator().manual_seed(seed)) * scale
    return logits
