from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from torch import Tensor

from quire.core.ids import Row
from quire.core.request import Sampling
from quire.core.step import NewRow
from quire.errors import ConfigError
from quire.sampling.draw import PromptSpan, Want
from quire.sampling.sampler import Sampler
from tests.unit.sampling.drawing import (
    draw_of,
    identity,
    new_row,
    probabilities,
    random_logits,
    sample,
    sampler,
    softmax,
    worker_config,
)

pytestmark = pytest.mark.usefixtures("backend")

GREEDY = Sampling(seed=0, temperature=0.0)
LOGITS = random_logits(6, 64)


def test_greedy_takes_the_largest_logit_and_of_equal_ones_the_lowest_id() -> None:
    logits = torch.tensor([[0.0, 5.0, 1.0, 5.0], [2.0, 2.0, 2.0, 2.0], [-3.0, -2.0, -1.0, -0.5]])
    results = sample([new_row(i, GREEDY) for i in range(3)], logits)
    assert [result.token_ids for result in results] == [(1,), (0,), (3,)]


def test_greedy_obeys_masks_biases_and_penalties_but_no_chance() -> None:
    logits = torch.tensor([[9.0, 8.0, 7.0, 6.0, 5.0]])

    def pick(known: tuple[int, ...] = (4, 0), **fields: object) -> int:
        return sample([new_row(0, replace(GREEDY, **fields), known, 1)], logits)[0].token_ids[0]

    assert pick(allowed_token_ids=(3, 2)) == 2
    assert pick(bad_words_ids=((0,), (4, 0, 1))) == 2
    assert pick(logit_bias=((4, 100.0),)) == 4
    assert pick(repetition_penalty=2.0) == 1
    assert pick(frequency_penalty=0.6, known=(4, 0, 0)) == 1
    assert pick(frequency_penalty=0.6, known=(4, 0)) == 0
    assert pick(presence_penalty=1.5) == 1
    assert pick(presence_penalty=1.5, known=(0,)) == 0, "presence looks at the output alone"
    assert pick(repetition_penalty=2.0, known=(0,)) == 1, "repetition looks at the prompt too"
    assert pick(top_k=1, top_p=0.1, min_p=1.0) == 0


def test_ends_are_masked_until_the_least_length_is_reached() -> None:
    by = sampler()
    new = new_row(0, GREEDY, (5, 5), 1, min_length=4, ends=(0,))
    by.enter(new)
    logits = torch.tensor([[9.0, 8.0, 7.0, 6.0, 5.0, 4.0]])
    picked = []
    for length in (2, 3, 4):
        draw = draw_of(replace(new, token_ids=(5,) * length))
        picked.append(by.sample(logits, [Want(Row(0), 0, draw)])[0].token_ids[0])
    assert picked == [1, 1, 0]


def test_top_k_of_one_is_greedy_even_between_equal_tokens() -> None:
    logits = torch.zeros(1, 9)
    picked = {sample([new_row(0, Sampling(seed=seed, top_k=1))], logits)[0].token_ids[0] for seed in range(20)}
    assert picked == {0}


def test_the_raw_logits_are_left_as_they_are() -> None:
    logits = LOGITS.clone()
    asked = Sampling(
        seed=3, logit_bias=((1, 50.0),), repetition_penalty=2.0, temperature=0.4, top_p=0.5, num_logprobs=2
    )
    sample([new_row(i, asked) for i in range(6)], logits)
    assert torch.equal(logits, LOGITS)


def test_logprobs_are_of_the_raw_distribution_whatever_was_asked() -> None:
    asked = Sampling(seed=3, allowed_token_ids=(17,), temperature=0.4, num_logprobs=2)
    found = sample([new_row(0, asked)], LOGITS[:1])[0].logprobs[0]
    reference = np.log(softmax(LOGITS[0].numpy().astype(np.float64)))
    assert found.ids[0] == 17
    assert found.ids[1:] == tuple(np.argsort(-reference)[:2])
    assert found.logprobs == pytest.approx([reference[i] for i in found.ids], abs=1e-5)


