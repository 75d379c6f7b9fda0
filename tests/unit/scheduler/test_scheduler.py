"""What a step contains, how sequences end, and what happens when rows or blocks run short."""

from __future__ import annotations

import pytest

from quire.core.events import Preempted
from quire.core.ids import BlockId, RequestId, Row
from quire.core.step import RowResult, StepResult, TokenLogprobs
from tests.unit.scheduler.driving import TOKEN, answer, finish, request, scheduler, step, tokens_of


def test_a_prompt_is_computed_then_each_step_computes_the_token_before() -> None:
    one = scheduler()
    one.add(request("a", 8, max_tokens=3))
    first, deltas = step(one)
    (new,), (chunk,) = first.plan.added, first.plan.chunks
    assert (new.row, new.token_ids, new.num_prompt_tokens) == (0, request("a", 8).prompt_ids, 8)
    assert (chunk.start, chunk.num_tokens, chunk.samples, len(chunk.new_blocks[0])) == (0, 8, True, 2)
    assert [(delta.token_ids, delta.finish) for delta in deltas] == [((TOKEN,), None)]
    second, _ = step(one)
    (chunk,) = second.plan.chunks
    assert (chunk.start, chunk.num_tokens, chunk.samples, len(chunk.new_blocks[0])) == (8, 1, True, 1)
    third, deltas = step(one)
    assert third.plan.chunks[0].new_blocks == ((),)
    assert [(delta.token_ids, delta.finish) for delta in deltas] == [((TOKEN,), "length")]
    last, deltas = step(one)
    assert (last.plan.removed, last.plan.chunks, deltas) == ((Row(0),), (), [])
    assert not one.has_unfinished and one.plan().plan.is_empty


def test_decoding_rows_come_first_and_a_long_prompt_takes_what_is_left() -> None:
    one = scheduler(budget=16)
    one.add(request("a", 4, max_tokens=20))
    step(one)
    one.add(request("b", 40))
    assert tokens_of(step(one)[0]) == [1, 15]
    assert tokens_of(step(one)[0]) == [1, 15]
    assert tokens_of(step(one)[0]) == [1, 10]


def test_a_short_prompt_does_not_wait_for_a_long_one_before_it() -> None:
    one = scheduler(budget=16)
    one.add(request("long", 120))
    step(one)
    one.add(request("short", 6))
    planned, deltas = step(one)
    assert tokens_of(planned) == [10, 6]
    assert [delta.request_id for delta in deltas] == ["short"]


def test_a_short_prompt_does_not_wait_for_many_long_ones_either() -> None:
    one = scheduler(budget=32, rows=12, blocks=400)
    for number in range(9):
        one.add(request(f"long{number}", 100))
    step(one)
    one.add(request("short", 6))
    while one.stats.num_waiting > 1:
        step(one)
    assert any(delta.request_id == "short" for delta in step(one)[1])


def test_the_threshold_caps_a_prompt_even_when_nobody_else_wants_the_step() -> None:
    one = scheduler(threshold=10)
    one.add(request("a", 25))
    assert [tokens_of(step(one)[0]) for _ in range(3)] == [[10], [10], [5]]


def test_a_second_prompt_starts_from_the_blocks_of_the_first() -> None:
    one = scheduler()
    one.add(request("a", range(20)))
    finish(one)
    one.add(request("b", range(20)))
    planned, _ = step(one)
    assert [event.cached_tokens for event in planned.scheduled] == [16]
    assert (planned.plan.chunks[0].start, planned.plan.chunks[0].num_tokens) == (16, 4)
    assert len(planned.plan.chunks[0].new_blocks[0]) == 5
    assert (one.stats.prefix_queries, one.stats.prefix_hits) == (40, 16)


def test_a_request_may_ask_not_to_read_the_prefix_cache() -> None:
    one = scheduler()
    one.add(request("a", range(20)))
    finish(one)
    one.add(request("b", range(20), reads=False))
    assert step(one)[0].plan.chunks[0].num_tokens == 20


