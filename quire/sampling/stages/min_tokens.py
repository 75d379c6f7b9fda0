"""A sequence may not end before it has its least length.

Door: Stage.
"""

# Shapes: R rows, V vocabulary.

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from quire.config.decided import WorkerConfig
from quire.core.ids import Row
from quire.core.request import Sampling
from quire.core.step import NewRow
from quire.sampling.draw import Draw
from quire.sampling.stage import Columns

EXAMPLES = (NewRow(Row(0), (1, 2), 1, Sampling(seed=0), min_length=5, masked_until_min=(3, 4)),)


class Stage:
    """Masks the ends of a sequence while it has fewer known tokens than ``min_length``. Column: that length and the
    ends.
    """

    def __init__(self, config: WorkerConfig) -> None:
        self._device = torch.device(config.device)
        self._columns: Columns[tuple[int, Tensor]] = Columns()

    def enter(self, new: NewRow) -> bool:
        if not new.masked_until_min or len(new.token_ids) >= new.min_length:
            return self._columns.put(new.row, None)
        ids = torch.tensor(new.masked_until_min, dtype=torch.int64, device=self._device)
        return self._columns.put(new.row, (new.min_length, ids))

    def leave(self, row: Row) -> None:
        self._columns.drop(row)

    def apply(self, logits_RV: Tensor, draws: Sequence[Draw]) -> None:
        for line, draw, (min_length, ids) in self._columns.among(draws):
            if draw.num_known < min_length:
                logits_RV[line, ids] = -torch.inf
