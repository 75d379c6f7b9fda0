"""From weights to codes: each group's scale, and zero point where there is one, by least squared error.

Of each range that is tried, the codes nearest to the weights are taken, and then the scale that suits those codes best,
which is a quotient of two sums; so a range is judged by what it can do at its best.

Not here: what codes stand for and how they are multiplied (quantized.py), which ranges are tried (quant/), the kernel
(rounding_native.py).
Door: FindCodes, nearest_codes.
"""

# Shapes: N columns (outputs), K depth (inputs), G groups of it, S numbers of a group.

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from quire.config.quantization import Form
from quire.ops.quantized import MIDDLE, Codes

_LARGEST_8, _LARGEST_4 = 127, 15


class FindCodes(Protocol):
    """What makes codes of a weight: this reference, or a kernel."""

    def __call__(self, weight_NK: Tensor, form: Form, clippings: Sequence[float] = ...) -> Codes:
        """Codes of a float32 weight, each row's from that row alone."""
        ...


def nearest_codes(weight_NK: Tensor, form: Form, clippings: Sequence[float] = (1.0,)) -> Codes:
    """Codes of a float32 weight. A row's codes depend on that row alone.

    ``clippings``: for 4 bits, the parts of each group's range that are tried.
    """
    columns, depth = weight_NK.shape
    size = form.group or depth
    padded = functional.pad(weight_NK, (0, -depth % size)) if depth % size else weight_NK
    groups_NGS = padded.reshape(columns, -1, size)
    if form.bits == 8:
        codes_NGS, scales_NG = _rounded_8(groups_NGS)
        return Codes(codes_NGS.flatten(1)[:, :depth], scales_NG)
    inverse_NG, zeros_NG = _best_range(groups_NGS, form.zero_points, clippings)
    found_NGS = _distances(groups_NGS, inverse_NG, zeros_NG)
    # Once more with the scale that suits them: some codes are nearer to their weights then.
    found_NGS = _distances(groups_NGS, _reciprocal(_suited(groups_NGS, found_NGS)), zeros_NG)
    scales_NG = _suited(groups_NGS, found_NGS)
    codes_NGS = found_NGS.add_(zeros_NG.unsqueeze(-1)).to(torch.uint8)
    return Codes(codes_NGS.flatten(1)[:, :depth], scales_NG, zeros_NG.to(torch.uint8) if form.zero_points else None)


def _rounded_8(groups_NGS: Tensor) -> tuple[Tensor, Tensor]:
    amax_NG = groups_NGS.abs().amax(dim=-1)
    codes = (groups_NGS * (_reciprocal(amax_NG) * _LARGEST_8).unsqueeze(-1)).round_().clamp_(-_LARGEST_8, _LARGEST_8)
    return codes.to(torch.int8), amax_NG / _LARGEST_8


def _best_range(groups_NGS: Tensor, zero_points: bool, clippings: Sequence[float]) -> tuple[Tensor, Tensor]:
    """For each group one over the step between codes, and the code that means nought, as floats."""
    lows_NG, highs_NG = groups_NGS.amin(dim=-1), groups_NGS.amax(dim=-1)
    best_NG = torch.full_like(lows_NG, -1.0)
    inverse_NG, zeros_NG = torch.zeros_like(lows_NG), torch.full_like(lows_NG, float(MIDDLE))
    for clipping in clippings:
        tried_NG, nought_NG = _range(lows_NG * clipping, highs_NG * clipping, zero_points)
        found_NGS = _distances(groups_NGS, tried_NG, nought_NG)
        along_NG, square_NG = _sums(groups_NGS, found_NGS)
        # The squared error is the weights' own sum of squares less this.
        explained_NG = along_NG.square() * _reciprocal(square_NG)
        is_better = explained_NG > best_NG
        best_NG = torch.where(is_better, explained_NG, best_NG)
        inverse_NG = torch.where(is_better, tried_NG, inverse_NG)
        zeros_NG = torch.where(is_better, nought_NG, zeros_NG)
    return inverse_NG, zeros_NG


def _range(lows_NG: Tensor, highs_NG: Tensor, zero_points: bool) -> tuple[Tensor, Tensor]:
    """The codes' range over these numbers. Nought is always a code."""
    if zero_points:
        lows_NG, highs_NG = lows_NG.clamp(max=0.0), highs_NG.clamp(min=0.0)
        inverse_NG = _reciprocal((highs_NG - lows_NG) / _LARGEST_4)
        return inverse_NG, (-lows_NG * inverse_NG).round_()
    # The number farthest from nought gets the code farthest from the middle, whatever its sign.
    farthest_NG = torch.where(highs_NG > -lows_NG, highs_NG, lows_NG)
    return _reciprocal(farthest_NG / -MIDDLE), torch.full_like(lows_NG, float(MIDDLE))


def _distances(groups_NGS: Tensor, inverse_NG: Tensor, zeros_NG: Tensor) -> Tensor:
    """Codes less zero points, as floats: for each number the nearest there is."""
    zeros = zeros_NG.unsqueeze(-1)
    return torch.clamp(torch.round_(groups_NGS * inverse_NG.unsqueeze(-1)), -zeros, _LARGEST_4 - zeros)


def _suited(groups_NGS: Tensor, found_NGS: Tensor) -> Tensor:
    """The scale whose squared error is least for these codes."""
    along_NG, square_NG = _sums(groups_NGS, found_NGS)
    return along_NG * _reciprocal(square_NG)


def _sums(groups_NGS: Tensor, found_NGS: Tensor) -> tuple[Tensor, Tensor]:
    return (groups_NGS * found_NGS).sum(dim=-1), found_NGS.square().sum(dim=-1)


def _reciprocal(x: Tensor) -> Tensor:
    """One over x, and nought over nought: a group of noughts has the scale nought."""
    return torch.where(x == 0.0, 0.0, 1.0 / x)
