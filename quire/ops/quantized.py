"""Products with quantised weights: the contract, and the reference that undoes the quantisation.

A code c of a group with scale s and zero point z stands for the number ``(c - z) * s`` in float32; without zero points
z is 0 for 8 bits and 8 for 4 bits.

Not here: kernels (quantized_native.py), how a weight becomes codes (quant/), which runs (op.py).
Door: Form, Codes, Packed, QuantizedGemm, TorchQuantizedGemm, dequantised, rounded_inputs.
"""

# Shapes: ... any leading dimensions, R rows, K depth (inputs), N columns (outputs), G groups of the depth.

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from quire.config.quantization import Form

__all__ = ["Codes", "Form", "Packed", "QuantizedGemm", "TorchQuantizedGemm", "dequantised", "rounded_inputs"]

MIDDLE = 8
"""The 4-bit code that means nought where a form has no zero points."""
LEAST_AMAX = 2.0**-100
"""Inputs no larger than this count as nought, so that no scale overflows."""


@dataclass(frozen=True, slots=True)
class Codes:
    """A quantised weight before it is packed.

    ``codes_NK``: int8 from -127 to 127 for 8 bits, uint8 from 0 to 15, one a byte, for 4. ``scales_NG``: float32.
    ``zeros_NG``: uint8 from 0 to 15, where the form has zero points.
    """

    codes_NK: Tensor
    scales_NG: Tensor
    zeros_NG: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Packed:
    """A weight ``[columns, depth]`` as one implementation reads it: plain tensors in that implementation's own order,
    so that they can be written to a file and mapped again."""

    tensors: tuple[Tensor, ...]
    columns: int
    depth: int
    form: Form

    @property
    def num_bytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors)

    @property
    def num_parameters(self) -> int:
        """Numbers of the weight, however many bits each takes."""
        return self.columns * self.depth


class QuantizedGemm(Protocol):
    """How codes lie in memory, and what is computed with them. One instance serves any number of weights."""

    def pack(self, codes: Codes, form: Form) -> Packed:
        """The codes as the other methods want them.

        Raises: ConfigError for a form, type or device that the kernel does not take.
        """
        ...

    def multiply(
        self, x: Tensor, packed: Packed, bias_N: Tensor | None = None, *, dtype: torch.dtype | None = None
    ) -> Tensor:
        """``x weight^T + bias``, summed in float32 in an order that depends on nothing but the shape of the weight, and
        rounded once, to the type of x or to ``dtype``.

        With ``int8_inputs`` each row of x becomes ``rounded_inputs`` first; the sums over a group are whole numbers.

        Shapes:  x [..., K], result [..., N], bias [N] in the type of x.
        Raises:  ValueError for an x that does not go with the weight.
        """
        ...

    def rows(self, ids: Tensor, packed: Packed, dtype: torch.dtype) -> Tensor:
        """``weight[ids]``, dequantised in float32 and rounded once.

        Shapes:  ids [...] int64, result [..., K].
        Raises:  IndexError for an id outside 0..columns.
        """
        ...


class TorchQuantizedGemm:
    """The reference: codes as they came, 4-bit ones in pairs."""

    def pack(self, codes: Codes, form: Form) -> Packed:
        columns, depth = codes.codes_NK.shape
        kept = codes.codes_NK.contiguous() if form.bits == 8 else _paired(codes.codes_NK)
        tensors = (kept, codes.scales_NG) if codes.zeros_NG is None else (kept, codes.scales_NG, codes.zeros_NG)
        return Packed(tensors, columns, depth, form)

    def multiply(
        self, x: Tensor, packed: Packed, bias_N: Tensor | None = None, *, dtype: torch.dtype | None = None
    ) -> Tensor:
        if x.shape[-1] != packed.depth:
            raise ValueError(f"x {list(x.shape)} does not go with a weight of {packed.depth} inputs.")
        if packed.form.int8_inputs:
            result = _integer_product(x, _unpacked(packed), packed.form)
        else:
            result = x.float() @ dequantised(_unpacked(packed), packed.form).T
        if bias_N is not None:
            result = result + bias_N.float()
        return result.to(dtype or x.dtype)

    def rows(self, ids: Tensor, packed: Packed, dtype: torch.dtype) -> Tensor:
        if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < packed.columns:
            raise IndexError(f"An id is outside 0..{packed.columns}.")
        wanted = Packed(tuple(tensor[ids.flatten()] for tensor in packed.tensors), 0, packed.depth, packed.form)
        return dequantised(_unpacked(wanted), packed.form).to(dtype).view(*ids.shape, packed.depth)


