"""Rows are unique, reused lowest first, and their removal is told once."""

from __future__ import annotations

import pytest

from quire.core.ids import Row
from quire.core.request import Resumed
from quire.kvcache import BlockTables
from quire.scheduler.rows import Rows
from quire.scheduler.sequence import Sequence
from tests.unit.scheduler.driving import request


def sequence() -> Sequence:
    return Sequence.start(request("a"), Resumed(0), (0,), BlockTables.empty(1, b""))


def test_the_lowest_free_row_is_given_first() -> None:
    rows, sequences = Rows(4), [sequence() for _ in range(4)]
    for one in sequences:
        rows.take(one)
    assert [one.row for one in sequences] == [0, 1, 2, 3]
    for place in (2, 0):
        rows.give_back(sequences[place], is_known=True)
    rows.check([sequences[1], sequences[3]])
    new = sequence()
    rows.take(new)
    assert new.row == 0 and rows[Row(0)] is new and rows[Row(2)] is None
    assert rows.taken() == [new, sequences[1], sequences[3]]


def test_removals_are_told_once_and_only_of_rows_the_worker_knows() -> None:
    rows, known, unknown = Rows(2), sequence(), sequence()
    rows.take(known)
    rows.take(unknown)
    rows.give_back(known, is_known=True)
    rows.give_back(unknown, is_known=False)
    assert rows.has_removed
    assert (rows.take_removed(), rows.take_removed(), rows.num_free) == ([0], [], 2)


def test_a_row_is_not_given_back_twice() -> None:
    rows, one = Rows(1), sequence()
    rows.take(one)
    rows.give_back(one, is_known=True)
    with pytest.raises(AssertionError):
        rows.give_back(one, is_known=True)
