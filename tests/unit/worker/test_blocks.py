from __future__ import annotations

import pytest
import torch

from quire.config.card import Card
from quire.config.decided import KVGroup, KVLayout
from quire.errors import DoesNotFit
from quire.ops.eight_bits import narrowed, widened
from quire.worker.blocks import KVBlocks
from tests.unit.sampling.drawing import worker_config
from tests.unit.worker.stepping import copy

LAYOUT = KVLayout(
    block_size=4,
    groups=(KVGroup(None, (1, 3)), KVGroup(8, (0, 2)), KVGroup(8, (4,))),
    layers_per_block=2,
    bytes_per_block=0,
)
CARD = Card(
    path="",
    model_type="llama",
    architecture="LlamaForCausalLM",
    config={},
    vocab_size=10,
    hidden_size=8,
    num_layers=5,
    num_heads=4,
    num_kv_heads=2,
    head_size=6,
    intermediate_size=8,
    max_model_len=64,
    ties_embeddings=False,
    dtype="bfloat16",
    layer_windows=(8, None, 8, None, 8),
)


def make(**changes: object) -> KVBlocks:
    return KVBlocks(worker_config(layout=LAYOUT, num_blocks=7, dtype="bfloat16", **changes), CARD)


def test_each_layer_s_keys_and_values_have_a_plane_of_the_pool() -> None:
    blocks = make()
    assert len(blocks.layers) == 5
    for layer in blocks.layers:
        assert layer.keys.shape == layer.values.shape == (7, 4, 2, 6)
        assert layer.keys.dtype == torch.bfloat16
    assert blocks.num_bytes == 2 * 2 * 7 * 4 * 2 * 6 * 2


@pytest.mark.parametrize(
    ("kv_type", "dtype", "width"), [("fp8_e4m3", torch.float8_e4m3fn, 6), ("int8_per_token_head", torch.int8, 6 + 4)]
)
def test_kv_in_eight_bits_has_its_scales_in_the_blocks_so_that_copies_carry_them(
    kv_type: str, dtype: torch.dtype, width: int
) -> None:
    blocks = make(kv_type=kv_type)
    keys = blocks.layers[0].keys
    assert keys.dtype == dtype and keys.shape == (7, 4, 2, width)
    assert blocks.num_bytes == 2 * 2 * 7 * 4 * 2 * width
    keys[3] = narrowed(torch.randn(4, 2, 6, generator=torch.Generator().manual_seed(1)), dtype)
    blocks.copy([copy(3, 5)])
    assert torch.equal(widened(keys[5]), widened(keys[3])) and bool(widened(keys[5]).any())


def test_the_first_layers_of_all_groups_share_plane_0_and_the_second_ones_plane_1() -> None:
    blocks = make()
    plane = [layer.keys.data_ptr() for layer in blocks.layers]
    assert plane[1] == plane[0] == plane[4]
    assert plane[3] == plane[2] != plane[0]
    assert {layer.keys.data_ptr() for layer in blocks.layers}.isdisjoint(
        {layer.values.data_ptr() for layer in blocks.layers}
    )


def test_memory_starts_as_numbers() -> None:
    assert all(not layer.keys.any() and not layer.values.any() for layer in make().layers)


def test_a_copy_takes_every_plane_and_nothing_else() -> None:
    blocks = make()
    for number, pool in enumerate(part for i in (0, 2) for part in (blocks.layers[i].keys, blocks.layers[i].values)):
        pool.copy_(torch.arange(pool.numel()).view(pool.shape) % 97 + number)
    before = [layer.keys.clone() for layer in blocks.layers] + [layer.values.clone() for layer in blocks.layers]
    blocks.copy([copy(2, 5)])
    after = [layer.keys for layer in blocks.layers] + [layer.values for layer in blocks.layers]
    for old, new in zip(before, after, strict=True):
        assert torch.equal(new[5], old[2])
        assert torch.equal(new[[0, 1, 2, 3, 4, 6]], old[[0, 1, 2, 3, 4, 6]])


def test_copies_are_done_one_after_the_other() -> None:
    blocks = make()
    keys = blocks.layers[0].keys
    keys[1], keys[2] = 1.0, 2.0
    blocks.copy([copy(1, 2), copy(2, 3)])
    assert [set(keys[i].flatten().tolist()) for i in (1, 2, 3)] == [{1.0}, {1.0}, {1.0}]


def test_a_pool_larger_than_the_free_memory_is_refused_with_the_numbers() -> None:
    with pytest.raises(DoesNotFit, match=r"GiB on cpu; .* GiB are free"):
        KVBlocks(worker_config(layout=LAYOUT, num_blocks=1 << 40), CARD)