def dequantised(codes: Codes, form: Form) -> Tensor:
    """The weight that the codes stand for, ``[N, K]`` in float32."""
    depth = codes.codes_NK.shape[1]
    return _centred(codes, form) * _spread(codes.scales_NG, form, depth)


def rounded_inputs(x: Tensor) -> tuple[Tensor, Tensor]:
    """Each row as whole numbers from -127 to 127, and what one of them is worth.

    A row's scale is its largest magnitude / 127; a number times (127 / largest magnitude), in float32, is rounded to
    the nearest whole one, halves to even. A row that is not finite has a scale that is not finite.

    Shapes:  x [..., K], result int8 [..., K] and float32 [..., 1].
    """
    exact = x.float()
    amax = exact.abs().amax(dim=-1, keepdim=True)
    is_nought = amax <= LEAST_AMAX
    inverse = torch.where(is_nought, 0.0, torch.full_like(amax, 127.0) / amax)  # torch makes 127.0 / amax two roundings
    codes = torch.round(exact * inverse).nan_to_num(0.0, 0.0, 0.0).clamp(-127, 127).to(torch.int8)
    return codes, torch.where(is_nought, 0.0, amax / 127.0)


def _integer_product(x: Tensor, codes: Codes, form: Form) -> Tensor:
    x_codes, x_scales = rounded_inputs(x)
    depth, size = x.shape[-1], form.group or x.shape[-1]
    # Whole numbers below 2^53 are exact in float64.
    left, right = x_codes.double(), _centred(codes, form).double()
    total = torch.zeros(*x.shape[:-1], codes.codes_NK.shape[0], dtype=torch.float32)
    for group, start in enumerate(range(0, depth, size)):
        part = left[..., start : start + size] @ right[:, start : start + size].T
        total += part.float() * codes.scales_NG[:, group]
    return total * x_scales


def _centred(codes: Codes, form: Form) -> Tensor:
    """Codes less their zero points, in float32."""
    depth = codes.codes_NK.shape[1]
    if codes.zeros_NG is not None:
        return codes.codes_NK.float() - _spread(codes.zeros_NG.float(), form, depth)
    return codes.codes_NK.float() - (MIDDLE if form.bits == 4 else 0)


def _spread(of_groups_NG: Tensor, form: Form, depth: int) -> Tensor:
    """What a group has, for each of its numbers: ``[N, G] -> [N, K]``."""
    if form.group is None:
        return of_groups_NG
    return of_groups_NG.repeat_interleave(form.group, dim=1)[:, :depth]


def _paired(codes_NK: Tensor) -> Tensor:
    """Two 4-bit codes in a byte, the first in its low half."""
    if codes_NK.shape[1] % 2:
        codes_NK = torch.nn.functional.pad(codes_NK, (0, 1))
    return codes_NK[:, ::2] | (codes_NK[:, 1::2] << 4)


def _unpacked(packed: Packed) -> Codes:
    kept, scales_NG, *zeros = packed.tensors
    if packed.form.bits == 4:
        kept = torch.stack((kept & 15, kept >> 4), dim=-1).flatten(1)[:, : packed.depth]
    return Codes(kept, scales_NG, zeros[0] if zeros else None)
