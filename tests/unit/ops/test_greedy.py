from __future__ import annotations

import pytest
import torch

from quire.errors import ConfigError
from quire.ops.greedy import greedy
from quire.ops.native import find_native


def test_of_equal_logits_the_lowest_id_is_taken() -> None:
    assert greedy(torch.tensor([[0.0, 5.0, 1.0, 5.0], [2.0, 2.0, 2.0, 2.0], [-3.0, -2.0, -1.0, -0.5]])) == [1, 0, 3]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_row_with_nan_or_infinity_has_none(bad: float) -> None:
    assert greedy(torch.tensor([[0.0, 1.0], [bad, 1.0], [1.0, bad], [1.0, 0.0]])) == [1, -1, -1, 0]


@pytest.mark.skipif(find_native() is None, reason="Quire was installed without its native kernels")
def test_the_kernel_agrees_and_refuses_what_it_would_misread() -> None:
    from quire.ops.greedy_native import NativeGreedy

    logits = torch.randn(5, 3001, generator=torch.Generator().manual_seed(0)).round(decimals=1)
    logits[2, 7] = torch.nan
    assert NativeGreedy()(logits) == greedy(logits)
    for misread in (logits.to(torch.bfloat16), logits[:, ::2], logits.t()):
        with pytest.raises(ConfigError, match="bound to contiguous"):
            NativeGreedy()(misread)
