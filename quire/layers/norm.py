"""Normalisation layers.

Not here: the arithmetic (ops/norm.py).
Door: RMSNorm.
"""

# Shapes: ... any leading dimensions, N the normalised width.

from __future__ import annotations

import torch
from torch import Tensor, nn

from quire.ops.norm import Norm, add_and_norm
from quire.ops.rows import RowKernels


class RMSNorm(nn.Module):
    """Root mean square normalisation of the last dimension.

    ``plus_one``: the stored weight is the distance from one (Gemma); then its neutral value is 0, else 1.
    """

    def __init__(self, size: int, eps: float, *, plus_one: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size), requires_grad=False)
        self.eps = eps
        self.plus_one = plus_one
        self.neutral = 0.0 if plus_one else 1.0
        self._kernel: Norm | None = None

    def bind(self, kernels: RowKernels) -> None:
        """Let a kernel compute with the weight as it is now."""
        self._kernel = kernels.norm(self.weight, self.eps, plus_one=self.plus_one)

    def forward(self, x_N: Tensor, added_N: Tensor | None = None) -> Tensor:
        """Add ``added`` to x, in place, where there is one; x normalised is a new tensor."""
        if self._kernel is not None:
            return self._kernel(x_N, added_N)
        return add_and_norm(x_N, added_N, self.weight, self.eps, plus_one=self.plus_one)
