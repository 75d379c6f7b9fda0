"""Penalties on tokens that have been said: repetition (prompt and output), frequency and presence (output alone).

Door: Stage.
"""

# Shapes: R rows, V vocabulary.

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from quire.config.decided import WorkerConfig
from quire.core.ids import Row
from quire.core.request import Sampling
from quire.core.step import NewRow
from quire.ops.native import native
from quire.sampling.draw import Draw
from quire.sampling.stage import Columns

EXAMPLES = tuple(
    NewRow(Row(0), (1, 2, 3, 2), 2, asked)
    for asked in (
        Sampling(seed=0, temperature=0.0, repetition_penalty=50.0),
        Sampling(seed=0, temperature=0.0, frequency_penalty=2.0),
        Sampling(seed=0, temperature=0.0, presence_penalty=-2.0),
    )
)


class Stage:
    """Counts are made anew each step from the known ids, so there is no state that could go stale. Column: the row's
    Sampling.

    With the native kernels one call a row does all; a row that said 2,000 tokens takes some 5 us.
    """

    def __init__(self, config: WorkerConfig) -> None:
        self._device = torch.device(config.device)
        self._columns: Columns[Sampling] = Columns()
        self._call = native().penalise if config.linear_backend == "native" else None
        self._counts_host = np.zeros(0, dtype=np.int32)
        """All 0 between calls of the kernel."""

    def enter(self, new: NewRow) -> bool:
        asked = new.sampling
        penalises = asked.repetition_penalty != 1.0 or asked.frequency_penalty != 0.0 or asked.presence_penalty != 0.0
        return self._columns.put(new.row, asked if penalises else None)

    def leave(self, row: Row) -> None:
        self._columns.drop(row)

    def apply(self, logits_RV: Tensor, draws: Sequence[Draw]) -> None:
        for line, draw, asked in self._columns.among(draws):
            if self._call is not None:
                self._penalise(logits_RV[line], draw, asked)
                continue
            if asked.repetition_penalty != 1.0:
                self._repetition(logits_RV[line], draw, asked.repetition_penalty)
            if asked.frequency_penalty != 0.0 or asked.presence_penalty != 0.0:
                self._frequency_and_presence(logits_RV[line], draw, asked.frequency_penalty, asked.presence_penalty)

    def _penalise(self, logits_V: Tensor, draw: Draw, asked: Sampling) -> None:
        assert self._call is not None and logits_V.is_contiguous() and logits_V.dtype == torch.float32
        if len(self._counts_host) < len(logits_V):
            self._counts_host = np.zeros(len(logits_V), dtype=np.int32)
        self._call(
            logits_V.data_ptr(),
            len(logits_V),
            draw.row_host.ctypes.data,
            draw.num_known,
            draw.num_prompt_tokens,
            asked.repetition_penalty,
            asked.frequency_penalty,
            asked.presence_penalty,
            self._counts_host.ctypes.data,
        )

    def _repetition(self, logits_V: Tensor, draw: Draw, penalty: float) -> None:
        """Divides positive logits and multiplies negative ones. Source: CTRL (Keskar et al. 2019), section 4.1."""
        ids = torch.from_numpy(draw.token_ids_host.astype(np.int64)).to(self._device)
        values = logits_V[ids]
        logits_V[ids] = torch.where(values > 0, values / penalty, values * penalty)

    def _frequency_and_presence(self, logits_V: Tensor, draw: Draw, frequency: float, presence: float) -> None:
        ids_host, counts_host = np.unique(draw.token_ids_host[draw.num_prompt_tokens :], return_counts=True)
        ids = torch.from_numpy(ids_host.astype(np.int64)).to(self._device)
        counts = torch.from_numpy(counts_host.astype(np.float32)).to(self._device)
        logits_V[ids] -= frequency * counts + presence
