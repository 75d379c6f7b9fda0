"""The native quantised products against float64 and whole numbers, for each set of instructions of this processor."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest
import torch
from torch import Tensor

from quire.errors import ConfigError
from quire.ops.native import find_native
from quire.ops.quantized import Codes, Form, Packed, TorchQuantizedGemm, dequantised
from quire.ops.quantized_native import NativeQuantizedGemm

extension = find_native()
if extension is None:
    pytest.skip("Quire was built without its native kernels", allow_module_level=True)


def has(isa: str) -> bool:
    before = extension.isa()
    try:
        extension.use_isa(isa)
    except ValueError:
        return False
    extension.use_isa(before)
    return True


HERE = [isa for isa in ("portable", "avx2", "avx512", "avx512bf16", "neon", "neonbf16") if has(isa)]
TYPES = [torch.bfloat16, torch.float16, torch.float32]
FORMS = [
    Form(bits, group, zero_points=zero_points, int8_inputs=int8_inputs)
    for bits, group, zero_points, int8_inputs in product((8, 4), (None, 128, 20), (False, True), (False, True))
]
# Columns, depth, rows: whole and broken panels, quads, turns of the loops, groups and tiles.
SHAPES = [(1, 1, 1), (32, 8, 12), (33, 7, 5), (64, 64, 13), (31, 130, 25), (200, 97, 49), (513, 255, 3), (96, 333, 97)]


def name_of(form: Form) -> str:
    return (
        f"{form.bits} bits in {form.group or 'all'}{' with zeros' if form.zero_points else ''}"
        f"{' by int8' if form.int8_inputs else ''}"
    )


@pytest.fixture(params=HERE)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    before = extension.isa()
    extension.use_isa(request.param)
    yield request.param
    extension.use_isa(before)


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def draw(*shape: int, dtype: torch.dtype = torch.bfloat16, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape))).to(dtype)


def draw_codes(columns: int, depth: int, form: Form) -> Codes:
    source, groups = torch.Generator().manual_seed(columns + depth), form.num_groups(depth)
    low, high, kind = (-127, 128, torch.int8) if form.bits == 8 else (0, 16, torch.uint8)
    codes_NK = torch.randint(low, high, (columns, depth), generator=source, dtype=kind)
    zeros_NG = torch.randint(0, 16, (columns, groups), generator=source, dtype=torch.uint8)
    scales_NG = torch.rand(columns, groups, generator=source) * 0.1 + 0.01
    return Codes(codes_NK, scales_NG, zeros_NG if form.zero_points else None)


def pack(columns: int, depth: int, form: Form) -> tuple[Codes, Packed]:
    codes = draw_codes(columns, depth, form)
    return codes, NativeQuantizedGemm().pack(codes, form)


def assert_near(found: Tensor, x: Tensor, codes: Codes, form: Form, bias: Tensor) -> None:
    """Within the rounding of float32 sums: a bound that grows with the terms, not with their sum."""
    weight = dequantised(codes, form).double()
    exact = x.double() @ weight.T + bias.double()
    # Inputs times zero points are taken off apart from the codes.
    terms = x.double().abs() @ (weight.abs() + 16 * float(codes.scales_NG.max())).T + 1
    assert float(((found.double() - exact).abs() / terms).max()) < 1e-5


@pytest.mark.parametrize("form", FORMS, ids=name_of)
def test_products_are_those_of_the_weight_that_the_codes_stand_for(isa: str, form: Form) -> None:
    gemm, reference = NativeQuantizedGemm(), TorchQuantizedGemm()
    for (columns, depth, num_rows), dtype in product(SHAPES, TYPES):
        codes, packed = pack(columns, depth, form)
        x, bias = draw(num_rows, depth, dtype=dtype, seed=1), draw(columns, dtype=dtype)
        found = gemm.multiply(x, packed, bias, dtype=torch.float32)
        if form.int8_inputs:  # whole numbers, and the same few roundings after them
            assert torch.equal(found, reference.multiply(x, reference.pack(codes, form), bias, dtype=torch.float32))
        else:
            assert_near(found, x, codes, form, bias)
        assert torch.equal(gemm.multiply(x, packed, bias), found.to(dtype))


@pytest.mark.parametrize("form", FORMS, ids=name_of)
def test_a_thousand_rows_are_what_some_of_them_are_alone(isa: str, form: Form) -> None:
    gemm, (_, packed), x = NativeQuantizedGemm(), pack(70, 66, form), draw(1000, 66)
    found = gemm.multiply(x, packed)
    for row in range(0, 1000, 37):
        assert torch.equal(found[row : row + 1], gemm.multiply(x[row : row + 1], packed))


@pytest.mark.parametrize("form", [form for form in FORMS if form.group != 128], ids=name_of)
def test_a_row_is_the_same_whatever_the_batch_its_place_and_the_threads(isa: str, form: Form) -> None:
    most, gemm, (_, packed) = 120, NativeQuantizedGemm(), pack(197, 147, form)
    for dtype in (torch.bfloat16, torch.float32):
        x, bias = draw(most, 147, dtype=dtype), draw(197, dtype=dtype)
        torch.set_num_threads(1)
        alone = torch.cat([gemm.multiply(x[row : row + 1], packed, bias) for row in range(most)])
        for threads in (1, 2, 64):
            torch.set_num_threads(threads)
            for num_rows in (2, 4, 5, 11, 13, 31, 97, most):
                assert torch.equal(gemm.multiply(x[:num_rows], packed, bias), alone[:num_rows]), (threads, num_rows)
                assert torch.equal(gemm.multiply(x[most - num_rows :], packed, bias), alone[most - num_rows :])
            order = torch.randperm(most, generator=torch.Generator().manual_seed(threads))
            assert torch.equal(gemm.multiply(x[order], packed, bias), alone[order])


@pytest.mark.parametrize("form", [form for form in FORMS if form.int8_inputs], ids=name_of)
def test_products_by_int8_are_the_same_for_all_instructions(form: Form) -> None:
    gemm, before = NativeQuantizedGemm(), extension.isa()
    _, packed = pack(100, 300, form)
    x, found = draw(14, 300), []
    for isa in HERE:
        extension.use_isa(isa)
        found.append(gemm.multiply(x, packed, dtype=torch.float32))
    extension.use_isa(before)
    assert all(torch.equal(other, found[0]) for other in found[1:])


@pytest.mark.parametrize("bits", [8, 4])
def test_the_largest_sums_of_whole_numbers_stay_exact(isa: str, bits: int) -> None:
    depth, form = 2**16, Form(8 if bits == 8 else 4, int8_inputs=True)
    for code, sign in product((127, -127) if bits == 8 else (15, 0), (1, -1)):
        codes_NK = torch.full((33, depth), code, dtype=torch.int8 if bits == 8 else torch.uint8)
        codes_NK[1, ::2] = 0
        gemm = NativeQuantizedGemm()
        packed = gemm.pack(Codes(codes_NK, torch.ones(33, 1)), form)
        x = torch.full((2, depth), 127.0 * sign)
        x[1, 1::2] = 0
        values = codes_NK.long() - (0 if bits == 8 else 8)
        exact = (x.long() @ values.T).float()
        assert torch.equal(gemm.multiply(x, packed), exact)


@pytest.mark.parametrize("form", FORMS, ids=name_of)
def test_rows_come_back_as_the_reference_has_them(form: Form) -> None:
    gemm, reference = NativeQuantizedGemm(), TorchQuantizedGemm()
    for (columns, depth), dtype in product(((64, 48), (33, 147), (1, 1)), TYPES):
        codes, packed = pack(columns, depth, form)
        ids = torch.arange(3 * columns).view(3, columns) % columns
        assert torch.equal(gemm.rows(ids, packed, dtype), reference.rows(ids, reference.pack(codes, form), dtype))
        for outside in (-1, columns):
            with pytest.raises(IndexError, match=f"there are {columns}"):
                gemm.rows(torch.tensor([0, outside]), packed, dtype)


@pytest.mark.parametrize("form", FORMS, ids=name_of)
@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan], ids=str)
def test_what_is_no_number_stays_in_its_row(isa: str, value: float, form: Form) -> None:
    gemm, (_, packed), x = NativeQuantizedGemm(), pack(40, 26, form), draw(20, 26)
    clean = gemm.multiply(x, packed)
    x[7, 3] = value
    found = gemm.multiply(x, packed)
    assert not bool(torch.isfinite(found[7]).any())
    assert torch.equal(torch.cat([found[:7], found[8:]]), torch.cat([clean[:7], clean[8:]]))


def test_what_lies_behind_a_row_is_never_read_into_it(isa: str) -> None:
    for form in FORMS:
        gemm, (_, packed) = NativeQuantizedGemm(), pack(40, 26, form)
        wide = torch.full((13, 30), torch.nan, dtype=torch.bfloat16)
        wide[:, :26] = draw(13, 26)
        assert torch.equal(gemm.multiply(wide[:, :26], packed), gemm.multiply(draw(13, 26), packed)), form


def test_rows_of_nought_and_of_the_smallest_numbers_give_nought(isa: str) -> None:
    gemm, (_, packed) = NativeQuantizedGemm(), pack(40, 24, Form(8, int8_inputs=True))
    x = torch.zeros(2, 24)
    x[1] = 2.0**-120
    assert torch.equal(gemm.multiply(x, packed), torch.zeros(2, 40))


def test_rows_that_stand_apart_and_leading_dimensions_are_taken_as_they_are() -> None:
    for form in (Form(8), Form(4, 128, zero_points=True), Form(8, int8_inputs=True)):
        gemm, (codes, packed), x = NativeQuantizedGemm(), pack(40, 24, form), draw(6, 50)
        expected = gemm.multiply(x[:, 10:34].contiguous(), packed)
        assert torch.equal(gemm.multiply(x[:, 10:34], packed), expected)
        assert torch.equal(gemm.multiply(x[:, 10:34].reshape(2, 3, 24), packed), expected.view(2, 3, 40))
        assert torch.equal(gemm.multiply(x[:, 10:34].t().contiguous().t(), packed), expected)
        assert gemm.multiply(x[:0, 10:34], packed).shape == (0, 40)
        turned = Codes(codes.codes_NK.t().contiguous().t(), codes.scales_NG, codes.zeros_NG)
        assert torch.equal(gemm.pack(turned, form).tensors[0], packed.tensors[0])


def test_a_packed_weight_takes_its_bits_and_its_scales() -> None:
    heads = 4 * 1024 * 8
    assert pack(1024, 1024, Form(8))[1].num_bytes == 1024 * 1024 + 4 * 1024
    assert pack(1024, 1024, Form(4, 128))[1].num_bytes == 1024 * 1024 // 2 + heads
    assert pack(1024, 1024, Form(4, 128, zero_points=True))[1].num_bytes == 1024 * 1024 // 2 + heads + heads // 4


def test_what_the_kernels_do_not_take_is_an_error_when_it_is_packed() -> None:
    gemm, form = NativeQuantizedGemm(), Form(8)
    good = draw_codes(40, 24, form)
    bad: list[tuple[Codes, Form, str]] = [
        (Codes(good.codes_NK.to("meta"), good.scales_NG), form, "on meta"),
        (Codes(good.codes_NK.short(), good.scales_NG), form, r"torch\.int16"),
        (Codes(good.codes_NK[0], good.scales_NG), form, r"\[24\]"),
        (Codes(good.codes_NK[:, :0], good.scales_NG), form, r"\[40, 0\]"),
        (Codes(good.codes_NK, good.scales_NG[:39]), form, r"scales \[40, 1\]"),
        (Codes(good.codes_NK, good.scales_NG.double()), form, "float64"),
        (good, Form(4, 128), r"4-bit codes as a matrix of torch\.uint8"),
        (good, Form(8, 8), r"scales \[40, 3\]"),
        (good, Form(8, zero_points=True), "zero_points=True"),
        (draw_codes(40, 24, Form(8, 6)), Form(8, 6), "a multiple of 4 numbers, not of 6"),
        (Codes(torch.full((40, 24), -128, dtype=torch.int8), good.scales_NG), form, "from -127 to 127"),
        (Codes(torch.full((40, 24), 16, dtype=torch.uint8), good.scales_NG), Form(4), "from 0 to 15"),
        (draw_codes(1, 2**16 + 1, form), Form(8, int8_inputs=True), "at most 65536"),
    ]
    for codes, wanted, words in bad:
        with pytest.raises(ConfigError, match=words):
            gemm.pack(codes, wanted)
    zeros = torch.full((40, 1), 16, dtype=torch.uint8)
    for wrong, words in ((zeros, "to 16"), (zeros.int(), "int32"), (zeros[:3], r"\[3, 1\]")):
        with pytest.raises(ConfigError, match=words):
            gemm.pack(Codes(good.codes_NK, good.scales_NG, wrong), Form(8, zero_points=True))


def test_an_x_that_does_not_go_with_the_weight_is_an_error() -> None:
    gemm, (_, packed), x = NativeQuantizedGemm(), pack(40, 24, Form(4, 8)), draw(2, 24)
    for wrong in (draw(2, 25), draw(2, 24, dtype=torch.float64), x.to("meta")):
        with pytest.raises(ValueError, match="does not go with a weight of 40 columns and 24 inputs"):
            gemm.multiply(wrong, packed)
    with pytest.raises(ValueError, match="bias"):
        gemm.multiply(x, packed, torch.zeros(40))
    with pytest.raises(ValueError, match="float16"):
        gemm.multiply(x, packed, dtype=torch.float16)
    with pytest.raises(ValueError, match="int64"):
        gemm.rows(torch.tensor([1], dtype=torch.int32), packed, torch.bfloat16)
    with pytest.raises(ValueError, match="float64"):
        gemm.rows(torch.tensor([1]), packed, torch.float64)
