"""Rows of an embedding's weight, and what families do to them or to logits number by number.

Not here: the weight and who shares it (layers/embedding.py), a packed weight's rows (gemm.py), the kernels for the CPU
(embedding_native.py).
Door: Take, take, InPlace, scale, soft_cap.
"""

# Shapes: T tokens of the step, M model size, V vocabulary, ... any dimensions.

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

Take = Callable[[Tensor], Tensor]
"""``take`` with its weight bound."""

InPlace = Callable[[Tensor], None]
"""``scale`` or ``soft_cap`` with its number bound."""


def take(ids_T: Tensor, weight_VM: Tensor) -> Tensor:
    """``weight[ids]``, a new tensor [T, M].

    Raises: IndexError for an id outside 0..V.
    """
    return functional.embedding(ids_T, weight_VM)


def scale(x: Tensor, factor: float) -> None:
    """``x *= factor``, the factor rounded to the type of x."""
    x *= torch.tensor(factor, dtype=x.dtype)


def soft_cap(x: Tensor, cap: float) -> None:
    """``x = cap * tanh(x / cap)``, in place; x is float32."""
    x.div_(cap).tanh_().mul_(cap)
