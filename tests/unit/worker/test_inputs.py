from __future__ import annotations

import pytest
import torch
from msgspec.structs import replace

from quire.config.decided import KVGroup, KVLayout
from quire.core.ids import Row
from quire.core.step import Chunk, RowResult, StepPlan
from quire.layers.batch import KVLayer
from quire.worker.inputs import InputBuilder, StepInputs
from quire.worker.rows import RowTable
from tests.unit.sampling.drawing import worker_config
from tests.unit.worker.stepping import NoBackend, Witness, added, chunk

LAYOUT = KVLayout(block_size=4, groups=(KVGroup(None, (0, 2)), KVGroup(8, (1,))), layers_per_block=2, bytes_per_block=0)
CONFIG = worker_config(layout=LAYOUT, max_num_seqs=4, max_model_len=40)
KV = tuple(KVLayer(torch.zeros(64, 4, 1, 1), torch.zeros(64, 4, 1, 1)) for _ in range(3))


def table() -> RowTable:
    return RowTable(CONFIG, Witness(), Witness())


def build(plan: StepPlan, rows: RowTable) -> StepInputs:
    rows.apply(plan)
    return InputBuilder(CONFIG, KV, NoBackend()).build(plan, rows)  # type: ignore[arg-type]


def mixed() -> tuple[StepInputs, RowTable]:
    """Row 2 decodes its token 6, row 0 computes tokens 3 to 8 of a prompt of 10, row 1 its whole prompt of 3."""
    rows = table()
    rows.apply(
        StepPlan(
            1,
            added=(added(2, [20, 21, 22, 23, 24, 25]), added(0, range(100, 110))),
            chunks=(chunk(2, 0, 6, [11, 12], [21, 22]), chunk(0, 0, 3, [13], [23], samples=False)),
        )
    )
    rows.advance((RowResult(Row(2), (26,)),))
    plan = StepPlan(
        2,
        added=(added(1, [30, 31, 32]),),
        chunks=(
            chunk(2, 6, 1, [], []),
            chunk(0, 3, 5, [14, 15], [24, 25], samples=False, prompt_logprobs=True),
            chunk(1, 0, 3, [16], [26], prompt_logprobs=True),
        ),
    )
    return build(plan, rows), rows


def test_tokens_and_positions_are_those_of_the_chunks_in_their_order() -> None:
    batch = mixed()[0].batch
    assert batch.ids_T.tolist() == [26, 103, 104, 105, 106, 107, 30, 31, 32]
    assert batch.positions_T.tolist() == [6, 3, 4, 5, 6, 7, 0, 1, 2]
    assert batch.ids_T.dtype == batch.positions_T.dtype == torch.int64
    assert (batch.rows.starts, batch.rows.lengths) == ((0, 1, 6, 9), (7, 8, 3))


def test_slots_follow_each_group_s_block_table() -> None:
    batch = mixed()[0].batch
    assert batch.slots[0].tolist() == [12 * 4 + 2, 13 * 4 + 3, 56, 57, 58, 59, 64, 65, 66]
    assert batch.slots[1].tolist() == [22 * 4 + 2, 23 * 4 + 3, 96, 97, 98, 99, 104, 105, 106]
    assert batch.slots[0].dtype == torch.int64


def test_tables_are_as_wide_as_the_longest_row_needs() -> None:
    batch = mixed()[0].batch
    assert batch.tables[0].tolist() == [[11, 12], [13, 14], [16, 0]]
    assert batch.tables[1].tolist() == [[21, 22], [23, 24], [26, 0]]
    assert batch.tables[0].dtype == torch.int32
    assert batch.group_of_layer == (0, 1, 0)
    assert batch.plans == {} and batch.kv is KV


def test_wants_name_the_last_token_of_chunks_that_sample_and_the_prompt_tokens_that_follow() -> None:
    inputs, _ = mixed()
    assert [(want.row, want.last) for want in inputs.wants] == [(2, 0), (0, 5), (1, 8)]
    decode, middle, whole = inputs.wants
    assert decode.draw is not None and decode.draw.token_ids_host.tolist() == [20, 21, 22, 23, 24, 25, 26]
    assert decode.prompt is None
    assert middle.draw is None and middle.prompt is not None
    assert (middle.prompt.start, middle.prompt.target_ids_host.tolist()) == (1, [104, 105, 106, 107, 108])
    assert whole.draw is not None and whole.prompt is not None
    assert (whole.prompt.start, whole.prompt.target_ids_host.tolist()) == (6, [31, 32])