@pytest.mark.parametrize(
    "eos, stops, ends, reason", [((TOKEN,), (), "stop", None), ((), (TOKEN,), "stop", TOKEN), ((), (), None, None)]
)
def test_a_sequence_ends_with_a_token_that_ends_it(
    eos: tuple[int, ...], stops: tuple[int, ...], ends: str | None, reason: int | None
) -> None:
    one = scheduler()
    one.add(request("a", eos=eos, stops=stops))
    (delta,) = step(one)[1]
    assert (delta.token_ids, delta.finish, delta.stop_reason) == ((TOKEN,), ends, reason)


def test_a_sequence_ends_at_the_end_of_the_context() -> None:
    one = scheduler(max_len=12)
    one.add(request("a", 9, max_tokens=100))
    deltas = finish(one)
    assert len(deltas) == 3 and deltas[-1].finish == "length"


def test_a_minimum_is_told_to_the_worker_with_the_ends_it_must_mask() -> None:
    one = scheduler()
    one.add(request("a", 5, min_tokens=3, eos=(1,), stops=(2, 3)))
    (new,) = step(one)[0].plan.added
    assert (new.min_length, new.masked_until_min) == (8, (1, 2, 3))


def test_samples_fork_after_the_prompt_and_compute_its_last_token_themselves() -> None:
    one = scheduler()
    one.add(request("a", 10, n=3))
    first, _ = step(one)
    assert (len(first.plan.chunks), one.stats.num_waiting) == (1, 2)
    second, _ = step(one)
    assert [new.sample_index for new in second.plan.added] == [1, 2]
    assert [(chunk.start, chunk.num_tokens) for chunk in second.plan.chunks] == [(9, 1), (9, 1), (9, 1)]
    whole = first.plan.chunks[0].new_blocks[0]
    for copy, chunk in zip(second.plan.copies, second.plan.chunks[1:], strict=True):
        assert chunk.new_blocks[0] == (*whole[:2], copy.target)
        assert copy.source == whole[2]
    assert len({delta.index for delta in finish(one)}) == 3


@pytest.mark.parametrize("caches", [True, False])
def test_samples_of_a_single_token_compute_their_prompt_once(caches: bool) -> None:
    one = scheduler(caches=caches)
    one.add(request("a", 21, n=8, max_tokens=1))
    deltas = finish(one)
    assert {delta.index: delta.finish for delta in deltas} == dict.fromkeys(range(8), "length")
    assert one.stats.prompt_tokens == 20 + 8


def test_samples_go_on_by_themselves_when_the_first_is_cancelled_early() -> None:
    one = scheduler(budget=8)
    one.add(request("a", 20, n=3, max_tokens=2))
    step(one)
    (delta,) = one.cancel(RequestId("a"), 0)
    assert (delta.index, delta.finish) == (0, "abort")
    ends = {delta.index: delta.finish for delta in finish(one) if delta.finish}
    assert ends == {1: "length", 2: "length"}


def test_prompt_logprobs_come_once_with_the_first_token_of_the_first_sample() -> None:
    one = scheduler(budget=6)
    one.add(request("a", 10, n=2, prompt_logprobs=1))
    deltas, flags = [], []
    while one.has_unfinished:
        plan = one.plan().plan
        flags.append([chunk.prompt_logprobs for chunk in plan.chunks])
        rows = []
        for chunk in plan.chunks:
            positions = range(chunk.start, min(chunk.start + chunk.num_tokens, 9)) if chunk.prompt_logprobs else ()
            found = tuple(TokenLogprobs((position,), (0.0,), (1,)) for position in positions)
            rows.append(RowResult(chunk.row, (TOKEN,) if chunk.samples else (), prompt_logprobs=found))
        deltas += one.commit(plan, StepResult(plan.step, tuple(rows)))
    assert flags[:3] == [[True], [True], [False, False]]
    told = [(delta.index, [logprobs.ids[0] for logprobs in delta.prompt_logprobs]) for delta in deltas]
    assert [entry for entry in told if entry[1]] == [(0, list(range(9)))]