def test_rows_ask_for_different_logprobs_in_one_step() -> None:
    rows = [
        new_row(0, GREEDY),
        new_row(1, replace(GREEDY, num_logprobs=0)),
        new_row(2, replace(GREEDY, num_logprobs=5)),
        new_row(3, replace(GREEDY, logprob_token_ids=(8, 9))),
        new_row(4, replace(GREEDY, num_logprobs=64)),
        new_row(5, Sampling(seed=1, num_logprobs=5)),
    ]
    results = sample(rows, LOGITS)
    assert [len(result.logprobs[0].ids) if result.logprobs else None for result in results] == [None, 1, 6, 3, 65, 6]
    assert [result.logprobs[0].ids[0] for result in results[1:]] == [result.token_ids[0] for result in results[1:]]
    assert results[3].logprobs[0].ids[1:] == (8, 9)


VARIED = (
    Sampling(seed=11),
    GREEDY,
    Sampling(seed=12, temperature=0.7, top_p=0.9),
    Sampling(seed=13, top_k=40, num_logprobs=3),
    Sampling(seed=14, min_p=0.05, temperature=1.4),
    Sampling(seed=15, repetition_penalty=1.2, presence_penalty=0.3, top_k=7, top_p=0.8),
)


def test_a_row_s_token_and_logprobs_are_the_same_alone_in_any_row_and_beside_any_others() -> None:
    logits = random_logits(len(VARIED), 40_000, seed=4, scale=3.0)
    together = sample([new_row(i, asked, (5, 6, 7), 2) for i, asked in enumerate(VARIED)], logits)
    backwards = sample([new_row(9 - i, asked, (5, 6, 7), 2) for i, asked in enumerate(VARIED)][::-1], logits.flip(0))[
        ::-1
    ]
    for i, asked in enumerate(VARIED):
        alone = sample([new_row(77, asked, (5, 6, 7), 2)], logits[i : i + 1])[0]
        for other in (together[i], backwards[i]):
            assert (other.token_ids, other.logprobs) == (alone.token_ids, alone.logprobs)


def test_seed_sample_index_and_position_each_give_other_tokens() -> None:
    logits = torch.zeros(1, 5000)

    def pick(seed: int = 1, index: int = 0, length: int = 3) -> tuple[int, ...]:
        return sample([new_row(0, Sampling(seed=seed), (1,) * length, 1, index)], logits)[0].token_ids

    assert pick() == pick()
    assert len({pick(), pick(seed=2), pick(index=1), pick(length=4)}) == 4


def test_a_reused_row_keeps_nothing_of_its_former_sequence() -> None:
    by = sampler(logits_processors=())
    everything = Sampling(
        seed=1,
        temperature=0.3,
        top_k=2,
        top_p=0.5,
        min_p=0.2,
        presence_penalty=2.0,
        frequency_penalty=2.0,
        repetition_penalty=9.0,
        logit_bias=((3, 100.0),),
        allowed_token_ids=(3, 4),
        bad_words_ids=((5,),),
        processors=("no:such",),
    )
    fresh = [new_row(0, GREEDY), new_row(0, Sampling(seed=9))]
    for leaves in (True, False):
        for new in fresh:
            by.enter(new_row(0, everything, min_length=99, ends=(1, 2)))
            if leaves:
                by.leave(Row(0))
            assert sample([new], LOGITS[:1], by) == sample([new], LOGITS[:1])


def test_a_row_with_broken_logits_fails_alone() -> None:
    rows = [new_row(i, asked) for i, asked in enumerate(VARIED)]
    whole = sample(rows, LOGITS)
    for bad in (torch.nan, torch.inf, -torch.inf):
        for line in range(len(rows)):
            logits = LOGITS.clone()
            logits[line, 5] = bad
            results = sample(rows, logits)
            assert "NaN or infinity" in results[line].error and not results[line].token_ids
            assert [r for i, r in enumerate(results) if i != line] == [r for i, r in enumerate(whole) if i != line]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_row_that_is_left_without_a_token_fails_alone(temperature: float) -> None:
    nothing = Sampling(seed=1, temperature=temperature, allowed_token_ids=(5,), bad_words_ids=((5,),), top_p=0.5)
    results = sample([new_row(0, VARIED[0]), new_row(1, nothing), new_row(2, VARIED[2])], LOGITS[:3])
    assert "No token may follow" in results[1].error and not results[1].token_ids
    assert [bool(result.error) for result in results] == [False, True, False]


