"""A step that is being decided can lose a sequence again."""

from __future__ import annotations

from quire.core.events import Preempted, Scheduled
from quire.core.ids import BlockId, RequestId, Row
from quire.core.request import Resumed
from quire.core.step import BlockCopy
from quire.kvcache import BlockTables
from quire.scheduler.draft import Draft
from quire.scheduler.sequence import Sequence
from tests.unit.scheduler.driving import request


def sequence(name: str, row: int) -> Sequence:
    one = Sequence.start(request(name, 5), Resumed(0), (row,), BlockTables.empty(1, b""))
    one.row = Row(row)
    return one


def test_a_withdrawn_sequence_leaves_no_trace_of_an_admission_in_the_same_step() -> None:
    draft, stays, goes = Draft(10), sequence("a", 0), sequence("b", 1)
    admission = Scheduled(RequestId("b"), 0, 0, True)
    draft.compute(stays, 3)
    draft.admit(goes, admission, [BlockCopy(BlockId(1), BlockId(2))])
    draft.compute(goes, 5)
    assert draft.budget == 2
    assert draft.withdraw(goes) is admission
    assert draft.has_withdrawn(goes) and not draft.has_withdrawn(stays)
    planned = draft.finish(7, [Row(3)])
    assert (draft.budget, planned.scheduled, planned.preempted) == (7, (), ())
    assert (planned.plan.step, planned.plan.removed, planned.plan.added, planned.plan.copies) == (7, (3,), (), ())
    assert [(chunk.row, chunk.num_tokens, chunk.samples) for chunk in planned.plan.chunks] == [(0, 3, False)]
    assert (stays.num_planned, stays.num_in_flight, goes.num_planned) == (3, 1, 0)


def test_a_withdrawn_sequence_that_ran_before_is_told_as_preempted() -> None:
    draft, one = Draft(10), sequence("a", 0)
    assert draft.withdraw(one) is None
    assert draft.finish(1, []).preempted == (Preempted(RequestId("a"), 0),)
