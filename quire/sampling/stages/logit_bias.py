"""A number added to the logits of single tokens.

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

EXAMPLES = (NewRow(Row(0), (1, 2), 1, Sampling(seed=0, temperature=0.0, logit_bias=((7, 100.0), (3, -100.0)))),)


class Stage:
    """Column: the ids, int64, and their biases, float32."""

    def __init__(self, config: WorkerConfig) -> None:
        self._device = torch.device(config.device)
        self._columns: Columns[tuple[Tensor, Tensor]] = Columns()

    def enter(self, new: NewRow) -> bool:
        biases = new.sampling.logit_bias
        if not biases:
            return self._columns.put(new.row, None)
        ids = torch.tensor([token_id for token_id, _ in biases], dtype=torch.int64, device=self._device)
        values = torch.tensor([value for _, value in biases], dtype=torch.float32, device=self._device)
        return self._columns.put(new.row, (ids, values))

    def leave(self, row: Row) -> None:
        self._columns.drop(row)

    def apply(self, logits_RV: Tensor, draws: Sequence[Draw]) -> None:
        for line, _, (ids, values) in self._columns.among(draws):
            logits_RV[line].index_add_(0, ids, values)
