"""The row kernels of the extension.

Door: NativeRowKernels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from quire.ops.activation import Gate
from quire.ops.activation_native import NativeGate
from quire.ops.norm import Norm
from quire.ops.norm_native import NativeNorm
from quire.ops.rotary import HeadNorms, TurnHeads
from quire.ops.rotary_native import NativeTurnHeads


class NativeRowKernels:
    """For the CPU and a model of one type of numbers."""

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype

    def norm(self, weight_N: Tensor, eps: float, *, plus_one: bool) -> Norm:
        return NativeNorm(weight_N, eps, plus_one=plus_one)

    def turn_heads(self, num_heads: int, num_kv_heads: int, head_size: int, norms: HeadNorms | None) -> TurnHeads:
        return NativeTurnHeads(num_heads, num_kv_heads, head_size, norms, self._dtype)

    def gate(self, activation: str) -> Gate:
        return NativeGate(activation, self._dtype)
