from __future__ import annotations

import pytest
from msgspec.structs import replace

from quire.config.decided import KVGroup, KVLayout
from quire.core.ids import Row
from quire.core.request import Sampling
from quire.core.step import NewRow, RowResult, StepPlan
from quire.worker.rows import RowTable
from tests.unit.sampling.drawing import worker_config
from tests.unit.worker.stepping import GREEDY, Witness, added, chunk, copy

TWO_GROUPS = KVLayout(
    block_size=4, groups=(KVGroup(None, (0,)), KVGroup(8, (1,))), layers_per_block=1, bytes_per_block=0
)


def table(witness: Witness | None = None, **changes: object) -> RowTable:
    witness = witness or Witness()
    return RowTable(worker_config(layout=TWO_GROUPS, max_num_seqs=3, max_model_len=20, **changes), witness, witness)


def state(rows: RowTable, row: int) -> tuple[object, ...]:
    known = rows.num_known_host[row]
    return (
        rows.token_ids_host[row, :known].tolist(),
        rows.num_known_host[row],
        [host[row].tolist() for host in rows.tables_host],
        rows.num_blocks_host[:, row].tolist(),
        rows.num_prompt_tokens(Row(row)),
    )


def test_an_added_row_knows_its_tokens_and_its_sampling() -> None:
    rows = table()
    sampling = Sampling(seed=5, top_k=3)
    new = NewRow(Row(1), (7, 8, 9), 2, sampling, sample_index=4)
    rows.apply(StepPlan(1, added=(new,), chunks=(chunk(1, 0, 3, [5], [6]),)))
    draw = rows.draw(Row(1))
    assert (draw.row, draw.sampling, draw.sample_index, draw.num_prompt_tokens) == (1, sampling, 4, 2)
    assert draw.token_ids_host.tolist() == [7, 8, 9]


def test_new_blocks_are_appended_to_each_group_s_table() -> None:
    rows = table()
    rows.apply(StepPlan(1, added=(added(0, [1] * 6),), chunks=(chunk(0, 0, 6, [5, 6], [7, 8]),)))
    rows.apply(StepPlan(2, chunks=(chunk(0, 6, 1, [], []),)))
    rows.apply(StepPlan(3, chunks=(chunk(0, 8, 1, [9], [10]),)))
    assert rows.tables_host[0][0].tolist() == [5, 6, 9, 0, 0]
    assert rows.tables_host[1][0].tolist() == [7, 8, 10, 0, 0]
    assert rows.num_blocks_host[:, 0].tolist() == [3, 3]


def test_drawn_tokens_are_known_from_then_on() -> None:
    rows = table()
    rows.apply(StepPlan(1, added=(added(0, [1, 2]), added(2, [3])), chunks=()))
    rows.advance((RowResult(Row(2), (4,)), RowResult(Row(0)), RowResult(Row(1), error="no")))
    rows.advance((RowResult(Row(2), (5,)),))
    assert rows.draw(Row(2)).token_ids_host.tolist() == [3, 4, 5]
    assert rows.draw(Row(2)).num_prompt_tokens == 1
    assert rows.draw(Row(0)).token_ids_host.tolist() == [1, 2]


def test_a_sequence_may_fill_the_whole_context_and_one_more_drawn_token_does_no_harm() -> None:
    rows = table()
    rows.apply(StepPlan(1, added=(added(0, [1] * 20), added(1, [9]))))
    rows.advance((RowResult(Row(0), (2,)),))
    assert rows.draw(Row(0)).token_ids_host.tolist() == [1] * 20 + [2]
    assert rows.draw(Row(1)).token_ids_host.tolist() == [9]


@pytest.mark.parametrize("is_removed_first", [True, False])
def test_a_row_reused_in_the_same_plan_is_reset_in_every_field(is_removed_first: bool) -> None:
    used, fresh = table(), table()
    old = NewRow(Row(1), (7,) * 19, 3, Sampling(seed=1, top_p=0.1), sample_index=9)
    used.apply(StepPlan(1, added=(old,), chunks=(chunk(1, 0, 19, [1, 2, 3, 4, 5], [6, 7, 8, 9, 10]),)))
    plan = StepPlan(2, added=(added(1, [4, 5]),), chunks=(chunk(1, 0, 2, [30], [31]),))
    fresh.apply(plan)
    used.apply(replace(plan, removed=(Row(1),)) if is_removed_first else plan)
    assert state(used, 1) == state(fresh, 1)
    assert used.draw(Row(1)).sampling == GREEDY
    assert used.draw(Row(1)).sample_index == 0


