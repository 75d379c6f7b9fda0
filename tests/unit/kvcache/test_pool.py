"""Free, idle and held blocks."""

from __future__ import annotations

import pytest

from quire.core.ids import BlockId
from quire.kvcache.pool import BlockPool, NoFreeBlock


@pytest.fixture
def evicted() -> list[BlockId]:
    return []


@pytest.fixture
def pool(evicted: list[BlockId]) -> BlockPool:
    return BlockPool(4, evicted.append)


def test_a_pool_that_has_too_few_refuses_and_keeps_every_block(pool: BlockPool) -> None:
    held = pool.take(3)
    with pytest.raises(NoFreeBlock, match="2 blocks are wanted, 1 of 4"):
        pool.take(2)
    assert pool.holders(held[0]) == 1
    assert (pool.num_available, pool.num_held) == (1, 3)


def test_a_block_is_free_again_only_when_its_last_holder_leaves(pool: BlockPool) -> None:
    (block,) = pool.take(1)
    pool.hold(block)
    pool.release(block)
    assert pool.num_held == 1
    pool.release(block)
    assert pool.num_held == 0
    with pytest.raises(AssertionError, match="nobody holds"):
        pool.release(block)


def test_kept_blocks_become_idle_and_the_longest_idle_is_evicted_first(pool: BlockPool, evicted: list[BlockId]) -> None:
    first, second, third = pool.take(3)
    for block in (first, second, third):
        pool.keep(block)
    for block in (second, first, third):
        pool.release(block)
    assert pool.idle() == [second, first, third]
    assert pool.num_available == 4
    pool.take(2)
    assert evicted == [second], "the free block goes first, then the one that became idle first"


def test_an_idle_block_that_is_held_again_is_not_evicted(pool: BlockPool, evicted: list[BlockId]) -> None:
    (block,) = pool.take(1)
    pool.keep(block)
    pool.release(block)
    pool.hold(block)
    pool.take(3)
    assert evicted == []
    pool.check(dict.fromkeys(map(BlockId, range(4)), 1))


def test_a_dropped_idle_block_is_free(pool: BlockPool, evicted: list[BlockId]) -> None:
    (block,) = pool.take(1)
    pool.keep(block)
    pool.release(block)
    pool.drop(block)
    assert pool.idle() == []
    assert pool.num_available == 4
    pool.check({})


def test_check_tells_when_references_are_miscounted(pool: BlockPool) -> None:
    (block,) = pool.take(1)
    with pytest.raises(AssertionError, match="counts 1 holders but 2 tables"):
        pool.check({block: 2})
