from __future__ import annotations

import numpy as np
import pytest
import torch

from quire.core.request import Sampling
from quire.sampling.stages.top_k_top_p import Stage
from tests.unit.sampling.drawing import Floats, draw_of, new_row, softmax, worker_config


def kept(logits: Floats, top_k: int = 0, top_p: float = 1.0) -> list[int]:
    stage, new = Stage(worker_config()), new_row(0, Sampling(seed=0, top_k=top_k, top_p=top_p))
    stage.enter(new)
    changed = torch.from_numpy(logits.astype(np.float32))[None].clone()
    stage.apply(changed, [draw_of(new)])
    is_kept = torch.isfinite(changed[0]).numpy()
    assert np.array_equal(changed[0].numpy()[is_kept], logits.astype(np.float32)[is_kept])
    return np.flatnonzero(is_kept).tolist()


def expected(logits: Floats, top_k: int = 0, top_p: float = 1.0) -> list[int]:
    """One token after the other, in exact order."""
    line = sorted(np.flatnonzero(np.isfinite(logits)).tolist(), key=lambda token_id: (-logits[token_id], token_id))
    line = line[:top_k] if top_k else line
    if top_p < 1.0:
        mass = np.concatenate(([0.0], np.cumsum(softmax(logits[line]))[:-1]))
        line = [token_id for token_id, before in zip(line, mass, strict=True) if before < top_p - 1e-9]
    return sorted(line)


@pytest.mark.parametrize("levels", [1, 3, 40, 10**6])
@pytest.mark.parametrize("size", [1, 2, 17, 700, 5000])
def test_the_kept_tokens_are_the_first_of_the_line_even_between_equal_ones(levels: int, size: int) -> None:
    chance = np.random.default_rng(size + levels)
    for _ in range(12):
        logits = chance.integers(0, levels, size).astype(np.float64) * (6.0 / levels)
        logits[chance.random(size) < 0.1] = -np.inf
        logits[chance.integers(size)] = 6.5
        top_k, top_p = int(chance.integers(1, size + 2)), float(np.round(chance.uniform(0.01, 0.999), 3)) + 0.000137
        assert kept(logits, top_k=top_k) == expected(logits, top_k=top_k)
        assert kept(logits, top_p=top_p) == expected(logits, top_p=top_p)
        assert kept(logits, top_k, top_p) == expected(logits, top_k, top_p)


def test_one_token_is_always_kept() -> None:
    logits = np.array([0.0, 50.0, 1.0])
    assert kept(logits, top_p=1e-9) == [1]
    assert kept(np.zeros(5), top_p=1e-9) == [0]


def test_half_of_a_flat_line_reaches_a_half() -> None:
    assert kept(np.zeros(10), top_p=0.5) == [0, 1, 2, 3, 4]
    assert kept(np.zeros(1024), top_p=0.25) == list(range(256))


@pytest.mark.parametrize("top_p", [1 - 2**-53, 1 - 1e-12, 0.999999])
def test_a_mass_next_to_one_keeps_every_token_that_matters(top_p: float) -> None:
    logits = np.random.default_rng(1).normal(size=3000)
    assert len(kept(logits, top_p=top_p)) >= 2990


def test_p_of_one_and_k_of_the_vocabulary_are_off() -> None:
    logits = np.random.default_rng(1).normal(size=300) * 30
    assert len(kept(logits, top_k=300)) == len(kept(logits, top_k=10**9)) == 300


def test_top_p_counts_the_mass_that_top_k_left() -> None:
    logits = np.log(np.array([0.2, 0.2, 0.1, 0.5]))
    assert kept(logits, top_k=3, top_p=0.5) == [3]
    assert kept(logits, top_k=3, top_p=0.6) == [0, 3]
    assert kept(logits, top_p=0.6) == [0, 3]
    assert kept(logits, top_p=0.75) == [0, 1, 3]
    assert kept(logits, top_k=2, top_p=0.7) == [3]
    assert kept(logits, top_p=0.5 + 1e-5) == [0, 3]