def test_hidden_states_are_wanted_of_last_tokens_and_of_prompts_with_logprobs_alone() -> None:
    rows = table()
    plan = StepPlan(
        1,
        added=(added(0, range(9)), added(1, range(5)), added(2, range(6))),
        chunks=(
            chunk(0, 0, 8, [1, 2], [3, 4], samples=False),
            chunk(1, 0, 5, [5, 6], [7, 8]),
            chunk(2, 0, 6, [9, 10], [11, 12], prompt_logprobs=True),
        ),
    )
    inputs = build(plan, rows)
    assert inputs.batch.wanted_N is not None
    assert inputs.batch.wanted_N.tolist() == [12, 13, 14, 15, 16, 17, 18]
    _, second, third = inputs.wants
    assert (second.last, third.last) == (0, 6)
    assert third.prompt is not None and third.prompt.start == 1


def test_a_step_that_wants_nothing_asks_for_its_last_token_and_one_that_wants_all_does_not_say_so() -> None:
    rows = table()
    first = StepPlan(1, added=(added(0, range(8)),), chunks=(chunk(0, 0, 7, [1, 2], [3, 4], samples=False),))
    wanted_N = build(first, rows).batch.wanted_N
    assert wanted_N is not None and wanted_N.tolist() == [6]
    assert build(StepPlan(2, chunks=(chunk(0, 7, 1),)), rows).batch.wanted_N is None


def test_generated_tokens_have_no_prompt_logprobs_when_a_sequence_comes_back() -> None:
    rows = table()
    plan = StepPlan(
        1,
        added=(added(0, range(9), num_prompt=5),),
        chunks=(chunk(0, 2, 7, [1, 2, 3], [4, 5, 6], prompt_logprobs=True),),
    )
    prompt = build(plan, rows).wants[0].prompt
    assert prompt is not None and prompt.target_ids_host.tolist() == [3, 4]


def test_the_batch_is_a_copy_that_later_steps_do_not_change() -> None:
    inputs, rows = mixed()
    ids, tables = inputs.batch.ids_T.tolist(), inputs.batch.tables[0].tolist()
    rows.apply(StepPlan(3, removed=(Row(0), Row(1), Row(2)), added=(added(0, [9] * 10),)))
    assert (inputs.batch.ids_T.tolist(), inputs.batch.tables[0].tolist()) == (ids, tables)


def test_a_step_lies_where_the_last_one_lay_so_that_kernels_may_be_told_once() -> None:
    rows, builder = table(), InputBuilder(CONFIG, KV, NoBackend())  # type: ignore[arg-type]
    start = StepPlan(
        1,
        added=(added(0, range(6)), added(1, range(7))),
        chunks=(chunk(0, 0, 5, [1, 2], [3, 4]), chunk(1, 0, 6, [5, 6], [7, 8])),
    )
    rows.apply(start)
    builder.build(start, rows)
    decode = StepPlan(2, chunks=(chunk(0, 5, 1, [], []), chunk(1, 6, 1, [], [])))
    first = builder.build(decode, rows).batch
    assert first.rows.in_memory().tolist() == [0, 1, 2, 6, 7]
    swapped = builder.build(StepPlan(3, chunks=decode.chunks[::-1]), rows).batch
    assert swapped.lies_like(first) and swapped.ids_T.tolist() == [6, 5]
    assert first.ids_T.tolist() == [6, 5], "it is the same memory"
    alone = builder.build(StepPlan(4, chunks=decode.chunks[:1]), rows).batch
    assert not alone.lies_like(first) and alone.ids_T.data_ptr() == first.ids_T.data_ptr()
    other = InputBuilder(CONFIG, KV, NoBackend()).build(decode, rows).batch  # type: ignore[arg-type]
    assert not other.lies_like(first)


def test_a_step_that_is_larger_than_any_that_was_announced_lies_elsewhere() -> None:
    rows = table()
    plan = StepPlan(1, added=(added(0, range(40)),), chunks=(chunk(0, 0, 40, range(10), range(10, 20)),))
    rows.apply(plan)
    small = InputBuilder(replace(CONFIG, max_num_batched_tokens=4), KV, NoBackend())  # type: ignore[arg-type]
    assert small.build(plan, rows).batch.ids_T.tolist() == list(range(40))


@pytest.mark.parametrize(
    "wrong",
    [
        chunk(0, 3, 3, [], []),
        chunk(0, 4, 0, [], []),
        chunk(1, 0, 1, [5], [6]),
        chunk(2, 0, 5, [], []),
        chunk(2, 0, 5, [7], []),
    ],
    ids=["unknown token", "no token", "free row", "no block", "no block in one group"],
)
def test_a_chunk_without_known_tokens_or_blocks_is_refused(wrong: Chunk) -> None:
    rows = table()
    start = (chunk(0, 0, 4, [1, 2], [3, 4]), chunk(2, 0, 4, [5], [6]))
    rows.apply(StepPlan(1, added=(added(0, [1] * 5), added(2, [1] * 5)), chunks=start))
    with pytest.raises(ValueError, match=f"Row {wrong.row} cannot compute"):
        build(StepPlan(2, chunks=(wrong,)), rows)
