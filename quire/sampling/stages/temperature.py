"""Temperature: how far chance may leave the most likely token.

Door: Stage, MIN_TEMPERATURE.
"""

# Shapes: R rows, V vocabulary.

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from quire.config.decided import WorkerConfig
from quire.core.ids import Row
from quire.core.request import Sampling
from quire.core.step import NewRow
from quire.sampling.draw import Draw
from quire.sampling.stage import Columns

EXAMPLES = tuple(NewRow(Row(0), (1,), 1, Sampling(seed=0, temperature=t)) for t in (0.5, 2.0))

MIN_TEMPERATURE = 1e-30
"""Below it float32 may round the divisor to 0."""


class Stage:
    """Divides the logits of rows that are neither greedy nor at temperature 1. Column: the temperature.

    The largest logit becomes 0 first, so that a tiny temperature cannot overflow.
    """

    def __init__(self, config: WorkerConfig) -> None:
        self._columns: Columns[float] = Columns()

    def enter(self, new: NewRow) -> bool:
        temperature = new.sampling.temperature
        return self._columns.put(new.row, None if temperature in (0.0, 1.0) else max(temperature, MIN_TEMPERATURE))

    def leave(self, row: Row) -> None:
        self._columns.drop(row)

    def apply(self, logits_RV: Tensor, draws: Sequence[Draw]) -> None:
        for line, _, temperature in self._columns.among(draws):
            logits_V = logits_RV[line]
            logits_V.sub_(logits_V.amax()).div_(temperature)
