from __future__ import annotations

import numpy as np
import torch
from scipy.stats import kstest  # type: ignore[import-untyped]

from quire.sampling.noise import tokens_at, uniforms
from tests.unit.sampling.drawing import random_logits

WORD = (1 << 64) - 1


def finalised(state: int) -> int:
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & WORD
    return state ^ (state >> 31)


def by_hand(*integers: int) -> float:
    state = 0
    for integer in integers:
        state = finalised((state + 0x9E3779B97F4A7C15 + integer) & WORD)
    return (state >> 11) / 2**53


def test_the_hash_is_the_documented_one_for_any_integers() -> None:
    triples = [(0, 0, 0), (1, 2, 3), (2**63 - 1, 0, 131072), (-1, 5, 7), (2**64 - 1, 5, 7), (12345678901234567, 127, 1)]
    found = uniforms(*zip(*triples, strict=True))
    assert found.tolist() == [by_hand(*triple) for triple in triples]


def test_the_numbers_are_pinned_because_seeded_outputs_depend_on_them() -> None:
    assert uniforms([0, 7], [0, 1], [1, 100]).tolist() == [0.2582654469187293, 0.6891051540464751]


def test_every_number_lies_in_the_unit_interval_and_no_two_seeds_share_one() -> None:
    numbers = uniforms(range(5000), [0] * 5000, [1] * 5000)
    assert numbers.min() >= 0 and numbers.max() < 1 and len(set(numbers.tolist())) == 5000


def test_numbers_are_uniform_along_seeds_along_sample_indices_and_along_positions() -> None:
    many, fixed = range(20000), [3] * 20000
    for triple in ((many, fixed, fixed), (fixed, many, fixed), (fixed, fixed, many)):
        assert kstest(uniforms(*triple), "uniform").pvalue > 1e-3


def test_streams_of_neighbouring_seeds_and_sample_indices_are_unrelated() -> None:
    positions = range(20000)
    streams = [uniforms([seed] * 20000, [index] * 20000, positions) for seed, index in ((1, 0), (1, 1), (2, 0), (0, 1))]
    correlation = np.corrcoef(np.stack(streams)) - np.eye(4)
    assert np.abs(correlation).max() < 0.03
    later = np.corrcoef(streams[0][1:], streams[0][:-1])[0, 1]
    assert abs(later) < 0.03


def test_the_token_is_where_the_cumulated_distribution_passes_the_number() -> None:
    weights = torch.tensor([[0.25, 0.0, 0.5, 0.25, 0.0]]).log()
    numbers = torch.tensor([0.0, 0.2, 0.25, 0.5, 0.7499, 0.75, 1 - 2**-53], dtype=torch.float64)
    assert tokens_at(weights.expand(7, -1), numbers).tolist() == [0, 0, 2, 2, 2, 3, 3]


def test_the_largest_number_never_falls_on_an_impossible_token() -> None:
    logits = random_logits(200, 501)
    logits[:, 400:] = -torch.inf
    logits[:, :3] = -torch.inf
    for number in (0.0, 1 - 2**-53):
        tokens = tokens_at(logits, torch.full((200,), number, dtype=torch.float64))
        assert ((tokens >= 3) & (tokens < 400)).all()


def test_a_row_s_token_does_not_depend_on_the_rows_beside_it() -> None:
    logits = random_logits(33, 1021)
    numbers = torch.from_numpy(uniforms(range(33), [0] * 33, [9] * 33))
    together = tokens_at(logits, numbers)
    alone = torch.cat([tokens_at(logits[i : i + 1], numbers[i : i + 1]) for i in range(33)])
    assert together.tolist() == alone.tolist()
