"""Token sequences that must not come about: the last token of each is masked when the ones before it have just been
said.

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

EXAMPLES = (NewRow(Row(0), (1, 2, 6), 2, Sampling(seed=0, temperature=0.0, bad_words_ids=((3,), (2, 6, 4)))),)

_Words = tuple[tuple[int, ...], ...]


class Stage:
    """Masks what would complete a bad word; a word may begin in the prompt. Column: the words as ids."""

    def __init__(self, config: WorkerConfig) -> None:
        self._device = torch.device(config.device)
        self._columns: Columns[_Words] = Columns()

    def enter(self, new: NewRow) -> bool:
        words = tuple(word for word in new.sampling.bad_words_ids if word)
        return self._columns.put(new.row, words or None)

    def leave(self, row: Row) -> None:
        self._columns.drop(row)

    def apply(self, logits_RV: Tensor, draws: Sequence[Draw]) -> None:
        for line, draw, words in self._columns.among(draws):
            longest = max(len(word) for word in words) - 1
            said = tuple(draw.token_ids_host[-longest:].tolist()) if longest else ()
            last_ids = [word[-1] for word in words if _ends_with(said, word[:-1])]
            if last_ids:
                logits_RV[line, torch.tensor(last_ids, device=self._device)] = -torch.inf


def _ends_with(said: tuple[int, ...], ids: tuple[int, ...]) -> bool:
    return len(ids) <= len(said) and said[len(said) - len(ids) :] == ids
