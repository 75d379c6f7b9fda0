from __future__ import annotations

import torch
from torch import nn

from quire.layers.embedding import Embedding, Head
from quire.layers.linear import Linear, Part
from quire.layers.weights import Rows, destinations


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Module()
        self.block.kv_proj = Linear(2, 5, bias=True, parts=(Part("k_proj", 2), Part("v_proj", 3)))
        self.embedding = Embedding(4, 2)
        self.head = Head(2, 4, tied=self.embedding)


def test_each_part_of_a_fused_projection_has_rows_under_its_own_name_and_shared_ones_occur_once() -> None:
    assert destinations(Tiny()) == {
        "block.k_proj.weight": Rows("block.kv_proj.weight", 0, 2),
        "block.v_proj.weight": Rows("block.kv_proj.weight", 2, 3),
        "block.k_proj.bias": Rows("block.kv_proj.bias", 0, 2),
        "block.v_proj.bias": Rows("block.kv_proj.bias", 2, 3),
        "embedding.weight": Rows("embedding.weight"),
    }


def test_rows_are_a_view() -> None:
    whole = torch.zeros(5, 2)
    Rows("any", 2, 3).of(whole).fill_(1.0)
    assert whole.sum(1).tolist() == [0.0, 0.0, 2.0, 2.0, 2.0]
    assert Rows("any").of(whole) is whole
