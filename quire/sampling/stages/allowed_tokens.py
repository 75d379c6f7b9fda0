"""Only the allowed tokens may be drawn.

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

EXAMPLES = (NewRow(Row(0), (1, 2), 1, Sampling(seed=0, temperature=0.0, allowed_token_ids=(3, 5))),)


class Stage:
    """Every token but the allowed ones becomes impossible. Column: the allowed ids, int64."""

    def __init__(self, config: WorkerConfig) -> None:
        self._device = torch.device(config.device)
        self._columns: Columns[Tensor] = Columns()

    def enter(self, new: NewRow) -> bool:
        ids = new.sampling.allowed_token_ids
        return self._columns.put(new.row, torch.tensor(ids, dtype=torch.int64, device=self._device) if ids else None)

    def leave(self, row: Row) -> None:
        self._columns.drop(row)

    def apply(self, logits_RV: Tensor, draws: Sequence[Draw]) -> None:
        for line, _, ids in self._columns.among(draws):
            kept = logits_RV[line, ids]
            logits_RV[line].fill_(-torch.inf)
            logits_RV[line, ids] = kept
