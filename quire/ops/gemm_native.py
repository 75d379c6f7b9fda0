"""Gemm by the native kernels: weights packed in panels, each output one chain of sums over the whole depth.

So an output is the same to the last bit whatever other rows there are, wherever its row stands, however many threads.

Not here: the kernels (native/gemm).
Door: NativeGemm.
"""

# Shapes: ... any leading dimensions, K depth (inputs), N columns (outputs).

from __future__ import annotations

import torch
from torch import Tensor

from quire.errors import ConfigError
from quire.ops.native import native

PANEL = 32
_TYPES = {torch.bfloat16: 0, torch.float16: 1, torch.float32: 2}


class NativeGemm:
    """On a CPU, in bfloat16, float16 or float32; x, weight and bias of one type.

    Raises: ConfigError where the extension is missing.
    """

    def __init__(self) -> None:
        extension = native()
        self._gemm, self._pack, self._rows = extension.gemm, extension.gemm_pack, extension.gemm_rows

    def pack(self, weight_NK: Tensor) -> Tensor:
        kind = _TYPES.get(weight_NK.dtype)
        if kind is None or weight_NK.device.type != "cpu" or weight_NK.dim() != 2:
            raise ConfigError(
                f"The native kernels take matrices of bfloat16, float16 or float32 on a CPU; this one is "
                f"{list(weight_NK.shape)} of {weight_NK.dtype} on {weight_NK.device}. Choose --linear-backend torch."
            )
        columns, depth = weight_NK.shape
        if weight_NK.stride(1) != 1:
            weight_NK = weight_NK.contiguous()
        is_paired = weight_NK.dtype == torch.bfloat16
        panels, padded = -(-columns // PANEL), depth + (depth % 2 if is_paired else 0)
        # Whole panels take the place of the rows that they are made of, so that packing needs no memory.
        if columns % PANEL == 0 and padded == depth and weight_NK.is_contiguous():
            packed = weight_NK.detach().view(-1)
        else:
            packed = torch.empty(panels * padded * PANEL, dtype=weight_NK.dtype)
        self._pack(kind, columns, depth, weight_NK.data_ptr(), weight_NK.stride(0), packed.data_ptr())
        return packed

    def multiply(
        self, x: Tensor, packed: Tensor, columns: int, bias_N: Tensor | None = None, *, dtype: torch.dtype | None = None
    ) -> Tensor:
        depth = x.shape[-1]
        rows = x if x.dim() == 2 else x.reshape(-1, depth)
        if rows.stride(1) != 1:
            rows = rows.contiguous()
        kind, num_rows = _TYPES[packed.dtype], rows.shape[0]
        padded = depth + depth % 2 if kind == 0 else depth
        if not x.is_cpu or x.dtype != packed.dtype or -(-columns // PANEL) * PANEL * padded != packed.shape[0]:
            raise ValueError(
                f"x {list(x.shape)} of {x.dtype} does not go with a weight of {columns} columns in {packed.shape[0]} "
                f"packed numbers of {packed.dtype}."
            )
        if bias_N is not None and (bias_N.dtype != x.dtype or bias_N.shape != (columns,) or bias_N.stride(0) != 1):
            raise ValueError(f"A bias {list(bias_N.shape)} of {bias_N.dtype} does not go with {columns} of {x.dtype}.")
        result_dtype = x.dtype if dtype is None else dtype
        if result_dtype not in (torch.float32, x.dtype):
            raise ValueError(f"The kernels write {x.dtype} or float32, not {result_dtype}.")
        y = torch.empty(num_rows, columns, dtype=result_dtype)
        self._gemm(
            kind,
            _TYPES[result_dtype],
            num_rows,
            columns,
            depth,
            rows.data_ptr(),
            rows.stride(0),
            packed.data_ptr(),
            0 if bias_N is None else bias_N.data_ptr(),
            y.data_ptr(),
            columns,
        )
        return y if x.dim() == 2 else y.view(*x.shape[:-1], columns)

    def rows(self, ids: Tensor, packed: Tensor, columns: int, depth: int) -> Tensor:
        if ids.dtype != torch.int64:
            raise ValueError(f"Ids are int64, not {ids.dtype}.")
        wanted = ids.contiguous()
        rows = torch.empty(*ids.shape, depth, dtype=packed.dtype)
        self._rows(
            _TYPES[packed.dtype], columns, depth, wanted.numel(), packed.data_ptr(), wanted.data_ptr(), rows.data_ptr()
        )
        return rows
