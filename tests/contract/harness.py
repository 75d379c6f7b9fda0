"""A tiny paged engine for tests: sequences, blocks and batches, with no scheduler.

Every slot that nobody wrote holds NaN, and blocks that left a window are replaced by one that is all NaN: reading
either shows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate

import torch
from torch import Tensor

from quire import plugins
from quire.config.card import Card
from quire.config.decided import KVType
from quire.layers.batch import AttentionBackend, Batch, KVLayer, RowSpans
from quire.layers.decoder import CausalModel
from quire.ops.eight_bits import stored_dtype, stored_width

POISON = 0


@dataclass
class Sequence:
    """Known tokens, how many have KV, and a block table for each group."""

    tokens: list[int]
    tables: list[list[int]]
    computed: int = 0


@dataclass
class Paged:
    """One KV group for each window of the model."""

    model: CausalModel
    card: Card
    block_size: int = 8
    num_blocks: int = 600
    kv_type: KVType | None = None
    backend: AttentionBackend = field(default_factory=lambda: plugins.load("attention", "torch_sdpa").Backend())

    def __post_init__(self) -> None:
        self.windows = sorted(set(self.card.layer_windows), key=lambda window: window or 0)
        self.group_of_layer = tuple(self.windows.index(window) for window in self.card.layer_windows)
        dtype = self.model.model.norm.weight.dtype if self.kv_type is None else stored_dtype(self.kv_type)
        width = stored_width(self.card.head_size, dtype) * dtype.itemsize
        shape = (self.num_blocks, self.block_size, self.card.num_kv_heads, width)
        self.kv = tuple(KVLayer(_all_ones(shape, dtype), _all_ones(shape, dtype)) for _ in self.card.layer_windows)
        # Ids are dealt in a scattered order, so that no test passes because tables happen to be contiguous.
        order = torch.randperm(self.num_blocks - 1, generator=torch.Generator().manual_seed(5)) + 1
        self.free = [order.tolist() for _ in self.windows]

    def new(self, tokens: list[int], prefix_of: Sequence | None = None, num_shared: int = 0) -> Sequence:
        """A sequence whose first ``num_shared`` tokens, whole blocks of them, are taken from another's tables."""
        num_blocks = num_shared // self.block_size
        shared = [list(table[:num_blocks]) for table in prefix_of.tables] if prefix_of else [[] for _ in self.windows]
        return Sequence(tokens, shared, num_blocks * self.block_size)

    def run(self, chunks: list[tuple[Sequence, int]]) -> list[Tensor]:
        """Compute the next tokens of each sequence; logits ``[tokens, V]`` of each chunk."""
        logits, ends = self.run_wanted(chunks, None), list(accumulate(count for _, count in chunks))
        return [logits[end - count : end] for end, (_, count) in zip(ends, chunks, strict=True)]

    @torch.inference_mode()
    def run_wanted(self, chunks: list[tuple[Sequence, int]], wanted: list[int] | None) -> Tensor:
        """The same, with the logits of some of the step's tokens only, by their places in the step; None: of all."""
        starts, lengths = [0], list[int]()
        ids, positions = list[int](), list[int]()
        slots: list[list[int]] = [[] for _ in self.windows]
        for sequence, count in chunks:
            first, last = sequence.computed, sequence.computed + count
            assert last <= len(sequence.tokens)
            self._provide(sequence, first, last)
            ids += sequence.tokens[first:last]
            positions += range(first, last)
            for group, table in enumerate(sequence.tables):
                for at in range(first, last):
                    slots[group].append(table[at // self.block_size] * self.block_size + at % self.block_size)
            starts.append(starts[-1] + count)
            lengths.append(last)
            sequence.computed = last
        batch = Batch(
            ids_T=torch.tensor(ids),
            positions_T=torch.tensor(positions),
            rows=RowSpans(tuple(starts), tuple(lengths)),
            slots=tuple(torch.tensor(group) for group in slots),
            tables=tuple(
                self._padded([sequence.tables[group] for sequence, _ in chunks]) for group in range(len(slots))
            ),
            kv=self.kv,
            group_of_layer=self.group_of_layer,
            backend=self.backend,
            wanted_N=None if wanted is None else torch.tensor(wanted),
        )
        return self.model.head(self.model(batch))

    def prefill(self, sequence: Sequence, chunk: int | None = None) -> Tensor:
        """Logits of all tokens that were not computed yet, ``chunk`` at a time."""
        found = []
        while sequence.computed < len(sequence.tokens):
            rest = len(sequence.tokens) - sequence.computed
            found += self.run([(sequence, min(rest, chunk or rest))])
        return torch.cat(found)

    def greedy(self, sequences: list[Sequence], count: int) -> list[Tensor]:
        """Compute what is known, then append ``count`` likeliest tokens to each; logits they were picked from,
        ``[count, V]``."""
        picked: list[list[Tensor]] = [[] for _ in sequences]
        for _ in range(count):
            rows = self.run([(sequence, len(sequence.tokens) - sequence.computed) for sequence in sequences])
            for sequence, logits, seen in zip(sequences, rows, picked, strict=True):
                seen.append(logits[-1])
                sequence.tokens.append(int(logits[-1].argmax()))
        return [torch.stack(seen) for seen in picked]

    def _provide(self, sequence: Sequence, first: int, last: int) -> None:
        for group, table in enumerate(sequence.tables):
            while len(table) * self.block_size < last:
                table.append(self.free[group].pop())
            window = self.windows[group]
            if window is not None:
                gone = max(0, first - window + 1) // self.block_size
                table[:gone] = [POISON] * gone

    def _padded(self, tables: list[list[int]]) -> Tensor:
        width = max(len(table) for table in tables)
        return torch.tensor([table + [POISON] * (width - len(table)) for table in tables], dtype=torch.int32)


def _all_ones(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """No number in any type, and no number for a scale."""
    return torch.full(shape, 0xFF, dtype=torch.uint8).view(dtype)
