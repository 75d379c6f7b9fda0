"""Attention in plain torch: the oracle that every other backend is compared with.

Rows with one query are gathered together and padded; rows with more go one by one, in tiles of queries so that masks
stay small. Keys are never repeated for the query heads that share them. KV of eight bits is widened to float32, in
which its queries are then computed too.

Memory: beside q, k, v and the result, one copy of the KV of a gather (``MAX_GATHERED`` tokens, or one longer row) and
masks of at most ``TILE`` times the longest row.

Not here: the contract (layers/batch.py).
Door: Backend.
"""

# Shapes: T tokens of the step, R rows of a gather, B blocks of a row, Q queries of a tile, L keys,
# H query heads, G KV heads, P = H / G, D head size.

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from quire.layers.batch import KVLayer, RowSpans
from quire.ops.eight_bits import is_eight_bits, narrowed, widened

TILE = 256
"""Queries whose scores are computed together."""
MAX_GATHERED = 1 << 12
"""Tokens of KV that one gather of several rows copies at most."""


class Backend:
    """Has no state: everything of a step is in its plan."""

    def write(self, k_TGD: Tensor, v_TGD: Tensor, kv: KVLayer, slots_T: Tensor) -> None:
        num_slots, heads = kv.keys.shape[0] * kv.keys.shape[1], kv.keys.shape[2:]
        if is_eight_bits(kv.keys.dtype):
            k_TGD, v_TGD = (narrowed(x, kv.keys.dtype).view(torch.int8) for x in (k_TGD, v_TGD))
        _plain(kv.keys).view(num_slots, *heads).index_copy_(0, slots_T, k_TGD)
        _plain(kv.values).view(num_slots, *heads).index_copy_(0, slots_T, v_TGD)

    def plan(self, rows: RowSpans, table_RB: Tensor, kv: KVLayer, *, window: int | None) -> Plan:
        dtype = torch.float32 if is_eight_bits(kv.keys.dtype) else kv.keys.dtype
        drafting = _Drafting(rows, table_RB, kv.block_size, window, dtype)
        singles = [row for row in range(rows.num_rows) if rows.num_queries(row) == 1]
        longer = [row for row in range(rows.num_rows) if rows.num_queries(row) > 1]
        gathers = [drafting.gather(group) for group in drafting.grouped(singles)]
        chunks = drafting.chunks(longer) if longer else []
        copied = [gather.blocks for gather in gathers] + [chunk.blocks for chunk in chunks]
        most_blocks = max(len(blocks) for blocks in copied)
        shape = (most_blocks, *kv.keys.shape[1:])
        return Plan(gathers, chunks, KVLayer(kv.keys.new_empty(shape), kv.values.new_empty(shape)))


@dataclass(frozen=True, slots=True)
class Gather:
    """Rows of one query each, their keys padded to equal numbers of blocks. ``mask`` [R, 1, 1, L] is added to scores.

    ``strangers``: places in [R * L] that were never written for this row. They are cleared, since a masked NaN would
    still be a NaN.
    """

    tokens_R: Tensor
    blocks: Tensor
    mask: Tensor
    strangers: Tensor

    def attend(self, q_THD: Tensor, own: KVLayer, out_THD: Tensor, scale: float, soft_cap: float | None) -> None:
        num_rows, num_kv_heads, head_size = len(self.tokens_R), own.keys.shape[2], own.keys.shape[3]
        shape = (num_rows, -1, num_kv_heads, head_size)
        k_RGLD = own.keys.flatten(0, 1).index_fill_(0, self.strangers, 0.0).view(shape).transpose(1, 2)
        v_RGLD = own.values.flatten(0, 1).index_fill_(0, self.strangers, 0.0).view(shape).transpose(1, 2)
        q_RGPD = q_THD.index_select(0, self.tokens_R).view(num_rows, num_kv_heads, -1, head_size)
        seen_RGPD = _attend(q_RGPD, k_RGLD, v_RGLD, self.mask, scale, soft_cap)
        out_THD.index_copy_(0, self.tokens_R, seen_RGPD.reshape(num_rows, -1, head_size))


