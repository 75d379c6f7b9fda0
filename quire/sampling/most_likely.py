"""The k largest numbers of a row, in an order that leaves no room for chance.

Not here: what they are wanted for (logprobs.py).
Door: most_likely.
"""

# Shapes: R rows, V vocabulary, K of them.

from __future__ import annotations

import torch
from torch import Tensor


def most_likely(values_RV: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest values and their ids, each [R, K], in falling order; of equal values the lower id comes first, at
    the border too.

    Values of minus infinity, where they are needed to fill up k, come in no particular choice. Cost: one partial sort
    of each row.
    """
    if k == values_RV.shape[1]:
        values_RK, ids_RK = torch.sort(values_RV, dim=1, descending=True, stable=True)
        return values_RK, ids_RK
    values_RK, ids_RK = torch.topk(values_RV, k, dim=1)
    _choose_at_border(values_RV, values_RK, ids_RK)
    by_id = ids_RK.argsort(dim=1)
    ids_RK, values_RK = ids_RK.gather(1, by_id), values_RK.gather(1, by_id)
    values_RK, by_value = values_RK.sort(dim=1, descending=True, stable=True)
    return values_RK, ids_RK.gather(1, by_value)


def _choose_at_border(values_RV: Tensor, values_RK: Tensor, ids_RK: Tensor) -> None:
    """Where not all values equal to the k-th fit, take those with the lowest ids: topk takes any. Changes ``ids_RK``
    in place.
    """
    border_R = values_RK[:, -1]
    num_equal = torch.count_nonzero(values_RV == border_R[:, None], dim=1)
    num_taken = torch.count_nonzero(values_RK == border_R[:, None], dim=1)
    torn = (num_equal > num_taken) & (border_R > -torch.inf)
    for row in torn.nonzero()[:, 0].tolist():
        taken = int(num_taken[row])
        equal_ids = (values_RV[row] == border_R[row]).nonzero()[:taken, 0]
        ids_RK[row, -taken:] = equal_ids
