"""Which implementation of an operation runs: bound once, when a worker starts, by the name that was decided.

Not here: who decides (config/resolve.py), the operations.
Door: bind_gemm, bind_quantized, bind_rounding, bind_rows, bind_greedy.
"""

from __future__ import annotations

import torch

from quire.config.decided import LinearBackend
from quire.ops.gemm import Gemm, TorchGemm
from quire.ops.greedy import Greedy, greedy
from quire.ops.quantized import QuantizedGemm, TorchQuantizedGemm
from quire.ops.rounding import FindCodes, nearest_codes
from quire.ops.rows import RowKernels


def bind_gemm(backend: LinearBackend) -> Gemm:
    """Products with weights.

    Raises: ConfigError where it is to be native and Quire was installed without its kernels.
    """
    if backend == "torch":
        return TorchGemm()
    from quire.ops.gemm_native import NativeGemm

    return NativeGemm()


def bind_quantized(backend: LinearBackend) -> QuantizedGemm:
    """Products with quantised weights.

    Raises: ConfigError where it is to be native and Quire was installed without its kernels.
    """
    if backend == "torch":
        return TorchQuantizedGemm()
    from quire.ops.quantized_native import NativeQuantizedGemm

    return NativeQuantizedGemm()


def bind_rounding(backend: LinearBackend) -> FindCodes:
    """What makes codes of weights; like the rows' kernels it comes with the native products."""
    if backend == "torch":
        return nearest_codes
    from quire.ops.rounding_native import native_codes

    return native_codes


def bind_rows(backend: LinearBackend, dtype: torch.dtype) -> RowKernels | None:
    """Kernels for everything between the products; None: the torch references. They come with the native products, so
    that one choice leads to the reference for all.
    """
    if backend == "torch":
        return None
    from quire.ops.rows_native import NativeRowKernels

    return NativeRowKernels(dtype)


def bind_greedy(backend: LinearBackend) -> Greedy:
    """The most likely token of each row; like the rows' kernels it comes with the native products."""
    if backend == "torch":
        return greedy
    from quire.ops.greedy_native import NativeGreedy

    return NativeGreedy()