def test_a_removed_row_holds_nothing() -> None:
    rows = table()
    rows.apply(StepPlan(1, added=(added(1, [4, 5]),), chunks=(chunk(1, 0, 2, [30], [31]),)))
    rows.apply(StepPlan(2, removed=(Row(1),)))
    assert state(rows, 1) == state(table(), 1)
    with pytest.raises(ValueError, match="Row 1 is free"):
        rows.draw(Row(1))


def test_columns_and_copies_are_told_in_the_order_of_the_plan() -> None:
    witness = Witness()
    rows = table(witness)
    rows.apply(StepPlan(1, added=(added(0, [1]),)))
    witness.heard.clear()
    rows.apply(StepPlan(2, removed=(Row(0),), added=(added(0, [2]),), copies=(copy(3, 4), copy(4, 5))))
    kinds = [kind for kind, _ in witness.heard]
    assert kinds[0] == "leave" and kinds.index("enter") < kinds.index("copy")
    assert [what for kind, what in witness.heard if kind == "copy"] == [(3, 4), (4, 5)]
    assert [what for kind, what in witness.heard if kind == "enter"] == [0]


def test_a_step_that_was_applied_is_not_applied_again_whole_or_in_part() -> None:
    witness = Witness()
    rows = table(witness)
    plan = StepPlan(
        7,
        added=(added(0, [1] * 5), added(1, [2])),
        copies=(copy(3, 4),),
        chunks=(chunk(0, 0, 5, [5, 6], [7, 8]), chunk(1, 0, 1, [9], [10])),
    )
    rows.apply(plan)
    before = [state(rows, row) for row in range(3)]
    witness.heard.clear()
    rows.apply(plan)
    rows.apply(replace(plan, chunks=plan.chunks[:1]))
    rows.apply(replace(plan, chunks=plan.chunks[1:]))
    assert [state(rows, row) for row in range(3)] == before
    assert witness.heard == []


def test_a_step_may_be_applied_in_parts_when_the_whole_never_was() -> None:
    plan = StepPlan(
        7,
        added=(added(0, [1] * 5), added(1, [2])),
        copies=(copy(3, 4),),
        chunks=(chunk(0, 0, 5, [5, 6], [7, 8]), chunk(1, 0, 1, [9], [10])),
    )
    whole, witness = table(), Witness()
    whole.apply(plan)
    parts = table(witness)
    for part in (plan.chunks[:1], plan.chunks[1:], plan.chunks):
        parts.apply(replace(plan, chunks=part))
    assert [state(parts, row) for row in range(3)] == [state(whole, row) for row in range(3)]
    assert [kind for kind, _ in witness.heard].count("copy") == 1


def test_a_part_that_does_not_fit_takes_nothing_from_the_other() -> None:
    rows = table()
    plan = StepPlan(
        1, added=(added(0, [1]), added(1, [1])), chunks=(chunk(0, 0, 1, [1], [2]), chunk(1, 0, 1, range(6), []))
    )
    with pytest.raises(ValueError, match="6 more exceed 5"):
        rows.apply(plan)
    rows.apply(replace(plan, chunks=plan.chunks[:1]))
    for _ in range(2):
        with pytest.raises(ValueError, match="6 more exceed 5"):
            rows.apply(replace(plan, chunks=plan.chunks[1:]))
    assert rows.num_blocks_host[:, 0].tolist() == [1, 1]
    assert rows.num_blocks_host[:, 1].tolist() == [0, 0]


@pytest.mark.parametrize(
    "plan",
    [
        StepPlan(2, removed=(Row(0),), added=(added(3, [1]),)),
        StepPlan(2, removed=(Row(0),), added=(added(1, [1] * 21),)),
        StepPlan(2, removed=(Row(0),), added=(added(1, []),)),
        StepPlan(2, chunks=(chunk(0, 1, 1, [3], [4]), chunk(1, 0, 1, range(6), []))),
        StepPlan(2, chunks=(chunk(0, 1, 1, range(5), []),)),
        StepPlan(2, removed=(Row(0),), chunks=(chunk(1, 0, 1, [1], [64]),)),
        StepPlan(2, removed=(Row(0),), copies=(copy(3, -1),)),
    ],
    ids=[
        "no such row",
        "too many tokens",
        "no token",
        "too many blocks",
        "too many with those it has",
        "no such block",
        "no such block to copy to",
    ],
)
def test_a_plan_that_does_not_fit_is_refused_before_anything_changes(plan: StepPlan) -> None:
    witness = Witness()
    rows = table(witness)
    rows.apply(StepPlan(1, added=(added(0, [1]),), chunks=(chunk(0, 0, 1, [1], [2]),)))
    before, heard = [state(rows, row) for row in range(3)], len(witness.heard)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"Row|Blocks"):
            rows.apply(plan)
        assert [state(rows, row) for row in range(3)] == before
    assert len(witness.heard) == heard
