from __future__ import annotations

import pytest
import torch

from quire.ops.norm import add_and_norm, rms_norm, rms_norm_plus_one


@pytest.mark.parametrize("plus_one", [False, True])
def test_what_is_added_stays_in_x_and_the_norm_is_new(plus_one: bool) -> None:
    x, added, weight = torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, -1.0]]), torch.tensor([0.5, 2.0])
    found = add_and_norm(x, added, weight, 0.0, plus_one=plus_one)
    assert x.tolist() == [[4.0, 3.0]]
    scale = torch.tensor([1.5, 3.0]) if plus_one else weight
    assert torch.allclose(found, torch.tensor([[4.0, 3.0]]) / 12.5**0.5 * scale)


def test_nothing_added_leaves_x_as_it_is() -> None:
    x = torch.tensor([[3.0, 4.0]], dtype=torch.bfloat16)
    before = x.clone()
    add_and_norm(x, None, torch.ones(2, dtype=torch.bfloat16), 1e-6)
    assert torch.equal(x, before)


def test_the_two_forms_round_at_different_places() -> None:
    x = torch.randn(4, 64, generator=torch.Generator().manual_seed(0)).bfloat16()
    weight = torch.full((64,), 0.3).bfloat16()
    exact = x.float() / (x.float().square().mean(1, keepdim=True) + 1e-6).sqrt()
    assert torch.equal(rms_norm(x, weight, 1e-6), exact.bfloat16() * weight)
    assert torch.equal(rms_norm_plus_one(x, weight, 1e-6), (exact * (1.0 + weight.float())).bfloat16())
