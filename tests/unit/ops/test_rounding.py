from __future__ import annotations

import pytest
import torch
from torch import Tensor

from quire.ops.quantized import Form, dequantised
from quire.ops.rounding import nearest_codes

GRID = (1.0, 0.9, 0.8, 0.7)
FORMS = [Form(8), Form(4, 128, zero_points=True), Form(4, 128), Form(4, 32, zero_points=True)]


def weight(columns: int = 16, depth: int = 256, seed: int = 0) -> Tensor:
    return torch.randn(columns, depth, generator=torch.Generator().manual_seed(seed))


def error(found: Tensor, exact: Tensor) -> float:
    return float((found - exact).square().mean().sqrt() / exact.square().mean().sqrt())


@pytest.mark.parametrize(("form", "bound"), list(zip(FORMS, (0.01, 0.1, 0.11, 0.08), strict=True)), ids=str)
def test_codes_stand_for_numbers_near_the_weights(form: Form, bound: float) -> None:
    exact = weight()
    assert error(dequantised(nearest_codes(exact, form, GRID), form), exact) < bound


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("depth", [1, 31, 128, 200])
def test_codes_keep_to_their_range_at_any_depth(form: Form, depth: int) -> None:
    codes = nearest_codes(weight(5, depth), form, GRID)
    low, high = (-127, 127) if form.bits == 8 else (0, 15)
    assert codes.codes_NK.shape == (5, depth) and codes.scales_NG.shape == (5, form.num_groups(depth))
    assert low <= int(codes.codes_NK.min()) and int(codes.codes_NK.max()) <= high
    assert (codes.zeros_NG is not None) == form.zero_points


@pytest.mark.parametrize("form", FORMS[1:3], ids=str)
def test_a_clipped_range_is_taken_where_its_squared_error_is_less(form: Form) -> None:
    exact = weight()
    plain = error(dequantised(nearest_codes(exact, form, (1.0,)), form), exact)
    searched = error(dequantised(nearest_codes(exact, form, GRID), form), exact)
    assert searched < 0.98 * plain


@pytest.mark.parametrize("form", FORMS[1:], ids=str)
def test_no_other_scale_suits_the_codes_better(form: Form) -> None:
    exact = weight()
    codes = nearest_codes(exact, form, GRID)
    found = (dequantised(codes, form) - exact).square().sum()
    for factor in (0.999, 1.001):
        changed = type(codes)(codes.codes_NK, codes.scales_NG * factor, codes.zeros_NG)
        assert (dequantised(changed, form) - exact).square().sum() > found


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_row_is_rounded_alone(form: Form) -> None:
    exact = weight()
    together, alone = nearest_codes(exact, form, GRID), nearest_codes(exact[3:4], form, GRID)
    assert torch.equal(together.codes_NK[3:4], alone.codes_NK) and torch.equal(together.scales_NG[3:4], alone.scales_NG)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_noughts_stay_nought(form: Form) -> None:
    found = dequantised(nearest_codes(torch.zeros(2, 130), form, GRID), form)
    assert torch.equal(found, torch.zeros(2, 130))


@pytest.mark.parametrize("form", [Form(4, 128, zero_points=True), Form(8)], ids=str)
def test_weights_of_one_sign_are_near_too(form: Form) -> None:
    exact = weight().abs() + 1.0
    assert error(dequantised(nearest_codes(exact, form, GRID), form), exact) < 0.06
