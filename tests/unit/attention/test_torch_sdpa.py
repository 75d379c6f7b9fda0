"""How the oracle sorts a step's rows; its numbers are checked in tests/contract/test_attention.py."""

from __future__ import annotations

import torch

from quire.attention.torch_sdpa import MAX_GATHERED, TILE, Backend, Plan
from quire.layers.batch import KVLayer, RowSpans


def planned(lengths: list[int], queries: list[int], window: int | None = None, block_size: int = 16) -> Plan:
    starts = tuple(torch.tensor([0, *queries]).cumsum(0).tolist())
    table_RB = torch.zeros(len(lengths), -(-max(lengths) // block_size), dtype=torch.int32)
    plane = torch.zeros(1, block_size, 1, 1)
    return Backend().plan(RowSpans(starts, tuple(lengths)), table_RB, KVLayer(plane, plane), window=window)


def test_rows_of_like_lengths_are_gathered_together_and_a_long_one_apart() -> None:
    plan = planned([16 * 5, 16 * 8, 16 * 7, 16 * 100], [1] * 4)
    assert sorted(gather.tokens_R.tolist() for gather in plan.gathers) == [[0, 1, 2], [3]]
    assert sorted(len(gather.blocks) for gather in plan.gathers) == [3 * 8, 100]


def test_a_gather_of_several_rows_is_bounded() -> None:
    plan = planned([MAX_GATHERED // 4] * 9 + [3 * MAX_GATHERED], [1] * 10)
    assert sorted(len(gather.tokens_R) for gather in plan.gathers) == [1, 1, 4, 4]


def test_a_window_bounds_what_is_read() -> None:
    plan = planned([16 * 1000, 16 * 500], [1, 400], window=64)
    assert len(plan.gathers[0].blocks) <= 64 // 16 + 1
    assert len(plan.chunks[0].blocks) <= (64 + 400) // 16 + 2
    assert all(tile.to_key - tile.from_key <= 64 + TILE + 16 for tile in plan.chunks[0].tiles)


def test_a_long_chunk_shares_one_small_mask() -> None:
    (chunk,) = planned([8000], [2000]).chunks
    assert len(chunk.tiles) == -(-2000 // TILE)
    assert len({tile.mask.untyped_storage().data_ptr() for tile in chunk.tiles}) == 1
    assert chunk.tiles[0].mask.untyped_storage().nbytes() <= 4 * TILE * (8000 + TILE)


def test_keys_behind_a_tile_are_not_read() -> None:
    (chunk,) = planned([8000], [2000]).chunks
    assert [tile.to_key for tile in chunk.tiles] == [min(6000 + TILE * (number + 1), 8000) for number in range(8)]
