"""What full and sliding groups need of the past."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from quire.kvcache.groups import GroupReach


def test_a_full_group_reads_from_the_first_block_on() -> None:
    reach = GroupReach(None, 4)
    assert reach.first_block(1000) == 0
    assert reach.num_more(10, 3, 0) == 7


@given(st.integers(1, 40), st.integers(1, 8), st.integers(0, 200))
def test_a_window_keeps_exactly_the_blocks_that_a_later_token_can_read(window: int, size: int, computed: int) -> None:
    first = GroupReach(window, size).first_block(computed)
    farthest = max(0, computed - window + 1)
    assert first * size <= farthest < (first + 1) * size


def test_a_full_hit_ends_at_the_first_block_that_is_missing() -> None:
    reach = GroupReach(None, 4)
    digests = [b"a", b"b", b"c", b"d"]
    assert reach.longest_hit(digests, {b"a", b"b", b"d"}, 4) == 2
    assert reach.longest_hit(digests, set(digests), 3) == 3
    assert reach.longest_hit(digests, set(), 4) == 0


def test_a_window_hit_needs_only_the_blocks_inside_the_window() -> None:
    reach = GroupReach(5, 4)  # The token at 16 reads 12 to 16: block 3 alone.
    digests = [b"a", b"b", b"c", b"d"]
    assert reach.longest_hit(digests, {b"d"}, 4) == 4
    assert reach.longest_hit(digests, {b"b"}, 4) == 2
    wider = GroupReach(6, 4)  # It reads 11 to 16: blocks 2 and 3.
    assert wider.longest_hit(digests, {b"d"}, 4) == 0
    assert wider.longest_hit(digests, {b"c", b"d"}, 4) == 4
    assert wider.longest_hit(digests, {b"a", b"d"}, 4) == 1, "the first block has nothing before it"


@given(st.integers(1, 30), st.integers(1, 5), st.sets(st.integers(0, 11)), st.integers(0, 12))
def test_a_window_hit_is_the_largest_whose_readable_blocks_are_all_cached(
    window: int, size: int, cached: set[int], limit: int
) -> None:
    reach = GroupReach(window, size)
    digests = [bytes([number]) for number in range(12)]
    possible = [hit for hit in range(limit + 1) if set(range(reach.first_block(hit * size), hit)) <= cached]
    assert reach.longest_hit(digests, {digests[number] for number in cached}, limit) == max(possible)
