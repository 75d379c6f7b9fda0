"""Feed-forward blocks.

Not here: experts.
Door: GatedMLP.
"""

from __future__ import annotations

from torch import Tensor, nn

from quire.errors import UnsupportedModel
from quire.layers.linear import Linear, Part
from quire.ops.activation import ACTIVATIONS, Gate, gated
from quire.ops.rows import RowKernels


class GatedMLP(nn.Module):
    """``down(act(gate(x)) * up(x))``; gate and up are one projection.

    ``fused``: the checkpoint stores them as one tensor too (``gate_up_proj``).
    Raises:  UnsupportedModel for an activation that nobody knows.
    """

    def __init__(self, size: int, inner_size: int, activation: str, *, bias: bool = False, fused: bool = False) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise UnsupportedModel(
                f"config.json: the activation {activation!r} is not served; known are {', '.join(ACTIVATIONS)}."
            )
        self.activation = activation
        self._kernel: Gate | None = None
        parts = () if fused else (Part("gate_proj", inner_size), Part("up_proj", inner_size))
        self.gate_up_proj = Linear(size, 2 * inner_size, bias=bias, parts=parts)
        self.down_proj = Linear(inner_size, size, bias=bias)

    def bind(self, kernels: RowKernels) -> None:
        """Let a kernel compute the activation."""
        self._kernel = kernels.gate(self.activation)

    def forward(self, x_TM: Tensor) -> Tensor:
        gate_up: Tensor = self.gate_up_proj(x_TM)
        gate = self._kernel
        inner = gate(gate_up) if gate is not None else gated(gate_up, ACTIVATIONS[self.activation])
        result_TM: Tensor = self.down_proj(inner)
        return result_TM
