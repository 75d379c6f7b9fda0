from __future__ import annotations

import torch

from quire.ops.rotary import rotate


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
