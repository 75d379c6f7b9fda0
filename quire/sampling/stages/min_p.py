"""Min-p: only tokens at least ``min_p`` times as likely as the most likely one may be drawn.

Door: Stage.
"""

# Shapes: R rows, V vocabulary.

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from quire.config.decided import WorkerConfig
from quire.core.ids import Row
from quire.core.request import Sampling
from quire.core.step import NewRow
from quire.sampling.draw import Draw
from quire.sampling.stage import Columns

EXAMPLES = (NewRow(Row(0), (1,), 1, Sampling(seed=0, min_p=0.5)),)


class Stage:
    """A ratio of probabilities is a difference of logits: no softmax is needed. Column: log(min_p).

    Source: Min-p sampling (Nguyen et al. 2024), section 3.
    """

    def __init__(self, config: WorkerConfig) -> None:
        self._columns: Columns[float] = Columns()

    def enter(self, new: NewRow) -> bool:
        asked = new.sampling
        is_on = asked.temperature > 0.0 and asked.min_p > 0.0
        return self._columns.put(new.row, math.log(asked.min_p) if is_on else None)

    def leave(self, row: Row) -> None:
        self._columns.drop(row)

    def apply(self, logits_RV: Tensor, draws: Sequence[Draw]) -> None:
        for line, _, log_min_p in self._columns.among(draws):
            logits_V = logits_RV[line]
            logits_V.masked_fill_(logits_V < logits_V.amax() + log_min_p, -torch.inf)
