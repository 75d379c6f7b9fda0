from __future__ import annotations

import numpy as np
import pytest
import torch

from quire.sampling.most_likely import most_likely


@pytest.mark.parametrize("k", [1, 2, 7, 50, 299, 300])
@pytest.mark.parametrize("levels", [1, 4, 10**6])
def test_values_fall_and_equal_ones_come_by_rising_id_at_the_border_too(k: int, levels: int) -> None:
    values = torch.randint(levels, (5, 300), generator=torch.Generator().manual_seed(k)).float()
    found, ids = most_likely(values, k)
    for line in range(5):
        host = values[line].numpy()
        order = np.lexsort((np.arange(300), -host))[:k]
        assert ids[line].tolist() == order.tolist()
        assert found[line].tolist() == host[order].tolist()


def test_minus_infinity_fills_up_behind_all_numbers() -> None:
    values = torch.full((1, 40), -torch.inf)
    values[0, [30, 4]] = torch.tensor([1.0, 1.0])
    found, ids = most_likely(values, 10)
    assert ids[0, :2].tolist() == [4, 30]
    assert found[0, 2:].tolist() == [-torch.inf] * 8
    assert len(set(ids[0].tolist())) == 10
