"""Codes by the native kernel against the reference, by every set of instructions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from quire.config.quantization import Form
from quire.ops.native import find_native
from quire.ops.quantized import dequantised
from quire.ops.rounding import nearest_codes
from quire.ops.rounding_native import native_codes

EXTENSION = find_native()
if EXTENSION is None:
    pytest.skip("Quire was installed without its native kernels", allow_module_level=True)

FORMS = [Form(8), Form(4, 128, zero_points=True), Form(4, 128), Form(4, 20, zero_points=True), Form(4)]
GRID = (1.0, 0.95, 0.9, 0.85)


def weight(columns: int, depth: int) -> Tensor:
    return torch.randn(columns, depth, generator=torch.Generator().manual_seed(depth))


@pytest.fixture(params=["portable", "avx2", "avx512"])
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    assert EXTENSION is not None
    before = EXTENSION.isa()
    try:
        EXTENSION.use_isa(request.param)
    except ValueError as error:
        pytest.skip(str(error))
    yield request.param
    EXTENSION.use_isa(before)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("depth", [1, 15, 31, 128, 200, 1000])
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_codes_are_the_reference_s_but_where_a_last_bit_decides(form: Form, depth: int) -> None:
    exact = weight(24, depth)
    found, expected = native_codes(exact, form, GRID), nearest_codes(exact, form, GRID)
    assert float((found.codes_NK != expected.codes_NK).float().mean()) < 0.01
    ours, theirs = ((dequantised(codes, form) - exact).square().mean().sqrt() for codes in (found, expected))
    assert float(ours) == pytest.approx(float(theirs), rel=1e-3, abs=1e-7)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_every_processor_finds_the_same_codes(form: Form) -> None:
    assert EXTENSION is not None
    before, exact = EXTENSION.isa(), weight(40, 333)
    best = native_codes(exact, form, GRID)
    try:
        EXTENSION.use_isa("portable")
        plain = native_codes(exact, form, GRID)
    finally:
        EXTENSION.use_isa(before)
    assert torch.equal(best.codes_NK, plain.codes_NK) and torch.equal(best.scales_NG, plain.scales_NG)
    assert best.zeros_NG is plain.zeros_NG is None or torch.equal(best.zeros_NG, plain.zeros_NG)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_row_is_rounded_alone_wherever_it_lies(form: Form) -> None:
    whole = weight(40, 300)
    part = whole[7:9, 30:250]
    assert not part.is_contiguous()
    found, alone = native_codes(part, form, GRID), native_codes(part[1:].clone(), form, GRID)
    assert torch.equal(found.codes_NK[1:], alone.codes_NK) and torch.equal(found.scales_NG[1:], alone.scales_NG)


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_weight_that_is_not_finite_is_not_hidden(form: Form, bad: float) -> None:
    exact = weight(2, 64)
    exact[0, 3] = bad
    found = native_codes(exact, form, GRID)
    assert not found.scales_NG[0, 0].isfinite() and found.scales_NG[1].isfinite().all()


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_noughts_stay_nought(form: Form) -> None:
    assert torch.equal(dequantised(native_codes(torch.zeros(3, 130), form, GRID), form), torch.zeros(3, 130))


def test_another_type_is_refused() -> None:
    with pytest.raises(ValueError, match="float32"):
        native_codes(weight(2, 8).bfloat16(), Form(8))
