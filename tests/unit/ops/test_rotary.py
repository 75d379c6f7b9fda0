from __future__ import annotations

import pytest
import torch

from quire.ops.native import find_native
from quire.ops.norm import rms_norm
from quire.ops.rotary import HeadNorms, rotate, rotation_of, turn_heads


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


@pytest.mark.skipif(find_native() is None, reason="Quire was installed without its native kernels")
@pytest.mark.parametrize("factor", [1.0, 1.2])
def test_native_angles_are_the_exact_values_rounded_wherever_their_token_stands(factor: float) -> None:
    from quire.ops.rotary_native import NativeRotation

    frequencies = 1e4 ** (-torch.arange(37) / 37)
    positions = torch.cat([torch.arange(2000), torch.tensor([131_071, 1_000_000])])
    native = NativeRotation(frequencies, factor)
    found = native(positions)
    exact = (positions[:, None].float() * frequencies).double()
    for one, of, reference in zip(
        found, (exact.cos(), exact.sin()), rotation_of(positions, frequencies, factor), strict=True
    ):
        assert torch.equal(one, of.float() * factor)
        assert torch.allclose(one, reference, rtol=0, atol=2e-7)
    alone = native(positions[-1:])
    assert torch.equal(alone[0][0], found[0][-1]) and torch.equal(alone[1][0], found[1][-1])
    with pytest.raises(ValueError, match="int64"):
        native(positions.int())
