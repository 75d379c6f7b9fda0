from __future__ import annotations

import pytest
import torch

from quire.layers.norm import RMSNorm


@pytest.mark.parametrize("plus_one", [False, True])
def test_neutral_weights_only_normalise(plus_one: bool) -> None:
    norm = RMSNorm(8, 1e-6, plus_one=plus_one)
    norm.weight.fill_(norm.neutral)
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(norm(x).square().mean(-1), torch.ones(3), atol=1e-4)


@pytest.mark.parametrize("plus_one", [False, True])
def test_half_precision_is_normalised_in_float32_and_comes_back_as_it_was(plus_one: bool) -> None:
    norm = RMSNorm(64, 1e-6, plus_one=plus_one).to(torch.float16)
    norm.weight.fill_(norm.neutral)
    x = torch.full((1, 64), 300.0, dtype=torch.float16)
    assert norm(x).dtype == torch.float16
    assert torch.allclose(norm(x).float(), torch.ones(64), atol=1e-3), "300 squared does not fit into float16"
