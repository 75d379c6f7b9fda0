from __future__ import annotations

import pytest

from quire.worker.program_memory import Arena, NoPlace


def test_places_are_lines_and_never_overlap() -> None:
    arena = Arena(1 << 12)
    places = arena.places()
    taken = [places.take(size) for size in (1, 64, 65, 0)]
    starts = [one.data_ptr() for one in taken]
    assert [start - starts[0] for start in starts] == [0, 64, 128, 256]
    assert all(start % 64 == 0 for start in starts)
    assert arena.used_bytes == 320


def test_a_place_is_taken_again_when_nothing_views_it() -> None:
    places = Arena(1 << 12).places()
    first, second = places.take(128), places.take(128)
    start, view = first.data_ptr(), first[:8]
    del first
    third = places.take(128)
    assert third.data_ptr() == start + 256, "a view holds its place"
    del view
    assert places.take(64).data_ptr() == start
    del second, third


def test_neighbours_that_are_free_become_one() -> None:
    places = Arena(256).places()
    taken = [places.take(64) for _ in range(4)]
    with pytest.raises(NoPlace, match="64 bytes are wanted; of 256 reserved"):
        places.take(64)
    start = taken[0].data_ptr()
    for number in (2, 0, 1):
        taken[number] = taken[3]
    whole = places.take(192)
    assert whole.data_ptr() == start


def test_each_program_begins_at_the_start_of_the_arena() -> None:
    arena = Arena(1 << 12)
    first = arena.places().take(512)
    second = arena.places().take(256)
    assert first.data_ptr() == second.data_ptr()
    assert arena.used_bytes == 512
