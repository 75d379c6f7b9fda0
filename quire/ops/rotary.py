"""Rotation of head vectors by their positions, behind the norms of the heads where a family has them; and the angles.

Not here: the frequencies (layers/rotary.py), the kernel for the CPU (rotary_native.py).
Door: rotate, turn_heads, TurnHeads, HeadNorms, Rotation, rotation_of, RotationOf.
"""

# Shapes: T tokens of the step, N heads, H query heads, G KV heads, D head size, F frequencies (2 F <= D).

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from quire.ops.norm import add_and_norm

Rotation = tuple[Tensor, Tensor]
"""Cosine and sine of a step's angles, float32 ``[T, F]`` each, contiguous."""

RotationOf = Callable[[Tensor], Rotation]
"""``rotation_of`` with frequencies and factor bound: of positions [T], int64."""


@dataclass(frozen=True, slots=True)
class HeadNorms:
    """Root mean square norms of each query head and each key head; weights [D]."""

    query_weight_D: Tensor
    key_weight_D: Tensor
    eps: float
    plus_one: bool


class TurnHeads(Protocol):
    """``turn_heads`` with counts of heads and norms bound."""

    def __call__(self, heads_TND: Tensor, rotation: Rotation) -> None: ...


def rotation_of(positions_T: Tensor, frequencies_F: Tensor, factor: float) -> Rotation:
    """Cosine and sine of position times frequency, an angle in float32; ``factor`` multiplies both."""
    angles_TF = positions_T.unsqueeze(1).float() * frequencies_F
    cos_TF, sin_TF = angles_TF.cos(), angles_TF.sin()
    return (cos_TF, sin_TF) if factor == 1.0 else (cos_TF * factor, sin_TF * factor)


def turn_heads(
    heads_TND: Tensor, rotation: Rotation, num_heads: int, num_kv_heads: int, norms: HeadNorms | None
) -> None:
    """Normalise, where there are norms, and rotate the first H + G heads in place; those behind (the values) stay.

    Shapes:  heads [T, H + G + more, D].
    """
    q_THD = heads_TND[:, :num_heads]
    k_TGD = heads_TND[:, num_heads : num_heads + num_kv_heads]
    if norms is None:
        turned = heads_TND[:, : num_heads + num_kv_heads]
        turned.copy_(rotate(turned, *rotation))
        return
    for x_TND, weight_D in ((q_THD, norms.query_weight_D), (k_TGD, norms.key_weight_D)):
        x_TND.copy_(rotate(add_and_norm(x_TND, None, weight_D, norms.eps, plus_one=norms.plus_one), *rotation))


def rotate(x_TND: Tensor, cos_TF: Tensor, sin_TF: Tensor) -> Tensor:
    """Turn each pair (x[i], x[i + F]) of a head by its token's angle i; what lies behind 2 F passes as it is.

    Shapes:  x [T, N, D], cos and sin [T, F] in float32; the result is new, like x, computed in float32.
    Source:  RoFormer (Su et al. 2021), with the halves laid out as Llama has them.
    """
    num_frequencies = cos_TF.shape[-1]
    cos_TNF, sin_TNF = cos_TF.unsqueeze(1), sin_TF.unsqueeze(1)
    first = x_TND[..., :num_frequencies].float()
    second = x_TND[..., num_frequencies : 2 * num_frequencies].float()
    turned = [
        (first * cos_TNF - second * sin_TNF).to(x_TND.dtype),
        (second * cos_TNF + first * sin_TNF).to(x_TND.dtype),
    ]
    if 2 * num_frequencies < x_TND.shape[-1]:
        turned.append(x_TND[..., 2 * num_frequencies :])
    return torch.cat(turned, dim=-1)
