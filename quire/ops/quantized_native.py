"""Products with quantised weights by the native kernels: codes in panels, widened in registers, or multiplied as bytes.

Each output is a chain of sums over a group, and the groups' in turn: the same to the last bit whatever other rows there
are, wherever its row stands, however many threads. With int8 inputs it is the reference's, on every processor.

Not here: the contract and the reference (quantized.py), the kernels and how they lay a weight out (native/quantized).
Door: NativeQuantizedGemm.
"""

# Shapes: ... any leading dimensions, K depth (inputs), N columns (outputs), G groups of the depth.

from __future__ import annotations

import torch
from torch import Tensor

from quire.errors import ConfigError
from quire.ops.native import native
from quire.ops.quantized import Codes, Form, Packed

_TYPES = {torch.bfloat16: 0, torch.float16: 1, torch.float32: 2}
_QUAD = 4
_MOST_WHOLE = 2**16
"""Products of a code and an 8-bit input whose sum 32 bits hold."""


class NativeQuantizedGemm:
    """On a CPU; inputs in bfloat16, float16 or float32.

    Raises: ConfigError where the extension is missing.
    """

    def __init__(self) -> None:
        extension = native()
        self._bytes, self._pack = extension.quantized_bytes, extension.quantized_pack
        self._product, self._rows = extension.quantized, extension.quantized_rows

    def pack(self, codes: Codes, form: Form) -> Packed:
        codes_NK = codes.codes_NK if codes.codes_NK.stride(-1) == 1 else codes.codes_NK.contiguous()
        columns, depth = _checked(codes_NK, codes, form)
        numbers = _numbers(form, depth)
        scales_NG = codes.scales_NG.contiguous()
        zeros_NG = None if codes.zeros_NG is None else codes.zeros_NG.contiguous()
        size = torch.zeros(1, dtype=torch.int64)
        self._bytes(*numbers, columns, depth, size.data_ptr())
        packed = torch.empty(int(size), dtype=torch.uint8)
        self._pack(
            *numbers,
            columns,
            depth,
            codes_NK.data_ptr(),
            codes_NK.stride(0),
            scales_NG.data_ptr(),
            0 if zeros_NG is None else zeros_NG.data_ptr(),
            packed.data_ptr(),
        )
        return Packed((packed,), columns, depth, form)

    def multiply(
        self, x: Tensor, packed: Packed, bias_N: Tensor | None = None, *, dtype: torch.dtype | None = None
    ) -> Tensor:
        columns, depth = packed.columns, packed.depth
        kind = _TYPES.get(x.dtype)
        if kind is None or x.shape[-1] != depth or not x.is_cpu:
            raise ValueError(
                f"x {list(x.shape)} of {x.dtype} on {x.device} does not go with a weight of {columns} columns and "
                f"{depth} inputs: bfloat16, float16 or float32 [..., {depth}] on a CPU does."
            )
        if bias_N is not None and (bias_N.dtype != x.dtype or bias_N.shape != (columns,) or bias_N.stride(0) != 1):
            raise ValueError(f"A bias {list(bias_N.shape)} of {bias_N.dtype} does not go with {columns} of {x.dtype}.")
        result_dtype = x.dtype if dtype is None else dtype
        if result_dtype not in (torch.float32, x.dtype):
            raise ValueError(f"The kernels write {x.dtype} or float32, not {result_dtype}.")
        rows = x if x.dim() == 2 else x.reshape(-1, depth)
        if rows.stride(1) != 1:
            rows = rows.contiguous()
        y = torch.empty(rows.shape[0], columns, dtype=result_dtype)
        self._product(
            *_numbers(packed.form, depth),
            kind,
            _TYPES[result_dtype],
            rows.shape[0],
            columns,
            depth,
            rows.data_ptr(),
            rows.stride(0),
            packed.tensors[0].data_ptr(),
            0 if bias_N is None else bias_N.data_ptr(),
            y.data_ptr(),
            columns,
        )
        return y if x.dim() == 2 else y.view(*x.shape[:-1], columns)

    def rows(self, ids: Tensor, packed: Packed, dtype: torch.dtype) -> Tensor:
        if ids.dtype != torch.int64:
            raise ValueError(f"Ids are int64, not {ids.dtype}.")
        if dtype not in _TYPES:
            raise ValueError(f"Rows come in bfloat16, float16 or float32, not {dtype}.")
        wanted = ids.contiguous()
        rows = torch.empty(*ids.shape, packed.depth, dtype=dtype)
        self._rows(
            *_numbers(packed.form, packed.depth),
            _TYPES[dtype],
            packed.columns,
            packed.depth,
            wanted.numel(),
            packed.tensors[0].data_ptr(),
            wanted.data_ptr(),
            rows.data_ptr(),
        )
        return rows


def _numbers(form: Form, depth: int) -> tuple[int, int, int, int]:
    """A form as the extension takes it."""
    group = depth if form.group is None else min(form.group, depth)
    return form.bits, group, int(form.zero_points), int(form.int8_inputs)


def _checked(codes_NK: Tensor, codes: Codes, form: Form) -> tuple[int, int]:
    """Columns and depth of codes that the kernels take."""
    kind = torch.int8 if form.bits == 8 else torch.uint8
    if codes_NK.device.type != "cpu" or codes_NK.dtype != kind or codes_NK.dim() != 2 or 0 in codes_NK.shape:
        raise ConfigError(
            f"The native kernels take {form.bits}-bit codes as a matrix of {kind} on a CPU; these are "
            f"{list(codes_NK.shape)} of {codes_NK.dtype} on {codes_NK.device}."
        )
    columns, depth = codes_NK.shape
    shape, zeros_NG = (columns, form.num_groups(depth)), codes.zeros_NG
    if codes.scales_NG.shape != shape or codes.scales_NG.dtype != torch.float32 or not codes.scales_NG.is_cpu:
        raise ConfigError(
            f"Codes {[columns, depth]} in groups of {form.group or depth} need float32 scales {list(shape)} on a CPU; "
            f"these are {list(codes.scales_NG.shape)} of {codes.scales_NG.dtype} on {codes.scales_NG.device}."
        )
    if form.zero_points != (zeros_NG is not None):
        raise ConfigError(f"A form with zero_points={form.zero_points} came with zeros {zeros_NG}.")
    if zeros_NG is not None and (zeros_NG.shape != shape or zeros_NG.dtype != torch.uint8 or not zeros_NG.is_cpu):
        raise ConfigError(
            f"Zero points are uint8 {list(shape)} on a CPU, not {list(zeros_NG.shape)} of {zeros_NG.dtype} on "
            f"{zeros_NG.device}."
        )
    longest = min(form.group or depth, depth)
    if longest < depth and longest % _QUAD:
        raise ConfigError(f"The native kernels take groups of a multiple of {_QUAD} numbers, not of {form.group}.")
    if form.int8_inputs and longest > _MOST_WHOLE:
        raise ConfigError(
            f"A sum of {longest} products of 8 bits may not fit 32 bits; choose groups of at most {_MOST_WHOLE}."
        )
    least, most = (-127, 127) if form.bits == 8 else (0, 15)
    if int(codes_NK.min()) < least or int(codes_NK.max()) > most:
        raise ConfigError(f"{form.bits}-bit codes go from {least} to {most}; these go beyond.")
    if zeros_NG is not None and int(zeros_NG.max()) > 15:
        raise ConfigError(f"Zero points go from 0 to 15; these go to {int(zeros_NG.max())}.")
    return columns, depth
