"""How KV is cut into groups, and how many blocks a sequence needs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quire.config.kv_layout import MAX_PADDING, blocks_for, lay_out, tokens_for, window_blocks
from quire.errors import ConfigError


def test_layers_of_one_kind_share_one_group_and_fill_their_blocks() -> None:
    layout = lay_out([None] * 24, block_size=16, bytes_per_token_layer=1024)
    assert [group.layers for group in layout.groups] == [tuple(range(24))]
    assert layout.layers_per_block == 24
    assert layout.bytes_per_block == 24 * 16 * 1024


def test_five_sliding_layers_to_one_full_layer_are_cut_into_equal_groups() -> None:
    windows = [None if layer % 6 == 5 else 512 for layer in range(26)]
    layout = lay_out(windows, block_size=16, bytes_per_token_layer=1)
    assert layout.layers_per_block == 4
    assert [group.window for group in layout.groups] == [None, *[512] * 6]
    assert sorted(layer for group in layout.groups for layer in group.layers) == list(range(26))
    assert layout.groups[0].layers == (5, 11, 17, 23)


@given(st.lists(st.sampled_from([None, 128, 4096]), min_size=1, max_size=80))
def test_every_layer_is_in_one_group_of_its_window_and_little_is_padded(windows: list[int | None]) -> None:
    layout = lay_out(windows, block_size=16, bytes_per_token_layer=2)
    placed = [(layer, group.window) for group in layout.groups for layer in group.layers]
    assert sorted(layer for layer, _ in placed) == list(range(len(windows)))
    assert all(windows[layer] == window for layer, window in placed)
    assert all(0 < len(group.layers) <= layout.layers_per_block for group in layout.groups)
    assert 1 - len(windows) / (len(layout.groups) * layout.layers_per_block) <= MAX_PADDING


@pytest.mark.parametrize(
    "windows, block_size, bytes_each", [([], 16, 1), ([None], 0, 1), ([None], 16, 0), ([0], 16, 1)]
)
def test_impossible_numbers_are_refused(windows: list[int | None], block_size: int, bytes_each: int) -> None:
    with pytest.raises(ConfigError):
        lay_out(windows, block_size=block_size, bytes_per_token_layer=bytes_each)


def test_a_full_group_holds_every_block_and_a_window_only_its_own() -> None:
    full = lay_out([None], block_size=16, bytes_per_token_layer=1)
    assert [blocks_for(full, tokens) for tokens in (0, 1, 16, 17)] == [0, 1, 1, 2]
    mixed = lay_out([None, 33], block_size=16, bytes_per_token_layer=1)
    assert window_blocks(33, 16) == 3
    assert blocks_for(mixed, 16 * 100) == 103
    assert blocks_for(mixed, 20) == 4


@given(
    st.lists(st.sampled_from([None, 1, 5, 16, 17, 40]), min_size=1, max_size=4),
    st.integers(1, 20),
    st.integers(0, 60),
    st.integers(1, 500),
)
def test_tokens_for_is_the_largest_length_that_blocks_for_allows(
    windows: list[int | None], block_size: int, num_blocks: int, limit: int
) -> None:
    layout = lay_out(windows, block_size=block_size, bytes_per_token_layer=1)
    tokens = tokens_for(layout, num_blocks, limit=limit)
    assert 0 <= tokens <= limit
    assert blocks_for(layout, tokens) <= num_blocks
    assert tokens == limit or blocks_for(layout, tokens + 1) > num_blocks
