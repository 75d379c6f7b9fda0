"""Gated activations: ``act(gate) * up``.

Not here: the projections around them (layers/mlp.py), the kernel for the CPU (activation_native.py).
Door: Activation, ACTIVATIONS, gated, Gate.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor
from torch.nn import functional

Activation = Callable[[Tensor], Tensor]

ACTIVATIONS: dict[str, Activation] = {
    "silu": functional.silu,
    "swish": functional.silu,
    "gelu": functional.gelu,
    "gelu_new": partial(functional.gelu, approximate="tanh"),
    "gelu_pytorch_tanh": partial(functional.gelu, approximate="tanh"),
    "relu": functional.relu,
}
"""By the name that a checkpoint's configuration gives."""

Gate = Callable[[Tensor], Tensor]
"""``gated`` with its activation bound."""


def gated(gate_up: Tensor, activation: Activation) -> Tensor:
    """``activation(gate) * up``; gate is the first half of the last dimension, up the second."""
    gate, up = gate_up.chunk(2, dim=-1)
    return activation(gate) * up
