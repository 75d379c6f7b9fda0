"""Finding, growing, forking, settling and giving back KV."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from quire.config.decided import KVConfig
from quire.config.kv_layout import lay_out
from quire.kvcache import BlockTables, KVCache
from quire.kvcache.pool import NoFreeBlock
from quire.kvcache.prefix import TokensBetween
from quire.kvcache.tables import NO_BLOCK

PROMPT = tuple(range(100, 120))


def kv_cache(*windows: int | None, num_blocks: int = 32, caches: bool = True) -> KVCache:
    layout = lay_out(windows, block_size=4, bytes_per_token_layer=1)
    return KVCache(KVConfig(layout=layout, num_blocks=num_blocks, enable_prefix_caching=caches))


def between(tokens: Sequence[int]) -> TokensBetween:
    return lambda first, last: tokens[first:last]


def computed(kv: KVCache, tokens: Sequence[int], salt: str = "") -> BlockTables:
    tables = kv.new_tables(salt)
    kv.grow(tables, len(tokens))
    kv.settle(tables, between(tokens), len(tokens))
    return tables


def find(kv: KVCache, tokens: Sequence[int], salt: str = "") -> int:
    return kv.find(kv.new_tables(salt), between(tokens), len(tokens))


def test_full_blocks_of_an_ended_sequence_are_found_but_never_the_last_known_token() -> None:
    kv = kv_cache(None)
    kv.release(computed(kv, PROMPT))
    assert find(kv, PROMPT) == 4, "20 tokens fill 5 blocks, the last token must be computed"
    assert find(kv, (*PROMPT, 1)) == 5
    assert find(kv, (*PROMPT[:9], 1, 2, 3, 4)) == 2
    assert find(kv, PROMPT[:1]) == 0


def test_another_salt_finds_nothing() -> None:
    kv = kv_cache(None)
    kv.release(computed(kv, PROMPT, "a"))
    assert find(kv, PROMPT, "a") == 4
    assert find(kv, PROMPT) == find(kv, PROMPT, "b") == 0


def test_what_was_planned_but_not_computed_is_not_found() -> None:
    kv = kv_cache(None)
    tables = kv.new_tables("")
    kv.grow(tables, 20)
    assert find(kv, PROMPT) == 0
    kv.settle(tables, between(PROMPT), 11)
    assert find(kv, PROMPT) == 2


def test_a_hit_holds_the_same_blocks_and_two_equal_computations_keep_one() -> None:
    kv = kv_cache(None)
    first, second = computed(kv, PROMPT), computed(kv, PROMPT)
    third = kv.new_tables("")
    kv.attach(third, kv.find(third, between(PROMPT), 20))
    assert third.groups[0] == first.groups[0][:4]
    kv.check([(first, between(PROMPT)), (second, between(PROMPT)), (third, between(PROMPT))])
    kv.release(second)
    assert kv.pool.num_held == 5 and not kv.pool.idle(), "the second computation's blocks were not kept"


def test_without_prefix_caching_nothing_is_found_or_kept() -> None:
    kv = kv_cache(None, caches=False)
    kv.release(computed(kv, PROMPT))
    assert find(kv, PROMPT) == 0
    assert not kv.pool.idle()


def test_the_tail_of_a_prefix_is_evicted_before_its_head() -> None:
    kv = kv_cache(None, num_blocks=5)
    kv.release(computed(kv, PROMPT))
    kv.pool.take(3)
    assert find(kv, PROMPT) == 2


def test_a_window_gives_back_what_left_it_and_the_block_stays_findable() -> None:
    kv = kv_cache(5)
    tables = computed(kv, PROMPT)
    assert tables.first_live == [4]
    assert tables.groups[0][:4] == [NO_BLOCK] * 4
    assert (kv.pool.num_held, len(kv.pool.idle())) == (1, 4)
    kv.check_length(tables, 20, 20)


def test_a_hit_of_mixed_groups_needs_all_of_one_and_the_window_of_the_other() -> None:
    kv = kv_cache(None, 5)
    tables = computed(kv, PROMPT)
    hit = kv.new_tables("")
    assert kv.find(hit, between(PROMPT), 20) == 4
    kv.attach(hit, 4)
    assert hit.groups[0] == tables.groups[0][:4]
    assert hit.groups[1][:3] == [NO_BLOCK] * 3 and hit.first_live == [0, 3]
    kv.check([(tables, between(PROMPT)), (hit, between(PROMPT))])


def test_a_fork_shares_full_blocks_and_copies_the_partial_one() -> None:
    kv = kv_cache(None)
    source, target = computed(kv, PROMPT[:11]), kv.new_tables("")
    (copy,) = kv.fork(source, target, 10)
    assert target.groups[0][:2] == source.groups[0][:2]
    assert (copy.source, copy.target) == (source.groups[0][2], target.groups[0][2])
    assert copy.source != copy.target
    assert kv.fork(source, kv.new_tables(""), 8) == [], "at a block's end there is nothing to copy"


def test_a_fork_that_finds_no_block_changes_nothing() -> None:
    kv = kv_cache(None, num_blocks=3)
    source, target = computed(kv, PROMPT[:11]), kv.new_tables("")
    with pytest.raises(NoFreeBlock):
        kv.fork(source, target, 10)
    kv.check([(source, between(PROMPT)), (target, between(PROMPT))])


def test_a_sequence_whose_window_moved_on_cannot_be_forked_at_its_prompt() -> None:
    kv = kv_cache(5)
    source = computed(kv, PROMPT[:19])
    assert kv.can_fork(source, 18) and not kv.can_fork(source, 11)
    assert not kv.can_fork(source, 21), "it has no room for 21 tokens"


def test_growing_takes_blocks_of_all_groups_or_none() -> None:
    kv = kv_cache(None, 9, num_blocks=5)
    tables = kv.new_tables("")
    kv.grow(tables, 8)
    assert kv.fits(tables) == 8
    with pytest.raises(NoFreeBlock):
        kv.grow(tables, 9)
    assert (tables.length, tables.capacity, kv.pool.num_available) == (2, 8, 1)


def test_blocks_in_doubt_are_not_found_any_more() -> None:
    kv = kv_cache(None)
    tables = computed(kv, PROMPT)
    kv.forget(tables)
    assert find(kv, PROMPT) == 0
    kv.release(tables)
    assert kv.pool.num_held == 0 and not kv.pool.idle()


def test_dropping_idle_content_leaves_what_is_held() -> None:
    kv = kv_cache(None)
    other = tuple(range(500, 512))
    kv.release(computed(kv, PROMPT))
    held = computed(kv, other)
    kv.drop_idle()
    assert find(kv, PROMPT) == 0
    assert find(kv, (*other, 1)) == 3
    kv.check([(held, between(other))])


def test_needs_are_counted_for_what_is_missing_only() -> None:
    kv = kv_cache(None, 5)
    kv.release(computed(kv, PROMPT))
    tables = kv.new_tables("")
    assert kv.num_more(tables, 0, 20) == 5 + 2, "a window of 5 holds 2 blocks of 4 at most"
    hit = kv.find(tables, between(PROMPT), 20)
    assert kv.num_idle(tables, hit) == 4 + 1
    assert kv.num_more(tables, hit, 20) == 1 + 1
    kv.attach(tables, hit)
    assert kv.num_alone(tables) == 5 and kv.num_idle(tables, hit) == 0


def test_check_finds_a_block_that_stands_for_other_tokens() -> None:
    kv = kv_cache(None)
    tables = computed(kv, PROMPT)
    with pytest.raises(AssertionError, match="digest"):
        kv.check([(tables, between(tuple(reversed(PROMPT))))])
