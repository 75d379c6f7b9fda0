"""Taking rows, scaling and capping: the native kernels against the torch references."""

from __future__ import annotations

import pytest
import torch

from quire.errors import ConfigError
from quire.ops.embedding import scale, soft_cap, take
from quire.ops.native import find_native

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
needs_native = pytest.mark.skipif(find_native() is None, reason="Quire was installed without its native kernels")


@needs_native
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rows_are_copied_bit_by_bit_and_ids_without_a_row_refused(dtype: torch.dtype) -> None:
    from quire.ops.embedding_native import NativeTake

    weight = torch.randn(50, 37).to(dtype)
    native = NativeTake(weight)
    for count in (1, 7, 3000):
        ids = torch.randint(0, 50, (count,))
        assert torch.equal(native(ids), take(ids, weight))
    for wrong in (-1, 50):
        with pytest.raises(IndexError, match=f"Row {wrong} was asked for; there are 50"):
            native(torch.tensor([3, wrong]))
    with pytest.raises(ValueError, match="int64"):
        native(torch.tensor([3], dtype=torch.int32))


@needs_native
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_scaling_has_the_bits_of_the_reference(dtype: torch.dtype) -> None:
    from quire.ops.embedding_native import NativeScale

    native = NativeScale(3072**0.5, dtype)
    for count in (1, 17, 40_000):
        expected = torch.randn(3, count).to(dtype)
        found = expected.clone()
        scale(expected, 3072**0.5)
        native(found)
        assert torch.equal(found, expected)
    with pytest.raises(ConfigError, match="contiguous"):
        native(torch.ones(4, 4, dtype=dtype).t()[:2])


@needs_native
def test_caps_are_near_the_reference_and_bound_everything() -> None:
    from quire.ops.embedding_native import NativeSoftCap

    expected = torch.cat([torch.linspace(-200, 200, 40_001), torch.tensor([0.0, 1e30, -1e30, torch.inf])])
    found = expected.clone()
    soft_cap(expected, 30.0)
    NativeSoftCap(30.0)(found)
    assert torch.allclose(found, expected, rtol=3e-7, atol=1e-6)
    assert found.abs().max() == 30.0
