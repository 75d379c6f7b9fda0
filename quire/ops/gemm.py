"""Products with a weight that is stored once, and rows read out of it.

Not here: kernels (gemm_native.py), which of them runs (op.py), layers (layers/linear.py, layers/embedding.py).
Door: Gemm, TorchGemm.
"""

# Shapes: ... any leading dimensions, K depth (inputs), N columns (outputs).

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional


class Gemm(Protocol):
    """How a weight ``[N, K]`` lies in memory, and what is computed with it. One instance serves any number."""

    def pack(self, weight_NK: Tensor) -> Tensor:
        """The weight as the other methods want it. It may take over the memory of the one given, which is then void.

        Raises: ConfigError for a type or device that the kernel does not take.
        """
        ...

    def multiply(
        self, x: Tensor, packed: Tensor, columns: int, bias_N: Tensor | None = None, *, dtype: torch.dtype | None = None
    ) -> Tensor:
        """``x weight^T + bias``, summed in float32 and rounded once, in the type of x or in ``dtype``.

        Shapes:  x [..., K], result [..., N] with N = columns.
        Raises:  ValueError for an x that does not go with the weight.
        """
        ...

    def rows(self, ids: Tensor, packed: Tensor, columns: int, depth: int) -> Tensor:
        """``weight[ids]``.

        Shapes:  ids [...] int64, result [..., K].
        Raises:  IndexError for an id outside 0..columns.
        """
        ...


class TorchGemm:
    """The reference: the weight as it came, torch's own operations."""

    def pack(self, weight_NK: Tensor) -> Tensor:
        return weight_NK

    def multiply(
        self, x: Tensor, packed: Tensor, columns: int, bias_N: Tensor | None = None, *, dtype: torch.dtype | None = None
    ) -> Tensor:
        result = functional.linear(x, packed, bias_N)
        return result if dtype is None else result.to(dtype)

    def rows(self, ids: Tensor, packed: Tensor, columns: int, depth: int) -> Tensor:
        return functional.embedding(ids, packed)
