"""Linear projections, and how several of a checkpoint's become one.

Not here: the products (ops/gemm.py, ops/quantized.py), which form weights get (quant/).
Door: Linear, LinearMethod, Dense, Quantized, Part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from quire.ops.gemm import Gemm, TorchGemm
from quire.ops.quantized import Packed, QuantizedGemm


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of a fused projection that a checkpoint stores under a sibling's name, such as ``q_proj``."""

    name: str
    rows: int


class LinearMethod(Protocol):
    """How a projection's weights are stored and multiplied."""

    def create(self, linear: Linear) -> None:
        """Register the parameters that the projection needs, unfilled."""
        ...

    def apply(self, linear: Linear, x: Tensor) -> Tensor:
        """``[..., in_features] -> [..., out_features]``."""
        ...


class Dense:
    """One weight ``[out_features, in_features]`` and perhaps a bias, in the model's own type.

    ``gemm``: what multiplies. It goes with a weight that it packed; the one made here, row by row, is the reference's.
    """

    def __init__(self, gemm: Gemm | None = None) -> None:
        self.gemm = gemm or TorchGemm()

    def create(self, linear: Linear) -> None:
        linear.weight = nn.Parameter(torch.empty(linear.out_features, linear.in_features), requires_grad=False)
        linear.bias = nn.Parameter(torch.empty(linear.out_features), requires_grad=False) if linear.has_bias else None

    def apply(self, linear: Linear, x: Tensor) -> Tensor:
        return self.gemm.multiply(x, linear.weight, linear.out_features, linear.bias)


class Quantized:
    """A weight that was quantised and packed, multiplied as it is; the bias stays in the model's own type."""

    def __init__(self, gemm: QuantizedGemm, packed: Packed) -> None:
        self.gemm, self.packed = gemm, packed

    def create(self, linear: Linear) -> None:
        """Let go of the dense weight; the bias stays to be filled."""
        linear.register_parameter("weight", None)

    def apply(self, linear: Linear, x: Tensor) -> Tensor:
        return self.gemm.multiply(x, self.packed, linear.bias)


class Linear(nn.Module):
    """A projection. With ``parts`` its rows come from several tensors of the checkpoint, stacked in that order."""

    weight: Tensor
    bias: Tensor | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = False,
        parts: tuple[Part, ...] = (),
        method: LinearMethod | None = None,
    ) -> None:
        super().__init__()
        assert not parts or sum(part.rows for part in parts) == out_features
        self.in_features = in_features
        self.out_features = out_features
        self.has_bias = bias
        self.parts = parts
        self.method = method or Dense()
        self.method.create(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.method.apply(self, x)

    def pack(self, gemm: Gemm) -> None:
        """Let ``gemm`` store and multiply the loaded weight, if it is a dense one."""
        if type(self.method) is Dense:
            self.weight = nn.Parameter(gemm.pack(self.weight), requires_grad=False)
            self.method = Dense(gemm)
