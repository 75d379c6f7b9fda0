"""Normalisation layers.

Not here: the arithmetic (ops/norm.py).
Door: RMSNorm.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from quire.ops.norm import rms_norm, rms_norm_plus_one


class RMSNorm(nn.Module):
    """Root mean square normalisation of the last dimension.

    ``plus_one``: the stored weight is the distance from one (Gemma); then its neutral value is 0, else 1.
    """

    def __init__(self, size: int, eps: float, *, plus_one: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size), requires_grad=False)
        self.eps = eps
        self.neutral = 0.0 if plus_one else 1.0
        self._norm = rms_norm_plus_one if plus_one else rms_norm

    def forward(self, x: Tensor) -> Tensor:
        return self._norm(x, self.weight, self.eps)
