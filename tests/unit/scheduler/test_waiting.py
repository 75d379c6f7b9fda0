"""The queue keeps the policy's order."""

from __future__ import annotations

import pytest

from quire.core.request import Resumed
from quire.kvcache import BlockTables
from quire.scheduler.sequence import Sequence
from quire.scheduler.waiting import WaitingQueue
from tests.unit.scheduler.driving import request


def sequence(*order: int) -> Sequence:
    return Sequence.start(request("a"), Resumed(0), order, BlockTables.empty(1, b""))


def test_sequences_leave_in_order_whenever_they_came() -> None:
    queue = WaitingQueue()
    first, second, third = sequence(1), sequence(2), sequence(3)
    for one in (second, third, first):
        queue.add(one)
    assert list(queue) == [first, second, third]
    queue.remove(second)
    assert (queue.first(), len(queue)) == (first, 2)


def test_who_does_not_wait_cannot_be_removed() -> None:
    queue = WaitingQueue()
    queue.add(sequence(1))
    with pytest.raises(ValueError, match="does not wait"):
        queue.remove(sequence(1))
