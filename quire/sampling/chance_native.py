"""Drawing tokens by the CPU kernel, from the logits as they lie there, without sorting the vocabulary.

Not here: what is drawn (chance.py, stages/), how (native/rows/draw.h).
Door: NativeChance.
"""

# Shapes: R rows, V vocabulary. ``_host`` arrays are numpy.

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from quire.core.ids import Row
from quire.core.step import NewRow
from quire.ops.native import check_floats, native
from quire.sampling.draw import Draw
from quire.sampling.stages.temperature import MIN_TEMPERATURE

_COLUMN = np.dtype([("temperature", np.float32), ("log_min_p", np.float32), ("top_k", np.int64), ("top_p", np.float64)])
"""As native/rows/rows.h has it."""


class NativeChance:
    """One record a row of the table, in memory that the kernel reads. A row that is greedy or free has an old one,
    which nobody reads.
    """

    def __init__(self, num_rows: int) -> None:
        self._columns_host = np.zeros(num_rows, dtype=_COLUMN)
        self._call = native().draw

    def enter(self, new: NewRow) -> None:
        asked = new.sampling
        if asked.temperature == 0.0:
            return
        if new.row >= len(self._columns_host):
            self._columns_host = np.resize(self._columns_host, 2 * new.row + 1)
        self._columns_host[new.row] = (
            max(asked.temperature, MIN_TEMPERATURE),
            math.log(asked.min_p) if asked.min_p > 0.0 else -math.inf,
            min(asked.top_k, 2**62),
            asked.top_p,
        )

    def leave(self, row: Row) -> None:
        pass

    def draw(self, logits_RV: Tensor, lines: Sequence[int], draws: Sequence[Draw]) -> list[int]:
        vocab_size = logits_RV.shape[1]
        check_floats(logits_RV, torch.float32, vocab_size)
        token_ids: list[int] = self._call(
            logits_RV.data_ptr(),
            vocab_size,
            vocab_size,
            self._columns_host.ctypes.data,
            list(lines),
            [draw.row for draw in draws],
            [draw.sampling.seed for draw in draws],
            [draw.sample_index for draw in draws],
            [draw.num_known for draw in draws],
        )
        return token_ids
