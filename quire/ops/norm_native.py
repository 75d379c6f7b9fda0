"""Root mean square normalisation by the CPU kernel.

Not here: what it computes (norm.py), how (native/rows/).
Door: NativeNorm.
"""

# Shapes: ... any leading dimensions, N the normalised width.

from __future__ import annotations

import torch
from torch import Tensor

from quire.ops.native import check_floats, dtype_code, native


class NativeNorm:
    """``add_and_norm`` of contiguous tensors with the type and width of one weight."""

    def __init__(self, weight_N: Tensor, eps: float, *, plus_one: bool) -> None:
        self._code = dtype_code(weight_N.dtype)
        self._weight_N = weight_N.contiguous()
        self._weight_address = self._weight_N.data_ptr()
        self._dtype, self._size = weight_N.dtype, weight_N.shape[0]
        self._eps, self._plus_one = eps, int(plus_one)
        self._call = native().rms_norm

    def __call__(self, x_N: Tensor, added_N: Tensor | None) -> Tensor:
        check_floats(x_N, self._dtype, self._size)
        added = 0
        if added_N is not None:
            check_floats(added_N, self._dtype, self._size)
            added = added_N.data_ptr()
        out_N = torch.empty_like(x_N)
        self._call(
            self._code,
            x_N.data_ptr(),
            added,
            out_N.data_ptr(),
            self._weight_address,
            x_N.numel() // self._size,
            self._size,
            self._eps,
            self._plus_one,
        )
        return out_N
