"""Root mean square normalisation.

Not here: the modules that hold the weights (layers/norm.py), the kernel for the CPU (norm_native.py).
Door: Norm, add_and_norm, rms_norm, rms_norm_plus_one.
"""

# Shapes: ... any leading dimensions, N the normalised width.

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional


class Norm(Protocol):
    """``add_and_norm`` with its weight bound."""

    def __call__(self, x_N: Tensor, added_N: Tensor | None) -> Tensor: ...


def add_and_norm(
    x_N: Tensor, added_N: Tensor | None, weight_N: Tensor, eps: float, *, plus_one: bool = False
) -> Tensor:
    """Add ``added`` to x, in place, where there is one; then normalise x into a new tensor.

    Shapes:  x and added [..., N], weight [N], result like x.
    """
    if added_N is not None:
        x_N += added_N
    return rms_norm_plus_one(x_N, weight_N, eps) if plus_one else rms_norm(x_N, weight_N, eps)


def rms_norm(x_N: Tensor, weight_N: Tensor, eps: float) -> Tensor:
    """``x / rms(x)`` in float32, cast to the type of x, then times the weight.

    Shapes:  x [..., N], weight [N], result like x.
    Source:  Root Mean Square Layer Normalization (Zhang and Sennrich 2019).
    """
    if x_N.dtype == torch.float32:
        return functional.rms_norm(x_N, weight_N.shape, weight_N, eps)
    return functional.rms_norm(x_N.float(), weight_N.shape, None, eps).to(x_N.dtype) * weight_N


def rms_norm_plus_one(x_N: Tensor, weight_N: Tensor, eps: float) -> Tensor:
    """``x / rms(x) * (1 + weight)``, all in float32, then cast to the type of x: Gemma's form."""
    return functional.rms_norm(x_N.float(), weight_N.shape, 1.0 + weight_N.float(), eps).to(x_N.dtype)
