"""The row kernels against their torch references, on every set of instructions that this processor has."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from quire.errors import ConfigError
from quire.ops.activation import ACTIVATIONS, gated
from quire.ops.activation_native import NativeGate
from quire.ops.native import find_native, native
from quire.ops.norm import add_and_norm
from quire.ops.norm_native import NativeNorm
from quire.ops.rotary import HeadNorms, turn_heads
from quire.ops.rotary_native import MAX_HEAD_SIZE, NativeTurnHeads

pytestmark = pytest.mark.skipif(find_native() is None, reason="Quire was installed without its native kernels")

ISAS = ("portable", "avx2", "avx512", "avx512bf16")
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
NEAR = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}
"""About two units in the last place, relative."""


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    before = native().isa()
    try:
        native().use_isa(request.param)
    except ValueError as error:
        pytest.skip(str(error))
    yield request.param
    native().use_isa(before)


@pytest.fixture(params=[1, 2, 3, 7])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def numbers(*shape: int, dtype: torch.dtype, seed: int = 0, scale: float = 1.0) -> Tensor:
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale
    return drawn.to(dtype)


def angles(num_tokens: int, num_frequencies: int) -> tuple[Tensor, Tensor]:
    turned = numbers(num_tokens, num_frequencies, dtype=torch.float32, seed=9, scale=3.0)
    return turned.cos(), turned.sin()


def assert_near(found: Tensor, expected: Tensor) -> None:
    """Nearly all bits equal, none far off: a sum in another order rounds a few numbers otherwise."""
    assert found.dtype == expected.dtype and found.shape == expected.shape
    tolerance = NEAR[found.dtype]
    assert torch.allclose(found.float(), expected.float(), rtol=tolerance, atol=tolerance)
    if found.dtype != torch.float32 and found.numel() > 100:
        assert int((found != expected).sum()) <= found.numel() // 100


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", [1, 15, 16, 17, 64, 65, 100, 127, 1024, 1100])
@pytest.mark.parametrize("plus_one", [False, True])
def test_a_norm_is_the_reference_s_for_any_width(isa: str, dtype: torch.dtype, size: int, plus_one: bool) -> None:
    weight = numbers(size, dtype=dtype, seed=1)
    kernel = NativeNorm(weight, 1e-5, plus_one=plus_one)
    for num_rows in (1, 3, 40):
        x, added = numbers(num_rows, size, dtype=dtype, seed=2), numbers(num_rows, size, dtype=dtype, seed=3)
        assert_near(kernel(x, None), add_and_norm(x, None, weight, 1e-5, plus_one=plus_one))
        changed, expected = x.clone(), x.clone()
        found = kernel(changed, added)
        assert_near(found, add_and_norm(expected, added, weight, 1e-5, plus_one=plus_one))
        assert torch.equal(changed, expected), "the sum is rounded as the reference rounds it"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("head_size", "num_frequencies"), [(2, 1), (16, 8), (17, 5), (80, 20), (96, 48), (128, 64)])
@pytest.mark.parametrize("plus_one", [None, False, True])
def test_heads_are_turned_as_the_reference_turns_them_and_values_stay(
    isa: str, dtype: torch.dtype, head_size: int, num_frequencies: int, plus_one: bool | None
) -> None:
    norms = None
    if plus_one is not None:
        weights = [numbers(head_size, dtype=dtype, seed=seed) for seed in (4, 5)]
        norms = HeadNorms(*weights, eps=1e-6, plus_one=plus_one)
    kernel = NativeTurnHeads(3, 2, head_size, norms, dtype)
    for num_tokens in (1, 2, 33):
        found = numbers(num_tokens, 7, head_size, dtype=dtype, seed=6)
        expected, before, rotation = found.clone(), found.clone(), angles(num_tokens, num_frequencies)
        kernel(found, rotation)
        turn_heads(expected, rotation, 3, 2, norms)
        assert_near(found, expected)
        assert torch.equal(found[:, 5:], before[:, 5:])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_an_activation_is_the_reference_s(isa: str, dtype: torch.dtype, activation: str) -> None:
    kernel = NativeGate(activation, dtype)
    for num_rows, size in ((1, 1), (2, 15), (1, 1024), (3, 1025), (5, 2050)):
        gate_up = numbers(num_rows, 2 * size, dtype=dtype, seed=7, scale=4.0)
        expected = gated(gate_up, ACTIVATIONS[activation])
        found = kernel(gate_up)
        tolerance = NEAR[dtype]
        assert torch.allclose(found.float(), expected.float(), rtol=tolerance, atol=1e-5)


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_an_activation_is_right_at_the_ends_of_float32(isa: str, activation: str) -> None:
    ends = torch.tensor([0.0, -0.0, 1e-38, -1e-38, 60.0, -60.0, 95.0, -95.0, 1e30, -1e30, torch.nan])
    gate_up = torch.cat([ends, torch.ones_like(ends)])[None]
    found, expected = NativeGate(activation, torch.float32)(gate_up), gated(gate_up, ACTIVATIONS[activation])
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-30, equal_nan=True)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_broken_numbers_stay_broken_and_large_ones_round_as_the_reference_rounds(isa: str, dtype: torch.dtype) -> None:
    x = torch.tensor([[torch.nan, torch.inf, -torch.inf, 65504.0, 3e38, 1e-7]]).to(dtype)
    added = torch.tensor([[0.0, 0.0, 0.0, 100.0, 3e38, 0.0]]).to(dtype)
    expected = x + added
    NativeNorm(torch.ones(6, dtype=dtype), 1e-6, plus_one=False)(x, added)
    assert torch.equal(x.nan_to_num(7.0), expected.nan_to_num(7.0))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_row_s_result_is_the_same_alone_in_any_batch_and_on_any_number_of_threads(
    dtype: torch.dtype, threads: int
) -> None:
    size, heads = 1000, (6, 3, 64)
    weight, norm_weight = numbers(size, dtype=dtype, seed=1), numbers(heads[2], dtype=dtype, seed=2)
    norm = NativeNorm(weight, 1e-6, plus_one=False)
    turn = NativeTurnHeads(*heads, HeadNorms(norm_weight, norm_weight, 1e-6, False), dtype)
    gate = NativeGate("silu", dtype)
    x, added = numbers(200, size, dtype=dtype), numbers(200, size, dtype=dtype, seed=3)
    qkv, rotation = numbers(200, 12, 64, dtype=dtype, seed=4), angles(200, 32)
    whole_x, whole_qkv = x.clone(), qkv.clone()
    normed, gated_up = norm(whole_x, added), gate(x)
    turn(whole_qkv, rotation)
    for start, stop in ((0, 1), (7, 8), (199, 200), (3, 70), (64, 200)):
        part_x, part_qkv = x[start:stop].clone(), qkv[start:stop].clone()
        assert torch.equal(norm(part_x, added[start:stop]), normed[start:stop])
        assert torch.equal(part_x, whole_x[start:stop])
        assert torch.equal(gate(x[start:stop]), gated_up[start:stop])
        turn(part_qkv, (rotation[0][start:stop], rotation[1][start:stop]))
        assert torch.equal(part_qkv, whole_qkv[start:stop])


def test_what_a_kernel_does_not_take_is_an_error_and_never_a_wrong_result() -> None:
    weight = torch.ones(8)
    norm = NativeNorm(weight, 1e-6, plus_one=False)
    for bad in (torch.ones(2, 9), torch.ones(2, 8, dtype=torch.float16), torch.ones(8, 2).t(), torch.ones(0)):
        with pytest.raises(ConfigError, match="bound to contiguous"):
            norm(bad, None)
        with pytest.raises(ConfigError, match="bound to contiguous"):
            norm(torch.ones(2, 8), bad)
    with pytest.raises(ConfigError, match="float64"):
        NativeNorm(weight.double(), 1e-6, plus_one=False)
    with pytest.raises(ConfigError, match="snake"):
        NativeGate("snake", torch.float32)
    with pytest.raises(ConfigError, match=f"at most {MAX_HEAD_SIZE}"):
        NativeTurnHeads(1, 1, MAX_HEAD_SIZE + 2, None, torch.float32)
    with pytest.raises(ConfigError, match="bound to contiguous"):
        NativeTurnHeads(1, 1, 8, HeadNorms(torch.ones(4), torch.ones(8), 1e-6, False), torch.float32)
    with pytest.raises(ValueError, match="turn 10"):
        NativeTurnHeads(1, 1, 8, None, torch.float32)(torch.ones(1, 3, 8), angles(1, 5))


@pytest.mark.parametrize("size", [1, 15, 63, 1023, 1024, 1025, 5000, 40_001, 70_000])
def test_the_greedy_id_is_the_lowest_of_the_largest(isa: str, size: int, threads: int) -> None:
    logits = numbers(9, size, dtype=torch.float32).round(decimals=1)
    found = native().greedy(logits.data_ptr(), 9, size, size)
    assert found == logits.argmax(dim=1).tolist()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_row_with_nan_or_infinity_has_no_greedy_id(isa: str, bad: float) -> None:
    for at in (0, 1, 17, 1023, 1024, 32_767, 32_768, 49_998, 49_999):
        logits = numbers(3, 50_000, dtype=torch.float32)
        logits[1, at] = bad
        found = native().greedy(logits.data_ptr(), 3, 50_000, 50_000)
        assert (found[0], found[1], found[2]) == (int(logits[0].argmax()), -1, int(logits[2].argmax()))
