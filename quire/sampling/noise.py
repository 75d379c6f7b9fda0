"""Chance: a uniform number for each (seed, sample index, position), and the token that it falls on.

The number is a hash of its three integers, so a sequence draws the same tokens in any row, batch or step, after a
preemption and after a restart. Changing the hash changes every seeded output: the tests pin it.

Not here: which tokens may be drawn (stages/).
Door: uniforms, tokens_at.
"""

# Shapes: R rows, V vocabulary.

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_WORD = (1 << 64) - 1


def uniforms(seeds: Sequence[int], sample_indices: Sequence[int], positions: Sequence[int]) -> npt.NDArray[np.float64]:
    """One number in [0, 1) for each triple, with 53 random bits. Integers count modulo 2^64.

    Source: the finaliser of SplitMix64 (Steele, Lea, Flood 2014), applied to the three integers one after the other.
    """
    state = np.zeros(len(seeds), dtype=np.uint64)
    for integers in (seeds, sample_indices, positions):
        state = _mix(state + _GAMMA + np.array([number & _WORD for number in integers], dtype=np.uint64))
    return (state >> np.uint64(11)).astype(np.float64) * 2.0**-53


def tokens_at(logits_RV: Tensor, uniforms_R: Tensor) -> Tensor:
    """The token of each row at its uniform number: inverse distribution function over token ids in rising order;
    int64 [R].

    Weights are the float32 softmax, added up in float64 from id 0 upwards, one row after the other: no other row has
    a part in it. A token of weight 0 is never returned. Logits must be free of NaN and have a finite maximum.
    """
    below_RV = torch.softmax(logits_RV, dim=1).cumsum(dim=1, dtype=torch.float64)
    total_R = below_RV[:, -1]
    # Rounding may lift u * total to total itself, which no id exceeds.
    target_R = torch.minimum(uniforms_R * total_R, torch.nextafter(total_R, torch.zeros_like(total_R)))
    return torch.searchsorted(below_RV, target_R[:, None], right=True)[:, 0]


def _mix(state: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * _FIRST
    state = (state ^ (state >> np.uint64(27))) * _SECOND
    return state ^ (state >> np.uint64(31))