def test_a_waiting_request_is_cancelled_without_a_step() -> None:
    one = scheduler(rows=1)
    one.add(request("a"))
    one.add(request("b", n=2))
    step(one)
    assert [(delta.index, delta.finish) for delta in one.cancel(RequestId("b"))] == [(0, "abort"), (1, "abort")]
    assert one.cancel(RequestId("b")) == one.cancel(RequestId("nobody")) == []
    one.check()
    assert {delta.request_id for delta in finish(one)} == {"a"}


def test_a_request_cancelled_in_flight_keeps_its_blocks_until_its_result_is_dropped() -> None:
    one = scheduler()
    one.add(request("a"))
    planned = one.plan()
    assert [delta.finish for delta in one.cancel(RequestId("a"))] == ["abort"]
    one.check()
    assert one.kv.pool.num_held == 2
    assert one.commit(planned.plan, answer(planned.plan)) == []
    one.check()
    assert one.kv.pool.num_held == 0
    assert one.plan().plan.removed == (0,)


def test_a_row_that_fails_ends_alone_and_what_it_computed_is_never_found() -> None:
    one = scheduler()
    one.add(request("a", range(20)))
    one.add(request("b", 20))
    step(one)
    plan = one.plan().plan
    rows = (RowResult(plan.chunks[0].row, error="broken"), *answer(plan).rows[1:])
    deltas = one.commit(plan, StepResult(plan.step, rows))
    assert [(delta.request_id, delta.finish, delta.error) for delta in deltas] == [
        ("a", "error", "broken"),
        ("b", None, ""),
    ]
    one.check()
    one.add(request("c", range(20)))
    assert one.plan().scheduled[0].cached_tokens == 0


def test_a_row_for_which_no_token_was_drawn_fails_instead_of_waiting_for_ever() -> None:
    one = scheduler()
    one.add(request("a"))
    plan = one.plan().plan
    (delta,) = one.commit(plan, StepResult(plan.step, (RowResult(Row(0)),)))
    assert delta.finish == "error" and "no token" in delta.error


def test_a_prompt_that_the_pool_can_never_hold_is_refused_at_once() -> None:
    one = scheduler(blocks=4)
    (first, second) = one.add(request("a", 17, n=2))
    assert (first.finish, second.index) == ("error", 1) and "17 tokens" in first.error
    assert not one.has_unfinished
    assert one.add(request("b", 16)) == []
    assert [delta.finish for delta in finish(one)] == ["length"], "the pool is its context"


def test_an_id_is_refused_while_it_is_in_use() -> None:
    one = scheduler()
    one.add(request("a"))
    with pytest.raises(ValueError, match="unfinished"):
        one.add(request("a"))


def test_the_last_in_the_order_is_preempted_and_comes_back_with_all_its_tokens() -> None:
    one = scheduler(blocks=8)
    one.add(request("a", 8, max_tokens=16))
    one.add(request("b", 8, max_tokens=16))
    preempted: list[str] = []
    back: list[tuple[int, ...]] = []
    while one.has_unfinished:
        planned, _ = step(one)
        preempted += [one_lost.request_id for one_lost in planned.preempted]
        back += [new.token_ids for new in planned.plan.added if len(new.token_ids) > 8]
    assert preempted and set(preempted) == {"b"}
    assert back[0][:8] == request("b").prompt_ids and set(back[0][8:]) == {TOKEN}
    assert one.stats.num_preemptions == len(preempted)


def test_two_sequences_that_each_need_more_than_half_the_pool_both_finish() -> None:
    one = scheduler(blocks=10)
    for name in ("a", "b"):
        one.add(request(name, 4, max_tokens=32))
    ends = {delta.request_id: delta.finish for delta in finish(one, 200) if delta.finish}
    assert ends == {"a": "length", "b": "length"}