def test_a_bias_of_minus_100_on_every_token_forbids_none() -> None:
    asked = Sampling(seed=1, logit_bias=tuple((i, -100.0) for i in range(64)))
    plain = sample([new_row(0, Sampling(seed=1))], LOGITS[:1])[0]
    biased = sample([new_row(0, asked)], LOGITS[:1])[0]
    assert biased.token_ids == plain.token_ids


def test_a_row_at_which_a_stage_raises_fails_alone() -> None:
    rows = [new_row(i, asked) for i, asked in enumerate(VARIED)]
    whole = sample(rows, LOGITS)
    for line in range(len(rows)):
        broken = replace(rows[line], sampling=Sampling(seed=1, logit_bias=((10**6, 1.0),)))
        results = sample([*rows[:line], broken, *rows[line + 1 :]], LOGITS)
        assert "could not be sampled" in results[line].error
        assert [r for i, r in enumerate(results) if i != line] == [r for i, r in enumerate(whole) if i != line]


def test_what_the_head_raises_is_not_contained() -> None:
    def head(hidden: Tensor) -> Tensor:
        raise RuntimeError("device")

    with pytest.raises(RuntimeError, match="device"):
        sample([new_row(0, GREEDY)], LOGITS[:1], Sampler(worker_config(), head))


@pytest.mark.parametrize("temperature", [1e-40, 1e-20, 0.01])
def test_a_tiny_temperature_is_nearly_greedy_and_never_breaks(temperature: float) -> None:
    logits = torch.tensor([[-2e4, 3e4, 2.9e4, 0.0]])
    results = sample([new_row(i, Sampling(seed=i, temperature=temperature)) for i in range(4)], logits.expand(4, -1))
    assert [result.token_ids for result in results] == [(1,)] * 4


def test_only_wanted_hidden_states_go_through_the_head() -> None:
    sizes: list[int] = []

    def head(hidden: Tensor) -> Tensor:
        sizes.append(len(hidden))
        return hidden

    by = Sampler(worker_config(max_num_seqs=20), head)
    new = new_row(1, replace(GREEDY, num_prompt_logprobs=1))
    by.enter(new)
    hidden = random_logits(100, 64)
    span = PromptSpan(40, np.arange(50, dtype=np.int64), new.sampling)
    wants = [Want(Row(0), 9), Want(Row(1), 89, draw_of(new), span), Want(Row(2), 99)]
    results = by.sample(hidden, wants)
    assert sizes == [1, 20, 20, 10]
    assert results[1].token_ids == (int(hidden[89].argmax()),)
    assert [(r.token_ids, r.prompt_logprobs) for r in (results[0], results[2])] == [((), ())] * 2


def test_prompt_logprobs_belong_to_the_tokens_that_follow() -> None:
    by = sampler()
    asked = replace(GREEDY, num_prompt_logprobs=2)
    span = PromptSpan(3, np.array([9, 8, 7], dtype=np.int64), asked)
    hidden = random_logits(10, 30)
    found = by.sample(hidden, [Want(Row(0), 6, None, span)])[0].prompt_logprobs
    for i, at in enumerate(found):
        reference = np.log(softmax(hidden[3 + i].numpy().astype(np.float64)))
        assert at.ids == (9 - i, *np.argsort(-reference)[:2])
        assert at.logprobs == pytest.approx([reference[t] for t in at.ids], abs=1e-5)


def test_broken_prompt_logits_fail_the_row_alone() -> None:
    hidden = random_logits(10, 30)
    hidden[4, 2] = torch.nan
    spans = [PromptSpan(start, np.array([1, 2], dtype=np.int64), GREEDY) for start in (0, 3, 6)]
    results = sampler().sample(hidden, [Want(Row(i), 9, None, span) for i, span in enumerate(spans)])
    assert [bool(result.error) for result in results] == [False, True, False]


