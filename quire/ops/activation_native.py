"""Gated activations by the CPU kernel.

Not here: what it computes (activation.py), how (native/rows/).
Door: NativeGate.
"""

# Shapes: T tokens of the step, I inner size.

from __future__ import annotations

import torch
from torch import Tensor

from quire.errors import ConfigError
from quire.ops.native import check_floats, dtype_code, native

_CODES = {"silu": 0, "swish": 0, "gelu": 1, "gelu_new": 2, "gelu_pytorch_tanh": 2, "relu": 3}


class NativeGate:
    """``gated`` of a contiguous projection [T, 2 I]."""

    def __init__(self, activation: str, dtype: torch.dtype) -> None:
        if activation not in _CODES:
            raise ConfigError(f"There is no native kernel for the activation {activation!r}: {', '.join(_CODES)}.")
        self._activation = _CODES[activation]
        self._code, self._dtype = dtype_code(dtype), dtype
        self._call = native().gate

    def __call__(self, gate_up: Tensor) -> Tensor:
        num_tokens, width = gate_up.shape
        check_floats(gate_up, self._dtype, width)
        out_TI = gate_up.new_empty((num_tokens, width // 2))
        self._call(self._code, self._activation, gate_up.data_ptr(), out_TI.data_ptr(), num_tokens, width // 2)
        return out_TI
