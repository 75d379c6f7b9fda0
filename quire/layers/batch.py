"""The tensors of one step, and the seam between a model's layers and an attention backend.

Built by worker/inputs.py, read by layers/attention.py; nothing outlives the step but the KV itself.

Not here: the row table (worker/rows.py), attention itself (attention/), who owns the KV (worker/blocks.py).
Door: Batch, RowSpans, KVLayer, AttentionBackend, AttentionPlan.
"""

# Shapes: T tokens of the step, N wanted ones, R rows, H query heads, G KV heads, D head size, B blocks of the longest
# row's table.

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class KVLayer:
    """The KV of one model layer: one plane of the block pool, ``[num_blocks, block_size, G, D]`` each and
    contiguous."""

    keys: Tensor
    values: Tensor

    @property
    def block_size(self) -> int:
        return self.keys.shape[1]


@dataclass(frozen=True, slots=True)
class RowSpans:
    """Which of the step's tokens belong to which row.

    ``starts``: R + 1 offsets into T. ``lengths``: R numbers, the tokens of the sequence up to and including this
    step's. Query token j of row r stands at position ``lengths[r] - num_queries(r) + j``.
    ``numbers``: the starts and behind them the lengths once more, int64 in the host's memory, if their builder keeps
    them there.
    """

    starts: tuple[int, ...]
    lengths: tuple[int, ...]
    numbers: Tensor | None = field(default=None, compare=False, repr=False)

    @property
    def num_rows(self) -> int:
        return len(self.lengths)

    def num_queries(self, row: int) -> int:
        """Tokens of this row in the step."""
        return self.starts[row + 1] - self.starts[row]

    def in_memory(self) -> Tensor:
        """``numbers``, made now if nobody kept them: where a kernel reads starts and lengths."""
        if self.numbers is not None:
            return self.numbers
        return torch.tensor((*self.starts, *self.lengths), dtype=torch.int64)


class AttentionPlan(Protocol):
    """What a backend worked out for one step and one kind of layer; run once a layer."""

    def attend(self, q_THD: Tensor, kv: KVLayer, *, scale: float, soft_cap: float | None) -> Tensor:
        """Causal attention of the step's tokens over their own rows' keys, which must have been written; result [T,
        H, D]."""
        ...


class AttentionBackend(Protocol):
    """A file on the shelf ``attention`` exports ``Backend``, a class without arguments that is one of these."""

    def write(self, k_TGD: Tensor, v_TGD: Tensor, kv: KVLayer, slots_T: Tensor) -> None:
        """Put the step's keys and values into their slots."""
        ...

    def plan(self, rows: RowSpans, table_RB: Tensor, kv: KVLayer, *, window: int | None) -> AttentionPlan:
        """Work out what all layers of this block table and this window share.

        ``kv``: any of those layers; its block size, type and device are all that is read. ``window``: how many
        tokens, itself included, a token attends to; None: all before it. Entries of ``table_RB`` behind a row's last
        block or before its window are never read for a result, but hold valid ids.
        """
        ...


@dataclass(slots=True)
class Batch:
    """One step's tokens.

    ``ids_T`` and ``positions_T`` are int64. ``slots``: for each KV group int64 [T], slot = block id * block_size +
    offset.
    ``tables``: for each KV group int32 [R, B]. ``kv`` and ``group_of_layer`` have one entry for each model layer.
    """

    ids_T: Tensor
    positions_T: Tensor
    rows: RowSpans
    slots: tuple[Tensor, ...]
    tables: tuple[Tensor, ...]
    kv: tuple[KVLayer, ...]
    group_of_layer: tuple[int, ...]
    backend: AttentionBackend
    wanted_N: Tensor | None = None
    """The tokens whose hidden states are wanted, rising, int64; None: all. The last layer computes only these behind
    its attention."""
    plans: dict[tuple[int, int | None], AttentionPlan] = field(default_factory=dict)
    """Made when the first layer of a group and window asks; always starts empty."""

    def lies_like(self, other: Batch) -> bool:
        """Whether all that kernels read of it is where they read the other batch's, with as many tokens and rows."""
        return (
            self.rows.numbers is not None
            and self.rows.starts[-1] == other.rows.starts[-1]
            and self.rows.num_rows == other.rows.num_rows
            and self.kv is other.kv
            and self.backend is other.backend
            and self._addresses() == other._addresses()
        )

    def _addresses(self) -> tuple[int, ...]:
        numbers = self.rows.numbers
        return (
            self.ids_T.data_ptr(),
            self.positions_T.data_ptr(),
            0 if numbers is None else numbers.data_ptr(),
            *(slots_T.data_ptr() for slots_T in self.slots),
            *(table_RB.data_ptr() for table_RB in self.tables),
            *(table_RB.stride(0) for table_RB in self.tables),
        )

    def attend(
        self,
        layer: int,
        q_THD: Tensor,
        k_TGD: Tensor,
        v_TGD: Tensor,
        *,
        scale: float,
        window: int | None,
        soft_cap: float | None,
    ) -> Tensor:
        """Write a model layer's keys and values, then attend; result [T, H, D]."""
        group, kv = self.group_of_layer[layer], self.kv[layer]
        self.backend.write(k_TGD, v_TGD, kv, self.slots[group])
        plan = self.plans.get((group, window))
        if plan is None:
            plan = self.backend.plan(self.rows, self.tables[group], kv, window=window)
            self.plans[group, window] = plan
        return plan.attend(q_THD, kv, scale=scale, soft_cap=soft_cap)
