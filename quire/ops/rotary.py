"""Rotation of head vectors by their positions.

Not here: the frequencies (layers/rotary.py).
Door: rotate.
"""

# Shapes: T tokens of the step, N heads, D head size, F frequencies (2 F <= D).

from __future__ import annotations

import torch
from torch import Tensor


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
