"""Norms and rotation of heads by the CPU kernel, in place; angles by another.

Not here: what it computes (rotary.py), how (native/rows/).
Door: NativeTurnHeads, NativeRotation.
"""

# Shapes: T tokens of the step, N heads, D head size, F frequencies.

from __future__ import annotations

import torch
from torch import Tensor

from quire.errors import ConfigError
from quire.ops.native import check_floats, dtype_code, native
from quire.ops.rotary import HeadNorms, Rotation

MAX_HEAD_SIZE = 512


class NativeRotation:
    """``rotation_of`` for one set of frequencies. Differs from the reference by a unit in the last place at most: here
    the exact values are rounded."""

    def __init__(self, frequencies_F: Tensor, factor: float) -> None:
        check_floats(frequencies_F, torch.float32, frequencies_F.shape[0])
        self._frequencies_F, self._factor = frequencies_F, factor
        self._call = native().rotation

    def __call__(self, positions_T: Tensor) -> Rotation:
        if positions_T.dtype != torch.int64 or not positions_T.is_contiguous():
            raise ValueError(f"Positions are contiguous and int64, not {positions_T.dtype}.")
        num_tokens, num_frequencies = positions_T.shape[0], self._frequencies_F.shape[0]
        cos_TF = torch.empty(num_tokens, num_frequencies)
        sin_TF = torch.empty(num_tokens, num_frequencies)
        self._call(
            positions_T.data_ptr(),
            self._frequencies_F.data_ptr(),
            cos_TF.data_ptr(),
            sin_TF.data_ptr(),
            num_tokens,
            num_frequencies,
            self._factor,
        )
        return cos_TF, sin_TF


class NativeTurnHeads:
    """``turn_heads`` of a contiguous projection."""

    def __init__(
        self, num_heads: int, num_kv_heads: int, head_size: int, norms: HeadNorms | None, dtype: torch.dtype
    ) -> None:
        if head_size > MAX_HEAD_SIZE:
            raise ConfigError(
                f"The native kernels turn heads of at most {MAX_HEAD_SIZE} numbers; these have {head_size}. Choose "
                "--linear-backend torch."
            )
        self._code, self._dtype = dtype_code(dtype), dtype
        self._num_heads, self._num_kv_heads, self._head_size = num_heads, num_kv_heads, head_size
        self._norms = norms
        self._query_weight = self._key_weight = 0
        self._eps, self._plus_one = 0.0, 0
        if norms is not None:
            for weight_D in (norms.query_weight_D, norms.key_weight_D):
                check_floats(weight_D, dtype, head_size)
            self._query_weight, self._key_weight = norms.query_weight_D.data_ptr(), norms.key_weight_D.data_ptr()
            self._eps, self._plus_one = norms.eps, int(norms.plus_one)
        self._call = native().turn_heads

    def __call__(self, heads_TND: Tensor, rotation: Rotation) -> None:
        check_floats(heads_TND, self._dtype, self._head_size)
        cos_TF, sin_TF = rotation
        num_tokens, num_frequencies = cos_TF.shape
        check_floats(cos_TF, torch.float32, num_frequencies)
        check_floats(sin_TF, torch.float32, num_frequencies)
        self._call(
            self._code,
            heads_TND.data_ptr(),
            cos_TF.data_ptr(),
            sin_TF.data_ptr(),
            self._query_weight,
            self._key_weight,
            num_tokens,
            heads_TND.stride(0),
            self._num_heads,
            self._num_kv_heads,
            self._head_size,
            num_frequencies,
            self._eps,
            self._plus_one,
        )
