"""Kernels of the operations between the matrix products, made for the weights and shapes of single layers.

A layer that was bound to none calls the operations' torch references.

Not here: the operations (norm.py, rotary.py, activation.py, embedding.py), who picks (op.py).
Door: RowKernels.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from quire.ops.activation import Gate
from quire.ops.embedding import InPlace, Take
from quire.ops.norm import Norm
from quire.ops.rotary import HeadNorms, RotationOf, TurnHeads


class RowKernels(Protocol):
    """Each method raises ConfigError for a type or a shape that its kernel does not take."""

    def norm(self, weight_N: Tensor, eps: float, *, plus_one: bool) -> Norm: ...

    def turn_heads(self, num_heads: int, num_kv_heads: int, head_size: int, norms: HeadNorms | None) -> TurnHeads: ...

    def rotation(self, frequencies_F: Tensor, factor: float) -> RotationOf: ...

    def gate(self, activation: str) -> Gate: ...

    def take(self, weight_VM: Tensor) -> Take: ...

    def scale(self, factor: float) -> InPlace: ...

    def soft_cap(self, cap: float) -> InPlace: ...
