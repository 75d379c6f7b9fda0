from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from quire.errors import UnsupportedModel
from quire.layers.mlp import GatedMLP


def test_the_gate_is_the_first_half() -> None:
    mlp = GatedMLP(1, 1, "silu")
    mlp.gate_up_proj.weight.copy_(torch.tensor([[2.0], [3.0]]))
    mlp.down_proj.weight.fill_(1.0)
    assert torch.allclose(mlp(torch.ones(1, 1)), functional.silu(torch.tensor([[2.0]])) * 3.0)


def test_an_unknown_activation_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedModel, match="'snake' is not served; known are silu"):
        GatedMLP(1, 1, "snake")
