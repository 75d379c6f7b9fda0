from __future__ import annotations

import pytest
from msgspec.structs import replace

from quire.core.ids import Row
from quire.core.request import Sampling
from quire.core.step import Chunk, NewRow, StepPlan, StepResult
from quire.sampling.sampler import Sampler
from quire.worker.inputs import InputBuilder
from quire.worker.rows import RowTable
from quire.worker.runner import Runner
from tests.unit.sampling.drawing import identity, worker_config
from tests.unit.worker.stepping import VOCAB, Echo, NoBackend, Witness, added, chunk, copy

CONFIG = worker_config()


def make() -> tuple[Runner, Echo, Witness]:
    echo, witness = Echo(), Witness()
    sampler = Sampler(CONFIG, identity)
    inputs = InputBuilder(CONFIG, (), NoBackend())  # type: ignore[arg-type]
    return Runner(RowTable(CONFIG, sampler, witness), inputs, echo, sampler), echo, witness


def tokens(result: StepResult) -> list[tuple[int, ...]]:
    return [row.token_ids for row in result.rows]


PREFILL = StepPlan(
    1,
    added=(added(0, [3, 4, 5]), added(1, [6, 7]), added(2, [8, 9, 10])),
    copies=(copy(1, 2),),
    chunks=(chunk(0, 0, 3, [3, 6]), chunk(1, 0, 2, [4]), chunk(2, 0, 2, [5], samples=False)),
)
DECODE = StepPlan(2, chunks=(chunk(1, 2, 1), chunk(0, 3, 1), chunk(2, 2, 1)))


def test_results_come_in_the_order_of_the_chunks_and_drawn_tokens_are_the_next_step_s() -> None:
    runner, echo, _ = make()
    first = runner.run(PREFILL)
    assert (first.step, [row.row for row in first.rows]) == (1, [0, 1, 2])
    assert tokens(first) == [(7,), (8,), ()]
    second = runner.run(DECODE)
    assert echo.batches[1].ids_T.tolist() == [8, 7, 10]
    assert tokens(second) == [(10,), (10,), (12,)]


def test_a_plan_without_chunks_frees_rows_and_computes_nothing() -> None:
    runner, echo, _ = make()
    runner.run(PREFILL)
    assert runner.run(StepPlan(2, removed=(Row(0), Row(1), Row(2)))) == StepResult(2)
    assert len(echo.batches) == 1
    assert runner.rows.num_known_host.tolist() == [0] * CONFIG.max_num_seqs


@pytest.mark.parametrize("plan", [PREFILL, DECODE], ids=["prefill", "decode"])
def test_a_step_that_raised_may_be_run_again_in_parts_and_gives_what_it_would_have_given(plan: StepPlan) -> None:
    whole, *_ = make()
    parts, echo, witness = make()
    if plan is DECODE:
        whole.run(PREFILL)
        parts.run(PREFILL)
    echo.failures = {8}
    for _ in range(2):
        with pytest.raises(RuntimeError):
            parts.run(plan)
    heard = len(witness.heard)
    culprit = 2 if plan is PREFILL else 0
    expected = whole.run(plan).rows
    for number, one in enumerate(plan.chunks):
        if number == culprit:
            with pytest.raises(RuntimeError):
                parts.run(replace(plan, chunks=(one,)))
        else:
            assert parts.run(replace(plan, chunks=(one,))).rows == (expected[number],)
    assert len(witness.heard) == heard
    lost = plan.chunks[culprit].row
    survivors: tuple[Chunk, ...] = tuple(
        chunk(one.row, one.start + one.num_tokens, 1) for one in plan.chunks if one.row != lost
    )
    echo.failures = set()
    after = StepPlan(plan.step + 1, removed=(lost,), chunks=survivors)
    assert parts.run(after) == whole.run(after)


def test_a_row_that_fails_does_not_advance_and_the_others_do() -> None:
    runner, _, _ = make()
    nothing = Sampling(seed=1, allowed_token_ids=(5,), bad_words_ids=((5,),))
    plan = replace(PREFILL, added=(PREFILL.added[0], replace(PREFILL.added[1], sampling=nothing), PREFILL.added[2]))
    result = runner.run(plan)
    assert [bool(row.error) for row in result.rows] == [False, True, False]
    assert runner.rows.num_known_host[:3].tolist() == [4, 2, 3]


def test_a_row_whose_columns_cannot_be_made_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, *_ = make()
    expected = whole.run(PREFILL).rows
    runner, *_ = make()
    enter = Sampler.enter

    def enter_but_one(self: Sampler, new: NewRow) -> None:
        if new.row == 1:
            raise MemoryError
        enter(self, new)

    monkeypatch.setattr(Sampler, "enter", enter_but_one)
    found = runner.run(PREFILL).rows
    assert "could not be prepared" in found[1].error and not found[1].token_ids
    assert (found[0], found[2]) == (expected[0], expected[2])
    monkeypatch.undo()
    again = StepPlan(2, removed=(Row(1),), added=(PREFILL.added[1],), chunks=(PREFILL.chunks[1],))
    assert runner.run(again).rows[0] == expected[1]


def test_prompt_logprobs_of_a_prompt_in_chunks_are_those_of_the_whole_prompt() -> None:
    prompt = [5, 9, 3, 7, 1, 2, 8, 4]
    asked = Sampling(seed=0, temperature=0.0, num_prompt_logprobs=3)
    whole, *_ = make()
    plan = StepPlan(1, added=(added(0, prompt, asked),), chunks=(chunk(0, 0, 8, [1, 2], prompt_logprobs=True),))
    expected = whole.run(plan).rows[0].prompt_logprobs
    assert [at.ids[0] for at in expected] == prompt[1:]
    assert [at.ids[1] for at in expected] == [(token + i) % VOCAB for i, token in enumerate(prompt[:-1])]
    parts, *_ = make()
    found = list(parts.run(replace(plan, chunks=(chunk(0, 0, 3, [1, 2], samples=False, prompt_logprobs=True),))).rows)
    found += parts.run(StepPlan(2, chunks=(chunk(0, 3, 4, samples=False, prompt_logprobs=True),))).rows
    found += parts.run(StepPlan(3, chunks=(chunk(0, 7, 1, prompt_logprobs=True),))).rows
    assert tuple(at for row in found for at in row.prompt_logprobs) == expected
    assert [len(row.prompt_logprobs) for row in found] == [3, 4, 0]
