"""Rows of an embedding's weight, scaling and soft caps by the CPU kernels.

Not here: what they compute (embedding.py), how (native/rows/).
Door: NativeTake, NativeScale, NativeSoftCap.
"""

# Shapes: T tokens of the step, M model size, V vocabulary, ... any dimensions.

from __future__ import annotations

import torch
from torch import Tensor

from quire.ops.native import check_floats, dtype_code, native


class NativeTake:
    """``take`` of one contiguous weight."""

    def __init__(self, weight_VM: Tensor) -> None:
        check_floats(weight_VM, weight_VM.dtype, weight_VM.shape[1])
        self._weight_VM = weight_VM
        self._row_bytes = weight_VM.shape[1] * weight_VM.element_size()
        self._call = native().take_rows

    def __call__(self, ids_T: Tensor) -> Tensor:
        if ids_T.dtype != torch.int64 or not ids_T.is_contiguous():
            raise ValueError(f"Ids are contiguous and int64, not {ids_T.dtype}.")
        num_rows, size = self._weight_VM.shape
        rows_TM = torch.empty(ids_T.shape[0], size, dtype=self._weight_VM.dtype)
        self._call(
            self._weight_VM.data_ptr(), num_rows, self._row_bytes, ids_T.data_ptr(), ids_T.shape[0], rows_TM.data_ptr()
        )
        return rows_TM


class NativeScale:
    """``scale`` by one factor, of contiguous tensors of one type."""

    def __init__(self, factor: float, dtype: torch.dtype) -> None:
        self._code, self._dtype = dtype_code(dtype), dtype
        self._factor = torch.tensor(factor, dtype=dtype).item()
        self._call = native().scale

    def __call__(self, x: Tensor) -> None:
        check_floats(x, self._dtype, x.shape[-1])
        self._call(self._code, x.data_ptr(), x.numel(), self._factor)


class NativeSoftCap:
    """``soft_cap`` with one cap, of contiguous tensors."""

    def __init__(self, cap: float) -> None:
        self._cap = cap
        self._call = native().cap

    def __call__(self, x: Tensor) -> None:
        check_floats(x, torch.float32, x.shape[-1])
        self._call(x.data_ptr(), x.numel(), self._cap)
