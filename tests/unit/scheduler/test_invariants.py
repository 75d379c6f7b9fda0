"""The checks notice what they are for."""

from __future__ import annotations

import pytest

from quire.core.ids import Row
from quire.core.request import Resumed
from quire.kvcache import BlockTables
from quire.scheduler.invariants import check_places, check_tokens
from quire.scheduler.sequence import Family, Sequence
from tests.unit.scheduler.driving import request


def sequence(order: int = 0) -> Sequence:
    return Sequence.start(request("a", 5), Resumed(0), (order,), BlockTables.empty(1, b""))


def test_each_unfinished_sequence_stands_in_exactly_one_place() -> None:
    one, other = sequence(), sequence(1)
    family = Family(one.request, [one, other])
    assert check_places([family], [one, other], []) == [one, other]
    for waiting in ([one], [one, other, other], [one, other, sequence(2)], [other, one]):
        with pytest.raises(AssertionError):
            check_places([family], waiting, [])


def test_counts_of_tokens_must_fit_together() -> None:
    one = sequence()
    one.row = Row(0)
    one.num_planned = 5
    check_tokens(one, 100, 0)
    one.num_computed = 6
    with pytest.raises(AssertionError, match="computed <= planned"):
        check_tokens(one, 100, 0)
