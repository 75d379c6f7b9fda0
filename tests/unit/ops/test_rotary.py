from __future__ import annotations

import torch

from quire.ops.norm import rms_norm
from quire.ops.rotary import HeadNorms, rotate, turn_heads


def angles(*positions: float) -> tuple[torch.Tensor, torch.Tensor]:
    turned = torch.tensor(positions)[:, None] * torch.tensor([1.0, 0.1])
    return turned.cos(), turned.sin()


def test_scores_depend_on_the_distance_alone() -> None:
    chance = torch.Generator().manual_seed(0)
    q, k = torch.randn(1, 1, 4, generator=chance), torch.randn(1, 1, 4, generator=chance)
    near = (rotate(q, *angles(7)) * rotate(k, *angles(3))).sum()
    far = (rotate(q, *angles(107)) * rotate(k, *angles(103))).sum()
    assert torch.allclose(near, far, atol=1e-5)


def test_what_lies_behind_the_turned_part_passes() -> None:
    x = torch.arange(6.0).view(1, 1, 6)
    assert rotate(x, *angles(5))[..., 4:].tolist() == [[[4.0, 5.0]]]
    assert torch.equal(rotate(x, *angles(0)), x)


def test_the_type_is_kept() -> None:
    assert rotate(torch.ones(1, 1, 4, dtype=torch.bfloat16), *angles(5)).dtype == torch.bfloat16


def test_heads_are_normalised_and_turned_in_place_and_values_stay() -> None:
    heads = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(1))
    q_weight, k_weight = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([0.5, 1.5, 1.0, 2.0])
    rotation = angles(3, 9)
    expected = torch.cat(
        [
            rotate(rms_norm(heads[:, :2], q_weight, 1e-6), *rotation),
            rotate(rms_norm(heads[:, 2:3], k_weight, 1e-6), *rotation),
            heads[:, 3:],
        ],
        dim=1,
    )
    turned, plain = heads.clone(), heads.clone()
    turn_heads(turned, rotation, 2, 1, HeadNorms(q_weight, k_weight, 1e-6, plus_one=False))
    assert torch.equal(turned, expected)
    turn_heads(plain, rotation, 2, 1, None)
    assert torch.equal(plain, torch.cat([rotate(heads[:, :3], *rotation), heads[:, 3:]], dim=1))
