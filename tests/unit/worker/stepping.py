"""Plans by hand, and a model without weights whose hidden states say which token they stand for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from quire.core.ids import BlockId, Row
from quire.core.request import Sampling
from quire.core.step import BlockCopy, Chunk, NewRow
from quire.layers.batch import Batch

VOCAB = 32
GREEDY = Sampling(seed=0, temperature=0.0)


def added(row: int, token_ids: Sequence[int], sampling: Sampling = GREEDY, num_prompt: int | None = None) -> NewRow:
    return NewRow(Row(row), tuple(token_ids), len(token_ids) if num_prompt is None else num_prompt, sampling)


def chunk(
    row: int,
    start: int,
    num_tokens: int,
    *blocks: Sequence[int],
    samples: bool = True,
    prompt_logprobs: bool = False,
) -> Chunk:
    """``blocks``: new block ids for each group; none given: no news for the one group there is."""
    new_blocks = tuple(tuple(BlockId(block) for block in group) for group in blocks) or ((),)
    return Chunk(Row(row), start, num_tokens, new_blocks, samples, prompt_logprobs)


def copy(source: int, target: int) -> BlockCopy:
    return BlockCopy(BlockId(source), BlockId(target))


class Echo:
    """Hidden states are logits: behind token t at position p, token (t + p) % VOCAB is the most likely one."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.failures: set[int] = set()
        """Token ids at which the forward pass raises."""

    def forward(self, batch: Batch) -> Tensor:
        self.batches.append(batch)
        if self.failures & set(batch.ids_T.tolist()):
            raise RuntimeError("the device failed")
        hidden_TV = torch.nn.functional.one_hot((batch.ids_T + batch.positions_T) % VOCAB, VOCAB).float()
        return hidden_TV if batch.wanted_N is None else hidden_TV[batch.wanted_N]


class NoBackend:
    """Attention that nobody calls."""

    def write(self, *_: object) -> None:
        raise NotImplementedError

    def plan(self, *_: object, **__: object) -> object:
        raise NotImplementedError


class Witness:
    """Stands for the sampler's columns and for the blocks, and writes down what it was told."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, object]] = []

    def enter(self, new: NewRow) -> None:
        self.heard.append(("enter", new.row))

    def leave(self, row: Row) -> None:
        self.heard.append(("leave", row))

    def copy(self, copies: Sequence[BlockCopy]) -> None:
        self.heard += [("copy", (one.source, one.target)) for one in copies]