def test_a_prompt_waits_until_all_of_it_fits_beside_the_running() -> None:
    one = scheduler(blocks=10)
    one.add(request("a", 24, max_tokens=4))
    step(one)
    one.add(request("b", 16, max_tokens=1))
    while one.stats.num_running and one.stats.num_waiting:
        assert not step(one)[0].preempted
    assert {delta.request_id for delta in finish(one)} == {"b"}


def test_an_urgent_request_takes_the_row_and_the_blocks_of_a_less_urgent_one() -> None:
    one = scheduler(rows=1, policy="priority")
    one.add(request("late", priority=5))
    step(one)
    one.add(request("same", priority=5))
    assert not step(one)[0].preempted
    one.add(request("urgent", priority=1))
    planned, deltas = step(one)
    assert planned.preempted == (Preempted(RequestId("late"), 0),)
    assert planned.plan.removed == (0,) and planned.plan.added[0].row == 0
    assert [delta.request_id for delta in deltas] == ["urgent"]
    ends = [delta.request_id for delta in finish(one) if delta.finish]
    assert ends == ["urgent", "late", "same"]


def test_nobody_is_preempted_when_that_would_not_make_enough_room() -> None:
    one = scheduler(blocks=10, policy="priority")
    one.add(request("first", 24, max_tokens=8, priority=0))
    one.add(request("late", 4, max_tokens=8, priority=5))
    step(one)
    one.add(request("urgent", 24, priority=1))
    assert not step(one)[0].preempted


def test_a_prompt_whose_chunk_does_not_fit_takes_a_smaller_one() -> None:
    one = scheduler(windows=(5,), blocks=3, max_len=100)
    one.add(request("a", 40, max_tokens=2))
    sizes = []
    while one.has_unfinished:
        sizes += tokens_of(step(one)[0])
    assert sum(sizes) == 41 and max(sizes) == 12


def test_rows_beyond_the_budget_are_not_given() -> None:
    one = scheduler(rows=8, budget=3)
    for number in range(5):
        one.add(request(str(number), 2))
    for _ in range(6):
        assert len(step(one)[0].plan.chunks) <= 3


def test_while_a_token_is_being_drawn_the_next_step_leaves_its_sequence_out() -> None:
    one = scheduler(budget=8)
    one.add(request("a", 4))
    one.add(request("b", 20))
    first, second = one.plan().plan, one.plan().plan
    assert [chunk.row for chunk in first.chunks] == [0, 1]
    assert [(chunk.row, chunk.start) for chunk in second.chunks] == [(1, 4)]
    one.check()
    one.commit(first, answer(first))
    one.commit(second, answer(second))
    one.check()
    with pytest.raises(AssertionError, match="order"):
        one.commit(second, answer(second))


def test_a_reset_drops_what_nobody_holds_and_says_whether_that_was_all() -> None:
    one = scheduler()
    one.add(request("a", range(20)))
    finish(one)
    assert one.reset_prefix_cache()
    one.add(request("b", range(20)))
    assert step(one)[0].plan.chunks[0].num_tokens == 20
    assert not one.reset_prefix_cache()


def test_stats_count_tokens_rows_and_blocks() -> None:
    one = scheduler(rows=1)
    one.add(request("a", 8, max_tokens=2))
    one.add(request("b", 4, max_tokens=1))
    step(one)
    stats = one.stats
    assert (stats.num_running, stats.num_waiting, stats.num_blocks, stats.num_blocks_held) == (1, 1, 64, 2)
    assert (stats.prompt_tokens, stats.generation_tokens, stats.step_tokens, stats.step) == (8, 1, 8, 1)
    finish(one)
    assert (one.stats.prompt_tokens, one.stats.generation_tokens) == (12, 3)


def test_the_check_notices_a_lost_block() -> None:
    one = scheduler()
    one.add(request("a"))
    step(one)
    one.kv.pool.hold(BlockId(0))
    with pytest.raises(AssertionError):
        one.check()
