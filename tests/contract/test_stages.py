"""Every stage on the shelf ``sampling/stages``: it changes its rows and no others, and forgets them when it should."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence

import pytest
import torch
from msgspec.structs import replace
from torch import Tensor

from quire import plugins
from quire.config.decided import WorkerConfig
from quire.core.ids import Row
from quire.core.request import Sampling
from quire.core.step import NewRow
from quire.sampling.sampler import AFTER_THE_PICK, BEFORE_THE_PICK
from quire.sampling.stage import Stage
from tests.unit.sampling.drawing import draw_of, new_row, random_logits, worker_config

LOGITS = random_logits(5, 300)
UNTOUCHED = (Sampling(seed=0), Sampling(seed=0, temperature=0.0))

EXAMPLES = [
    pytest.param(name, example, id=f"{name}-{number}")
    for name in plugins.names("sampling.stages")
    for number, example in enumerate(plugins.load("sampling.stages", name).EXAMPLES)
]


def made(name: str) -> Stage:
    stage: Stage = plugins.load("sampling.stages", name).Stage(worker_config())
    return stage


def applied(stage: Stage, rows: Sequence[NewRow], logits_RV: Tensor) -> Tensor:
    changed = logits_RV.clone()
    stage.apply(changed, [draw_of(new) for new in rows])
    return changed


@pytest.mark.parametrize("name", plugins.names("sampling.stages"))
def test_every_stage_has_a_place_in_the_order(name: str) -> None:
    order = (*BEFORE_THE_PICK, *AFTER_THE_PICK)
    assert order.count(plugins.load("sampling.stages", name).Stage) == 1


@pytest.mark.parametrize("name", plugins.names("sampling.stages"))
@pytest.mark.parametrize("sampling", UNTOUCHED, ids=("random", "greedy"))
def test_a_row_that_asks_for_nothing_is_left_alone(name: str, sampling: Sampling) -> None:
    stage, new = made(name), new_row(0, sampling)
    assert stage.enter(new) is False
    assert torch.equal(applied(stage, [new], LOGITS[:1]), LOGITS[:1])


@pytest.mark.parametrize(("name", "example"), EXAMPLES)
def test_an_example_is_changed_the_same_alone_and_between_rows_that_ask_for_nothing(name: str, example: NewRow) -> None:
    stage = made(name)
    assert stage.enter(example) is True
    alone = applied(stage, [example], LOGITS[2:3])
    assert not torch.equal(alone, LOGITS[2:3])
    others = [new_row(i, UNTOUCHED[i % 2]) for i in (1, 2, 3, 4)]
    for other in others:
        stage.enter(other)
    together = applied(stage, [*others[:2], example, *others[2:]], LOGITS)
    assert torch.equal(together[2:3], alone)
    assert torch.equal(together[[0, 1, 3, 4]], LOGITS[[0, 1, 3, 4]])


@pytest.mark.parametrize(("name", "example"), EXAMPLES)
def test_many_rows_of_one_kind_are_changed_one_by_one(name: str, example: NewRow) -> None:
    stage = made(name)
    rows = [replace(example, row=Row(i)) for i in range(5)]
    for new in rows:
        stage.enter(new)
    expected = torch.cat([applied(stage, [new], LOGITS[i : i + 1]) for i, new in enumerate(rows)])
    assert torch.equal(applied(stage, rows, LOGITS), expected)


@pytest.mark.parametrize(("name", "example"), EXAMPLES)
@pytest.mark.parametrize("sampling", UNTOUCHED, ids=("random", "greedy"))
def test_a_row_that_left_or_was_taken_by_another_sequence_is_left_alone(
    name: str, example: NewRow, sampling: Sampling
) -> None:
    stage, new = made(name), replace(new_row(0, sampling), row=example.row)
    stage.enter(example)
    stage.leave(example.row)
    assert torch.equal(applied(stage, [example], LOGITS[:1]), LOGITS[:1])
    stage.enter(example)
    assert stage.enter(new) is False
    assert torch.equal(applied(stage, [new], LOGITS[:1]), LOGITS[:1])


@pytest.mark.parametrize(("name", "example"), EXAMPLES)
def test_applying_twice_to_the_same_logits_gives_the_same(name: str, example: NewRow) -> None:
    stage = made(name)
    stage.enter(example)
    assert torch.equal(applied(stage, [example], LOGITS[:1]), applied(stage, [example], LOGITS[:1]))


@pytest.mark.parametrize("kind", AFTER_THE_PICK)
def test_a_stage_behind_the_pick_keeps_the_most_likely_token(kind: Callable[[WorkerConfig], Stage]) -> None:
    stage = kind(worker_config())
    for example in importlib.import_module(kind.__module__).EXAMPLES:
        stage.enter(example)
        assert torch.equal(applied(stage, [example], LOGITS[:1]).argmax(dim=1), LOGITS[:1].argmax(dim=1))
