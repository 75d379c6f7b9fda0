"""Products with quantised weights: the reference against arithmetic written out."""

from __future__ import annotations

import pytest
import torch

from quire.ops.quantized import Codes, Form, TorchQuantizedGemm, dequantised, rounded_inputs

GEMM = TorchQuantizedGemm()

FORMS = [
    Form(8),
    Form(8, int8_inputs=True),
    Form(4, 32, zero_points=True),
    Form(4, 32),
    Form(4, 32, int8_inputs=True),
    Form(4, 32, zero_points=True, int8_inputs=True),
]


def random_codes(form: Form, columns: int, depth: int, seed: int = 0) -> Codes:
    chance = torch.Generator().manual_seed(seed)
    low, high, kind = (-127, 128, torch.int8) if form.bits == 8 else (0, 16, torch.uint8)
    codes = torch.randint(low, high, (columns, depth), generator=chance).to(kind)
    groups = form.num_groups(depth)
    scales = torch.rand(columns, groups, generator=chance) + 0.1
    zeros = torch.randint(0, 16, (columns, groups), generator=chance).to(torch.uint8) if form.zero_points else None
    return Codes(codes, scales, zeros)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_code_stands_for_its_distance_from_nought_times_the_scale(form: Form) -> None:
    codes = random_codes(form, 3, 70)
    found = dequantised(codes, form)
    for column in range(3):
        for at in range(70):
            group = 0 if form.group is None else at // form.group
            nought = 8 if form.bits == 4 else 0
            if codes.zeros_NG is not None:
                nought = int(codes.zeros_NG[column, group])
            expected = (int(codes.codes_NK[column, at]) - nought) * codes.scales_NG[column, group]
            assert found[column, at] == expected


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("depth", [1, 31, 64, 101])
def test_a_product_is_that_of_the_numbers_the_codes_stand_for(form: Form, depth: int) -> None:
    codes = random_codes(form, 7, depth)
    x = torch.randn(2, 5, depth, generator=torch.Generator().manual_seed(1))
    bias = torch.arange(7.0)
    found = GEMM.multiply(x, GEMM.pack(codes, form), bias)
    seen = x.double()
    if form.int8_inputs:
        whole, scales = rounded_inputs(x)
        seen = whole.double() * scales.double()
    expected = seen @ dequantised(codes, form).double().T + bias
    assert torch.allclose(found.double(), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_rows_are_read_out_of_the_packed_weight(form: Form) -> None:
    codes = random_codes(form, 9, 33)
    packed = GEMM.pack(codes, form)
    ids = torch.tensor([[8, 0], [3, 3]])
    assert torch.equal(GEMM.rows(ids, packed, torch.bfloat16), dequantised(codes, form)[ids].bfloat16())
    with pytest.raises(IndexError):
        GEMM.rows(torch.tensor([9]), packed, torch.bfloat16)


def test_inputs_are_rounded_by_their_rows_largest_magnitude() -> None:
    codes, scales = rounded_inputs(torch.tensor([[1.0, -2.54, 0.01, 0.03], [0.0, 0.0, 0.0, 0.0]]))
    assert codes.tolist() == [[50, -127, 0, 2], [0, 0, 0, 0]]
    assert scales.flatten().tolist() == pytest.approx([0.02, 0.0])


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_row_that_is_not_finite_stays_so_and_touches_no_other(bad: float) -> None:
    form = Form(8, int8_inputs=True)
    packed = GEMM.pack(random_codes(form, 4, 16), form)
    x = torch.ones(2, 16)
    x[0, 3] = bad
    found = GEMM.multiply(x, packed)
    assert not found[0].isfinite().any()
    assert torch.equal(found[1:], GEMM.multiply(x[1:], packed))


def test_two_4_bit_codes_take_one_byte() -> None:
    form = Form(4, 128, zero_points=True)
    packed = GEMM.pack(random_codes(form, 16, 256), form)
    assert packed.num_bytes == 16 * 256 // 2 + 16 * 2 * (4 + 1)


def test_an_input_of_another_depth_is_refused() -> None:
    packed = GEMM.pack(random_codes(Form(8), 4, 16), Form(8))
    with pytest.raises(ValueError, match="16 inputs"):
        GEMM.multiply(torch.ones(1, 15), packed)
