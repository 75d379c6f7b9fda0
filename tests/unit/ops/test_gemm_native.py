"""The native products against float64, for each set of instructions that this processor has, and their invariance."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from quire.errors import ConfigError
from quire.ops.gemm_native import NativeGemm
from quire.ops.native import find_native

extension = find_native()
if extension is None:
    pytest.skip("Quire was built without its native kernels", allow_module_level=True)

LEVELS = ["portable", "avx2", "avx512", "avx512bf16"]
HERE = LEVELS[: LEVELS.index(extension.best_isa()) + 1]
TYPES = [torch.bfloat16, torch.float16, torch.float32]
# Columns, depth, rows: whole and broken panels, pairs, turns of the loops and tiles.
SHAPES = [(1, 1, 1), (32, 8, 12), (33, 7, 5), (64, 64, 13), (31, 130, 25), (200, 97, 49), (513, 255, 3), (96, 77, 97)]


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


def draw(*shape: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape))).to(dtype)


def assert_near(found: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> None:
    """Within the rounding of float32 sums: a bound that grows with the terms, not with their sum."""
    exact = x.double() @ weight.double().T + (0 if bias is None else bias.double())
    terms = x.double().abs() @ weight.double().abs().T + 1
    assert float(((found.double() - exact).abs() / terms).max()) < 1e-5


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_products_are_those_of_float64(isa: str, dtype: torch.dtype) -> None:
    gemm = NativeGemm()
    for columns, depth, rows in SHAPES:
        weight, x = draw(columns, depth, dtype=dtype), draw(rows, depth, dtype=dtype, seed=1)
        bias = draw(columns, dtype=dtype)
        packed = gemm.pack(weight.clone())
        assert_near(gemm.multiply(x, packed, columns, dtype=torch.float32), x, weight)
        biased = gemm.multiply(x, packed, columns, bias, dtype=torch.float32)
        assert_near(biased, x, weight, bias)
        assert torch.equal(gemm.multiply(x, packed, columns, bias), biased.to(dtype))


def test_a_thousand_rows_are_those_of_float64(isa: str) -> None:
    weight, x = draw(70, 66, dtype=torch.bfloat16), draw(1000, 66, dtype=torch.bfloat16)
    gemm = NativeGemm()
    assert_near(gemm.multiply(x, gemm.pack(weight.clone()), 70, dtype=torch.float32), x, weight)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_a_row_is_the_same_whatever_the_batch_its_place_and_the_threads(isa: str, dtype: torch.dtype) -> None:
    columns, depth, most = 197, 131, 120
    weight, x, gemm = draw(columns, depth, dtype=dtype), draw(most, depth, dtype=dtype), NativeGemm()
    packed, bias = gemm.pack(weight), draw(columns, dtype=dtype)
    torch.set_num_threads(1)
    alone = torch.cat([gemm.multiply(x[row : row + 1], packed, columns, bias) for row in range(most)])
    for threads in (1, 2, 3, 7, 64):
        torch.set_num_threads(threads)
        for rows in (2, 3, 4, 5, 8, 11, 12, 13, 24, 31, 48, 97, most):
            assert torch.equal(gemm.multiply(x[:rows], packed, columns, bias), alone[:rows]), (threads, rows)
            assert torch.equal(gemm.multiply(x[most - rows :], packed, columns, bias), alone[most - rows :])
        order = torch.randperm(most, generator=torch.Generator().manual_seed(threads))
        assert torch.equal(gemm.multiply(x[order], packed, columns, bias), alone[order])


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_rows_come_back_as_they_were_packed(dtype: torch.dtype) -> None:
    gemm = NativeGemm()
    for columns, depth in ((64, 48), (33, 47), (70, 64), (1, 1)):
        weight = draw(columns, depth, dtype=dtype)
        ids = torch.arange(3 * columns).view(3, columns) % columns
        packed = gemm.pack(weight.clone())
        assert torch.equal(gemm.rows(ids, packed, columns, depth), weight[ids])
        for outside in (-1, columns):
            with pytest.raises(IndexError, match=f"there are {columns}"):
                gemm.rows(torch.tensor([0, outside]), packed, columns, depth)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_whole_panels_are_packed_in_place(dtype: torch.dtype) -> None:
    gemm = NativeGemm()
    weight = draw(96, 34, dtype=dtype)
    kept = weight.clone()
    packed = gemm.pack(weight)
    assert packed.data_ptr() == weight.data_ptr()
    wide = torch.zeros(96, 40, dtype=dtype)
    wide[:, :34] = kept
    assert torch.equal(gemm.pack(wide[:, :34]), packed)
    assert torch.equal(gemm.pack(kept.t().contiguous().t()), packed)


def test_rows_that_stand_apart_and_leading_dimensions_are_taken_as_they_are() -> None:
    gemm, weight, x = NativeGemm(), draw(40, 24, dtype=torch.bfloat16), draw(6, 50, dtype=torch.bfloat16)
    packed = gemm.pack(weight.clone())
    expected = gemm.multiply(x[:, 10:34].contiguous(), packed, 40)
    assert torch.equal(gemm.multiply(x[:, 10:34], packed, 40), expected)
    assert torch.equal(gemm.multiply(x[:, 10:34].reshape(2, 3, 24), packed, 40), expected.view(2, 3, 40))
    turned = x[:, 10:34].t().contiguous().t()
    assert torch.equal(gemm.multiply(turned, packed, 40), expected)
    assert gemm.multiply(x[:0, 10:34], packed, 40).shape == (0, 40)


@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan], ids=str)
def test_what_is_no_number_stays_in_its_row(isa: str, value: float) -> None:
    gemm, weight, x = NativeGemm(), draw(40, 24, dtype=torch.bfloat16), draw(20, 24, dtype=torch.bfloat16)
    packed = gemm.pack(weight)
    clean = gemm.multiply(x, packed, 40)
    x[7, 3] = value
    found = gemm.multiply(x, packed, 40)
    assert not bool(torch.isfinite(found[7]).any())
    assert torch.equal(torch.cat([found[:7], found[8:]]), torch.cat([clean[:7], clean[8:]]))


def test_rounding_is_to_the_nearest_and_to_even(isa: str) -> None:
    gemm = NativeGemm()
    # One times a number in float32, stored narrow: halves between two neighbours, and numbers next to them.
    for dtype, step in ((torch.bfloat16, 2.0**-7), (torch.float16, 2.0**-10)):
        bias = torch.tensor([1.0, 1 + step, 1 + 2 * step, 65504.0, 2.0**-24, 0.0], dtype=dtype)
        weight = torch.tensor([[step / 2], [step / 2], [-step / 2], [0.0], [0.0], [-0.0]], dtype=dtype)
        x = torch.ones(1, 1, dtype=dtype)
        found = gemm.multiply(x, gemm.pack(weight.clone()), 6, bias)
        assert torch.equal(found[0], (bias.float() + weight[:, 0].float()).to(dtype))


def test_what_the_kernels_do_not_take_is_an_error() -> None:
    gemm = NativeGemm()
    with pytest.raises(ConfigError, match=r"float64.*--linear-backend torch"):
        gemm.pack(torch.zeros(2, 2, dtype=torch.float64))
    with pytest.raises(ConfigError, match=r"on meta"):
        gemm.pack(torch.zeros(2, 2, device="meta"))
    packed = gemm.pack(draw(40, 24, dtype=torch.bfloat16))
    for x in (draw(2, 25, dtype=torch.bfloat16), draw(2, 26, dtype=torch.bfloat16), draw(2, 24, dtype=torch.float32)):
        with pytest.raises(ValueError, match="does not go with a weight of 40 columns"):
            gemm.multiply(x, packed, 40)
    x = draw(2, 24, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match="bias"):
        gemm.multiply(x, packed, 40, torch.zeros(40))
    with pytest.raises(ValueError, match="float16"):
        gemm.multiply(x, packed, 40, dtype=torch.float16)
    with pytest.raises(ValueError, match="int64"):
        gemm.rows(torch.tensor([1], dtype=torch.int32), packed, 40, 24)
