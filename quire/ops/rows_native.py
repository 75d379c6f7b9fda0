"""The row kernels of the extension.

Door: NativeRowKernels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from quire.ops.activation import Gate
from quire.ops.activation_native import NativeGate
from quire.ops.embedding import InPlace, Take
from quire.ops.embedding_native import NativeScale, NativeSoftCap, NativeTake
from quire.ops.norm import Norm
from quire.ops.norm_native import NativeNorm
from quire.ops.rotary import HeadNorms, RotationOf, TurnHeads
from quire.ops.rotary_native import NativeRotation, NativeTurnHeads


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

    def rotation(self, frequencies_F: Tensor, factor: float) -> RotationOf:
        return NativeRotation(frequencies_F, factor)

    def take(self, weight_VM: Tensor) -> Take:
        return NativeTake(weight_VM)

    def scale(self, factor: float) -> InPlace:
        return NativeScale(factor, self._dtype)

    def soft_cap(self, cap: float) -> InPlace:
        return NativeSoftCap(cap)
