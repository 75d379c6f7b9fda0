"""Digests of blocks and the blocks they find."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from quire.core.ids import BlockId
from quire.kvcache.prefix import PrefixCache, extend_digests, root_digest


def digests_of(tokens: list[int], salt: str = "", size: int = 4) -> list[bytes]:
    digests: list[bytes] = []
    extend_digests(digests, root_digest(salt), lambda first, last: tokens[first:last], size, len(tokens) // size)
    return digests


def test_a_digest_covers_salt_own_tokens_and_all_before() -> None:
    plain = digests_of([1, 2, 3, 4, 5, 6, 7, 8])
    assert len(set(plain)) == 2
    assert digests_of([1, 2, 3, 4, 5, 6, 7, 9])[0] == plain[0]
    assert digests_of([1, 2, 3, 4, 5, 6, 7, 9])[1] != plain[1]
    assert digests_of([9, 2, 3, 4, 5, 6, 7, 8])[1] != plain[1]
    assert not set(digests_of([1, 2, 3, 4, 5, 6, 7, 8], salt="a")) & set(plain)


def test_equal_blocks_in_different_places_have_different_digests() -> None:
    assert len(set(digests_of([7] * 16))) == 4


@given(st.lists(st.integers(0, 2**31), min_size=12, max_size=12), st.integers(0, 3))
def test_digests_made_piece_by_piece_are_those_made_at_once(tokens: list[int], first: int) -> None:
    digests = digests_of(tokens)[:first]
    extend_digests(digests, root_digest(""), lambda start, end: tuple(tokens[start:end]), 4, 3)
    assert digests == digests_of(tokens)


def test_a_digest_finds_one_block_a_group_and_the_first_stays() -> None:
    cache = PrefixCache(2)
    assert cache.add(0, b"x", BlockId(1))
    assert not cache.add(0, b"x", BlockId(2))
    assert cache.add(1, b"x", BlockId(3))
    assert (cache.find(0, b"x"), cache.find(1, b"x"), cache.find(0, b"y")) == (1, 3, None)
    assert b"x" in cache.digests(0)
    assert len(cache) == 2
    cache.check()


def test_a_forgotten_block_is_not_found_and_an_unknown_one_is_no_matter() -> None:
    cache = PrefixCache(1)
    cache.add(0, b"x", BlockId(1))
    cache.forget(BlockId(1))
    cache.forget(BlockId(7))
    assert cache.find(0, b"x") is None
    assert cache.content(BlockId(1)) is None
    cache.check()
