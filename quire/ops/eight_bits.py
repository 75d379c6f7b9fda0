"""Keys and values in eight bits, as the KV pool holds them and as torch computes with them.

fp8 is e4m3 without a scale: what exceeds 448 becomes 448. int8 has a float32 scale for each token and head, which
stands behind the head's numbers: a head of D numbers takes D + 4 bytes, and whoever copies a block copies its scales.

Not here: bytes of a block (config/kv_layout.py), the same in C++ (native/attention/eight_bits.h).
Door: stored_dtype, stored_width, head_size_of, is_eight_bits, narrowed, widened.
"""

# Shapes: D head size, W stored width of a head.

from __future__ import annotations

import torch
from torch import Tensor

from quire.config.decided import KVType

SCALE_BYTES = 4
_DTYPES: dict[KVType, torch.dtype] = {"fp8_e4m3": torch.float8_e4m3fn, "int8_per_token_head": torch.int8}
_FP8_GREATEST = 448.0
_SMALLEST_SIZE = 1e-30
"""Below it the reciprocal of a scale is not finite; such numbers become zero."""


def stored_dtype(kv_type: KVType) -> torch.dtype:
    """What a tensor of this type's bytes is called in torch."""
    return _DTYPES[kv_type]


def is_eight_bits(dtype: torch.dtype) -> bool:
    """Whether tensors of this type are KV that must be widened before it is computed with."""
    return dtype in _DTYPES.values()


def stored_width(head_size: int, dtype: torch.dtype) -> int:
    """Elements that a head takes in the pool."""
    return head_size + SCALE_BYTES if dtype == torch.int8 else head_size


def head_size_of(stored: Tensor) -> int:
    """Numbers of a head in a tensor ``[.., W]`` of the pool."""
    width = stored.shape[-1]
    return width - SCALE_BYTES if stored.dtype == torch.int8 else width


def narrowed(x: Tensor, dtype: torch.dtype) -> Tensor:
    """``[.., D]`` of any real type as it is stored, ``[.., W]``: rounded to the nearest and to even.

    int8: the greatest size of a head becomes 127. Where one of its numbers is none or infinite, the scale is none.
    """
    numbers = x.float()
    if dtype == torch.float8_e4m3fn:
        return numbers.clamp(-_FP8_GREATEST, _FP8_GREATEST).to(dtype)
    size = numbers.abs().amax(-1, keepdim=True)
    is_finite = size.isfinite()
    has_size = is_finite & (size >= _SMALLEST_SIZE)
    # Torch turns a number divided by a tensor into a product with reciprocals, which is rounded twice.
    factor = torch.where(has_size, torch.full_like(size, 127.0) / size, 0.0)
    codes = (torch.where(is_finite, numbers, 0.0) * factor).round().to(torch.int8)
    scales = torch.where(has_size, size / 127.0, 0.0).masked_fill(~is_finite, torch.nan)
    return torch.cat([codes, scales.contiguous().view(torch.int8)], -1)


def widened(stored: Tensor) -> Tensor:
    """What ``[.., W]`` of the pool stands for, in float32: ``[.., D]``."""
    if stored.dtype != torch.int8:
        return stored.float()
    head_size = head_size_of(stored)
    scales = stored[..., head_size:].contiguous().view(torch.float32)
    return stored[..., :head_size].float() * scales
