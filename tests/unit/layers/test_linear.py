from __future__ import annotations

import torch
from torch import Tensor

from quire.layers.linear import Linear, Part


def test_a_projection_multiplies_and_adds() -> None:
    linear = Linear(2, 3, bias=True)
    linear.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
    assert linear.bias is not None
    linear.bias.copy_(torch.tensor([0.0, 10.0, 20.0]))
    assert linear(torch.tensor([[2.0, 3.0]])).tolist() == [[2.0, 13.0, 25.0]]


def test_a_method_decides_what_is_stored_and_how_it_is_multiplied() -> None:
    class Doubling:
        def create(self, linear: Linear) -> None:
            linear.weight = torch.nn.Parameter(torch.ones(linear.out_features), requires_grad=False)

        def apply(self, linear: Linear, x: Tensor) -> Tensor:
            return x * 2 * linear.weight

    assert Linear(2, 2, method=Doubling())(torch.tensor([1.0, 4.0])).tolist() == [2.0, 8.0]


def test_a_projection_without_bias_has_one_parameter() -> None:
    assert [name for name, _ in Linear(2, 3, parts=(Part("a", 1), Part("b", 2))).named_parameters()] == ["weight"]
