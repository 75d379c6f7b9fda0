"""Codes of weights by the native kernel, which is many times as fast as the reference.

Sums run over sixteen lanes that are added in one order: every processor gives the same codes. They differ from the
reference's where a weight lies between two codes, or two ranges are equally good, to the last bit of a sum.

Not here: how codes are found (rounding.py), the kernel (native/rounding).
Door: native_codes.
"""

# Shapes: N columns (outputs), K depth (inputs), G groups of it.

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from quire.config.quantization import Form
from quire.ops.native import native
from quire.ops.quantized import Codes


def native_codes(weight_NK: Tensor, form: Form, clippings: Sequence[float] = (1.0,)) -> Codes:
    """As ``nearest_codes``, of a float32 weight on a CPU.

    Raises: ConfigError where the extension is missing; ValueError for another weight.
    """
    if weight_NK.dtype != torch.float32 or not weight_NK.is_cpu or weight_NK.dim() != 2 or weight_NK.stride(1) != 1:
        raise ValueError(
            f"Codes are found of float32 matrices on a CPU with whole rows, not of {list(weight_NK.shape)} of "
            f"{weight_NK.dtype} on {weight_NK.device}."
        )
    columns, depth = weight_NK.shape
    groups = form.num_groups(depth)
    tried = torch.tensor(tuple(clippings), dtype=torch.float32)
    codes_NK = torch.empty(columns, depth, dtype=torch.int8 if form.bits == 8 else torch.uint8)
    scales_NG = torch.empty(columns, groups)
    zeros_NG = torch.empty(columns, groups, dtype=torch.uint8) if form.zero_points else None
    native().nearest_codes(
        form.bits,
        min(form.group or depth, depth),
        int(form.zero_points),
        tried.data_ptr(),
        tried.numel(),
        columns,
        depth,
        weight_NK.data_ptr(),
        weight_NK.stride(0),
        codes_NK.data_ptr(),
        depth,
        scales_NG.data_ptr(),
        0 if zeros_NG is None else zeros_NG.data_ptr(),
    )
    return Codes(codes_NK, scales_NG, zeros_NG)