@dataclass(frozen=True, slots=True)
class Tile:
    """Queries ``first:last`` of the step and the keys ``from_key:to_key``, counted from the chunk's first block."""

    first: int
    last: int
    from_key: int
    to_key: int
    mask: Tensor


@dataclass(frozen=True, slots=True)
class Chunk:
    """A row with several queries."""

    blocks: Tensor
    tiles: tuple[Tile, ...]

    def attend(self, q_THD: Tensor, own: KVLayer, out_THD: Tensor, scale: float, soft_cap: float | None) -> None:
        num_kv_heads, head_size = own.keys.shape[2], own.keys.shape[3]
        per_kv_head = q_THD.shape[1] // num_kv_heads
        k_GLD, v_GLD = own.keys.flatten(0, 1).transpose(0, 1), own.values.flatten(0, 1).transpose(0, 1)
        for tile in self.tiles:
            q_GPQD = q_THD[tile.first : tile.last].view(-1, num_kv_heads, per_kv_head, head_size).permute(1, 2, 0, 3)
            k_GPLD = k_GLD[:, None, tile.from_key : tile.to_key].expand(-1, per_kv_head, -1, -1)
            v_GPLD = v_GLD[:, None, tile.from_key : tile.to_key].expand(-1, per_kv_head, -1, -1)
            seen_GPQD = _attend(q_GPQD, k_GPLD, v_GPLD, tile.mask, scale, soft_cap)
            out_THD[tile.first : tile.last] = seen_GPQD.permute(2, 0, 1, 3).reshape(-1, *q_THD.shape[1:])


@dataclass(frozen=True, slots=True)
class Plan:
    """A step's rows, sorted into gathers and chunks, which copy their KV into the same ``scratch`` one after the other.

    Memory that is fresh for each layer would cost more than the copy: the system clears every page of it.
    """

    gathers: list[Gather]
    chunks: list[Chunk]
    scratch: KVLayer

    def attend(self, q_THD: Tensor, kv: KVLayer, *, scale: float, soft_cap: float | None) -> Tensor:
        if is_eight_bits(kv.keys.dtype) and q_THD.dtype != torch.float32:
            return self.attend(q_THD.float(), kv, scale=scale, soft_cap=soft_cap).to(q_THD.dtype)
        q_THD = q_THD.contiguous()
        out_THD = torch.empty_like(q_THD)
        for gather in self.gathers:
            gather.attend(q_THD, self._copied(kv, gather.blocks), out_THD, scale, soft_cap)
        for chunk in self.chunks:
            chunk.attend(q_THD, self._copied(kv, chunk.blocks), out_THD, scale, soft_cap)
        return out_THD

    def _copied(self, kv: KVLayer, blocks: Tensor) -> KVLayer:
        keys, values = self.scratch.keys[: len(blocks)], self.scratch.values[: len(blocks)]
        torch.index_select(_plain(kv.keys), 0, blocks, out=_plain(keys))
        torch.index_select(_plain(kv.values), 0, blocks, out=_plain(values))
        return KVLayer(widened(keys), widened(values)) if is_eight_bits(keys.dtype) else KVLayer(keys, values)


def _plain(x: Tensor) -> Tensor:
    """A type of eight bits as plain bytes, for which torch has every operation."""
    return x.view(torch.int8) if is_eight_bits(x.dtype) else x


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float, soft_cap: float | None) -> Tensor:
    """``[.., Q, D] x [.., L, D] -> [.., Q, D]``, with two equal leading dimensions and an added mask that broadcasts
    to ``[.., Q, L]``."""
    if soft_cap is None:
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
    scores = torch.matmul(q.float(), k.float().transpose(-1, -2)) * scale
    scores = torch.tanh(scores / soft_cap) * soft_cap + mask.float()
    return torch.matmul(torch.softmax(scores, dim=-1), v.float()).to(q.dtype)


