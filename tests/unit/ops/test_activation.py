from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from quire.ops.activation import ACTIVATIONS, gated


def test_the_gate_is_the_first_half() -> None:
    found = gated(torch.tensor([[2.0, 3.0]]), functional.silu)
    assert torch.allclose(found, functional.silu(torch.tensor([[2.0]])) * 3)


@pytest.mark.parametrize(("one", "other"), [("silu", "swish"), ("gelu_new", "gelu_pytorch_tanh")])
def test_names_of_one_function_mean_the_same(one: str, other: str) -> None:
    x = torch.linspace(-4, 4, 33)
    assert torch.equal(ACTIVATIONS[one](x), ACTIVATIONS[other](x))