@pytest.fixture
def processors(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of processors, as a user would install one."""
    module = ModuleType("users_processors")

    def only_next(token_ids: list[int], logits: Tensor) -> Tensor:
        assert type(token_ids) is list and logits.dtype == torch.float32
        logits.fill_(-torch.inf)
        logits[token_ids[-1] + 1] = 0.0
        return logits

    def add_ten(token_ids: list[int], logits: Tensor) -> Tensor:
        changed = logits.clone()
        changed[10] += 1000.0
        return changed

    def raises(token_ids: list[int], logits: Tensor) -> Tensor:
        logits.zero_()
        raise KeyError("mine")

    functions = {
        "only_next": only_next,
        "add_ten": add_ten,
        "raises": raises,
        "wrong_shape": lambda ids, logits: logits[:-1],
        "wrong_type": lambda ids, logits: logits.tolist(),
        "whole_numbers": lambda ids, logits: logits.long(),
        "gives_nan": lambda ids, logits: logits * torch.nan,
        "gives_infinity": lambda ids, logits: logits + torch.inf,
        "forbids_all": lambda ids, logits: torch.full_like(logits, -torch.inf),
        "number": 5,
    }
    for name, function in functions.items():
        setattr(module, name, function)
    monkeypatch.setitem(sys.modules, "users_processors", module)
    return module


def named(*names: str, temperature: float = 0.0) -> Sampling:
    return Sampling(seed=1, temperature=temperature, processors=tuple(f"users_processors:{name}" for name in names))


def test_a_user_s_processor_changes_its_own_rows_alone(processors: ModuleType) -> None:
    by = sampler(logits_processors=("users_processors:only_next", "users_processors:add_ten"))
    rows = [new_row(0, named("only_next"), (3, 20)), new_row(1, GREEDY), new_row(2, named("add_ten", temperature=1.0))]
    results = sample(rows, LOGITS[:3], by)
    assert [result.token_ids[0] for result in results] == [21, int(LOGITS[1].argmax()), 10]


def test_processors_are_called_in_the_order_of_the_request(processors: ModuleType) -> None:
    by = sampler(logits_processors=("users_processors:only_next", "users_processors:add_ten"))
    rows = [new_row(0, named("only_next", "add_ten"), (3, 20)), new_row(1, named("add_ten", "only_next"), (3, 20))]
    assert [result.token_ids[0] for result in sample(rows, LOGITS[:2], by)] == [21, 21]
    logits = LOGITS[:2].clone()
    logits[:, 10] = 1e9
    rows = [new_row(0, named("add_ten"), (3, 9)), new_row(1, named("add_ten", "only_next"), (3, 20))]
    assert [result.token_ids[0] for result in sample(rows, logits, by)] == [10, 21]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("raises", "raised KeyError"),
        ("wrong_shape", "instead of float32 (64,)"),
        ("wrong_type", "list instead of a tensor"),
        ("whole_numbers", "instead of float32"),
        ("gives_nan", "NaN or infinity"),
        ("gives_infinity", "NaN or infinity"),
        ("forbids_all", "No token may follow"),
        ("unnamed", "no logits processor 'users_processors:unnamed'"),
    ],
)
def test_a_faulty_processor_fails_its_row_alone(
    processors: ModuleType, name: str, reason: str, temperature: float
) -> None:
    known = () if name == "unnamed" else (f"users_processors:{name}",)
    rows = [new_row(0, VARIED[0]), new_row(1, named(name, temperature=temperature)), new_row(2, GREEDY)]
    whole = sample([rows[0], rows[2]], LOGITS[[0, 2]])
    results = sample(rows, LOGITS[:3], sampler(logits_processors=known))
    assert reason in results[1].error and not results[1].token_ids
    assert (results[0], results[2]) == whole


@pytest.mark.parametrize("name", ["users_processors", "users_processors:", "users_processors:number", "no_module_x:f"])
def test_a_processor_that_cannot_be_had_is_an_error_at_start(processors: ModuleType, name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        Sampler(worker_config(logits_processors=(name,)), identity)


def test_a_plain_greedy_batch_reaches_no_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    by = sampler()
    rows = [new_row(i, replace(GREEDY, num_logprobs=i)) for i in range(3)]
    expected = sample(rows, LOGITS[:3])
    monkeypatch.setattr("quire.sampling.sampler.Sampler._shape_and_pick", lambda *_: pytest.fail("shaped"))
    assert sample(rows, LOGITS[:3], by) == expected


def test_a_mask_alone_is_obeyed_at_every_temperature() -> None:
    def possible(new: NewRow) -> set[int]:
        return {
            sample([replace(new, sampling=replace(new.sampling, seed=s))], LOGITS[:1])[0].token_ids[0]
            for s in range(60)
        }

    new = new_row(0, Sampling(seed=0, temperature=2.0, allowed_token_ids=(7, 8, 9)))
    assert possible(new) == set(np.flatnonzero(probabilities(new, LOGITS[0])).tolist())
