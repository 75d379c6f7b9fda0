"""KV in eight bits: how far numbers are from what they were, and what becomes of those that have no place."""

from __future__ import annotations

import pytest
import torch

from quire.config.kv_layout import head_bytes
from quire.ops.eight_bits import head_size_of, is_eight_bits, narrowed, stored_dtype, stored_width, widened

FP8, INT8 = torch.float8_e4m3fn, torch.int8


@pytest.mark.parametrize("kv_type", ["fp8_e4m3", "int8_per_token_head"])
def test_a_head_takes_as_many_bytes_as_the_plan_counts(kv_type: str) -> None:
    dtype = stored_dtype(kv_type)  # type: ignore[arg-type]
    stored = narrowed(torch.ones(3, 2, 24), dtype)
    assert is_eight_bits(dtype) and stored.dtype == dtype
    assert stored.shape == (3, 2, stored_width(24, dtype)) and head_size_of(stored) == 24
    assert stored[0, 0].nbytes == head_bytes(24, kv_type)  # type: ignore[arg-type]


def test_types_of_models_are_not_of_eight_bits() -> None:
    assert not any(is_eight_bits(dtype) for dtype in (torch.float32, torch.bfloat16, torch.float16))


def test_int8_is_at_most_half_a_step_from_the_number() -> None:
    x = torch.randn(50, 4, 64, generator=torch.Generator().manual_seed(2)) * 3
    step = x.abs().amax(-1, keepdim=True) / 127
    assert bool(((widened(narrowed(x, INT8)) - x).abs() <= step * 0.5001).all())


def test_fp8_is_at_most_a_sixteenth_from_the_number_and_never_above_448() -> None:
    x = torch.randn(50, 64, generator=torch.Generator().manual_seed(2)) * 3
    assert bool(((widened(narrowed(x, FP8)) - x).abs() <= (x.abs() / 16).clamp(min=2**-10)).all())
    large = torch.tensor([449.0, -1e30, torch.inf, -torch.inf])
    assert widened(narrowed(large, FP8)).tolist() == [448.0, -448.0, 448.0, -448.0]


@pytest.mark.parametrize("dtype", [FP8, INT8], ids=str)
def test_zeros_stay_zeros_and_what_is_no_number_stays_none(dtype: torch.dtype) -> None:
    x = torch.zeros(2, 16)
    x[1] = torch.nan
    found = widened(narrowed(x, dtype))
    assert not found[0].any() and found[1].isnan().all()


def test_a_head_with_one_infinite_number_is_none_in_int8_and_others_are_unharmed() -> None:
    x = torch.ones(3, 16)
    x[1, 5] = torch.inf
    found = widened(narrowed(x, INT8))
    assert found[1].isnan().all() and torch.equal(found[[0, 2]], x[[0, 2]])


def test_sizes_whose_reciprocals_are_not_finite_become_zero() -> None:
    assert not widened(narrowed(torch.full((1, 16), 1e-38), INT8)).any()
