from __future__ import annotations

import torch

from quire.layers.embedding import Embedding, Head


def test_a_scale_is_rounded_to_the_type_of_the_weights() -> None:
    embedding = Embedding(2, 4, scale=3072**0.5).to(torch.bfloat16)
    embedding.weight.fill_(1.0)
    assert embedding(torch.tensor([1])).tolist() == [[55.5] * 4], "the root of 3072 is 55.43; bfloat16 has 55.5"


def test_a_tied_head_shares_the_storage_of_the_embedding() -> None:
    embedding = Embedding(5, 4)
    assert Head(4, 5, tied=embedding).weight.data_ptr() == embedding.weight.data_ptr()


def test_logits_are_float32_and_stay_below_the_cap() -> None:
    head = Head(2, 3, soft_cap=5.0).to(torch.bfloat16)
    head.weight.fill_(100.0)
    logits = head(torch.ones(1, 2, dtype=torch.bfloat16))
    assert logits.dtype == torch.float32
    assert logits.tolist() == [[5.0] * 3]
