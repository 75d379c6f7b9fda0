"""Drawing tokens: temperature, min-p, top-k and top-p, then one number of chance for each row.

Not here: which token is the most likely one and what may change that (sampler.py), the number (noise.py), the kernel
for the CPU (chance_native.py).
Door: Chance, StagedChance.
"""

# Shapes: R rows, V vocabulary.

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from quire.core.ids import Row
from quire.core.step import NewRow
from quire.sampling.draw import Draw
from quire.sampling.noise import tokens_at, uniforms
from quire.sampling.pieces import pieces
from quire.sampling.stage import Stage


class Chance(Protocol):
    """Keeps what a row asks for from its entry to its leave."""

    def enter(self, new: NewRow) -> None: ...

    def leave(self, row: Row) -> None: ...

    def draw(self, logits_RV: Tensor, lines: Sequence[int], draws: Sequence[Draw]) -> list[int]:
        """A token for each of the draws, from the float32 logits in its line, which stay as they are.

        Each line has a finite maximum and no NaN. A row's token depends on its own line and draw alone.
        """
        ...


class StagedChance:
    """In torch, one stage after the other, on copies of a few rows at a time."""

    def __init__(self, stages: tuple[Stage, ...]) -> None:
        self._stages = stages

    def enter(self, new: NewRow) -> None:
        for stage in self._stages:
            stage.enter(new)

    def leave(self, row: Row) -> None:
        for stage in self._stages:
            stage.leave(row)

    def draw(self, logits_RV: Tensor, lines: Sequence[int], draws: Sequence[Draw]) -> list[int]:
        token_ids: list[int] = []
        for start, stop in pieces(len(lines), logits_RV.shape[1]):
            token_ids += self._draw_piece(logits_RV[list(lines[start:stop])], draws[start:stop])
        return token_ids

    def _draw_piece(self, logits_RV: Tensor, draws: Sequence[Draw]) -> list[int]:
        for stage in self._stages:
            stage.apply(logits_RV, draws)
        numbers_host = uniforms(
            [draw.sampling.seed for draw in draws],
            [draw.sample_index for draw in draws],
            [draw.num_known for draw in draws],
        )
        token_ids: list[int] = tokens_at(logits_RV, torch.from_numpy(numbers_host).to(logits_RV.device)).tolist()
        return token_ids