@dataclass(frozen=True, slots=True)
class _Drafting:
    """What all parts of a plan are made from."""

    rows: RowSpans
    table_RB: Tensor
    block_size: int
    window: int | None
    dtype: torch.dtype

    def first_block(self, position: int) -> int:
        """The block of the first token that a query at this position attends to."""
        return 0 if self.window is None else max(0, position - self.window + 1) // self.block_size

    def end_block(self, row: int) -> int:
        return -(-self.rows.lengths[row] // self.block_size)

    def additive(self, is_hidden: Tensor) -> Tensor:
        """0 where a key is seen, minus infinity where it is hidden."""
        return torch.zeros_like(is_hidden, dtype=self.dtype).masked_fill_(is_hidden, float("-inf"))

    def grouped(self, singles: list[int]) -> list[list[int]]:
        """Rows of like numbers of blocks, up to the next power of two: padding at most doubles what is read."""
        groups: dict[int, list[list[int]]] = {}
        for row in singles:
            num_blocks = self.end_block(row) - self.first_block(self.rows.lengths[row] - 1)
            width = 1 << (num_blocks - 1).bit_length()
            listed = groups.setdefault(width, [[]])
            if listed[-1] and (len(listed[-1]) + 1) * width * self.block_size > MAX_GATHERED:
                listed.append([])
            listed[-1].append(row)
        return [group for listed in groups.values() for group in listed]

    def gather(self, group: list[int]) -> Gather:
        block_size, device = self.block_size, self.table_RB.device
        lengths = [self.rows.lengths[row] for row in group]
        firsts = [self.first_block(length - 1) for length in lengths]
        width = max(self.end_block(row) - first for row, first in zip(group, firsts, strict=True))
        lengths_R1 = torch.tensor(lengths, device=device)[:, None]
        firsts_R1 = torch.tensor(firsts, device=device)[:, None]
        columns_RB = firsts_R1 + torch.arange(width, device=device)
        # Padding reads a row's first block again. In a group wider than one block that block is full: it holds
        # nothing of other rows.
        columns_RB = torch.where(columns_RB * block_size < lengths_R1, columns_RB, firsts_R1)
        blocks_RB = self.table_RB[torch.tensor(group, device=device)[:, None], columns_RB]
        positions_RL = firsts_R1 * block_size + torch.arange(width * block_size, device=device)
        is_hidden_RL = positions_RL >= lengths_R1
        ends_R1 = (lengths_R1 + block_size - 1) // block_size * block_size
        strangers = (is_hidden_RL & (positions_RL < ends_R1)).flatten().nonzero().flatten()
        if self.window is not None:
            is_hidden_RL |= positions_RL < lengths_R1 - self.window
        tokens_R = torch.tensor([self.rows.starts[row] for row in group], device=device)
        return Gather(tokens_R, blocks_RB.flatten(), self.additive(is_hidden_RL)[:, None, None], strangers)

    def chunks(self, longer: list[int]) -> list[Chunk]:
        """All tiles share one mask: query j of a tile at position p sees key x when ``j - window < x - p <= j``; each
        tile slices it."""
        most_before = max(self.rows.lengths[row] for row in longer)
        if self.window is not None:
            most_before = min(most_before, self.window + self.block_size)
        num_queries = min(TILE, max(self.rows.num_queries(row) for row in longer))
        distance = torch.arange(most_before + num_queries, device=self.table_RB.device) - most_before
        query = torch.arange(num_queries, device=self.table_RB.device)[:, None]
        is_hidden = distance > query
        if self.window is not None:
            is_hidden |= distance <= query - self.window
        mask = self.additive(is_hidden)
        return [self._chunk(row, mask, most_before) for row in longer]

    def _chunk(self, row: int, mask: Tensor, most_before: int) -> Chunk:
        start, end = self.rows.starts[row], self.rows.starts[row + 1]
        position = self.rows.lengths[row] - (end - start)
        first_block = self.first_block(position)
        gathered_from = first_block * self.block_size
        tiles = []
        for first in range(start, end, TILE):
            last = min(first + TILE, end)
            here = position + first - start
            from_key, to_key = self.first_block(here) * self.block_size, here + last - first
            seen = mask[: last - first, most_before - (here - from_key) : most_before + last - first]
            tiles.append(Tile(first, last, from_key - gathered_from, to_key - gathered_from, seen))
        return Chunk(self.table_RB[row, first_block : self.end_block(row)], tuple(tiles))
