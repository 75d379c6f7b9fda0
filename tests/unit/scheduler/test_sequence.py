"""Tokens of a sequence, its ends, and the family it belongs to."""

from __future__ import annotations

import pytest

from quire.core.ids import Row
from quire.core.request import Resumed
from quire.core.step import RowResult, TokenLogprobs
from quire.kvcache import BlockTables
from quire.scheduler.sequence import Family, Sequence
from tests.unit.scheduler.driving import request

LOGPROB = TokenLogprobs((1,), (0.0,), (1,))


def sequence(index: int = 0, **asked: object) -> Sequence:
    return Sequence.start(request("a", range(5), **asked), Resumed(index), (3,), BlockTables.empty(1, b""))  # type: ignore[arg-type]


def test_known_tokens_are_the_prompt_and_what_was_generated() -> None:
    one = sequence(max_tokens=9)
    one.append((50, 51, 52), max_known=100)
    known = [0, 1, 2, 3, 4, 50, 51, 52]
    for first in range(8):
        for last in range(first, 9):
            assert list(one.tokens_between(first, last)) == known[first:last]
    one.row = Row(2)
    assert one.new_row().token_ids == tuple(known) and one.new_row().num_prompt_tokens == 5
    assert one.order == (3, 0)


@pytest.mark.parametrize(
    "tokens, taken, finish, reason",
    [
        ((7, 8), (7, 8), None, None),
        ((7, 1, 8), (7, 1), "stop", None),
        ((2, 8), (2,), "stop", 2),
        ((7, 8, 9, 10), (7, 8, 9), "length", None),
    ],
)
def test_tokens_are_taken_up_to_the_end(
    tokens: tuple[int, ...], taken: tuple[int, ...], finish: str | None, reason: int | None
) -> None:
    one = sequence(max_tokens=3, eos=(1,), stops=(2,))
    assert one.append(tokens, max_known=100) == (taken, finish, reason)
    assert one.num_known == 5 + len(taken)


def test_an_end_of_the_model_is_told_as_such_even_if_the_client_named_it_too() -> None:
    assert sequence(eos=(1,), stops=(1,)).append((1,), max_known=100) == ((1,), "stop", None)


def test_prompt_logprobs_start_again_after_a_preemption_and_are_told_once() -> None:
    one = sequence(prompt_logprobs=0)
    assert one.take_prompt_logprobs(RowResult(Row(0), prompt_logprobs=(LOGPROB,))) == ()
    one.restart()
    assert not one.reads_cache()
    assert one.take_prompt_logprobs(RowResult(Row(0), prompt_logprobs=(LOGPROB,) * 3)) == ()
    assert len(one.take_prompt_logprobs(RowResult(Row(0), (9,), prompt_logprobs=(LOGPROB,)))) == 4
    one.restart()
    assert one.reads_cache()
    assert one.take_prompt_logprobs(RowResult(Row(0), (9,), prompt_logprobs=(LOGPROB,))) == ()


def test_only_a_sequence_whose_prompt_the_worker_has_computed_can_be_forked() -> None:
    source, taker = sequence(), sequence(1)
    family = Family(source.request, [source, taker], source, [taker])
    assert family.num_shared == 4
    assert family.source(taker) is None
    source.num_computed, source.tables.num_sent = 3, 1
    assert family.source(taker) is None
    source.num_computed = 4
    assert family.source(taker) is source
    assert family.source(source) is None
    source.tables.num_sent = 0
    assert family.source(taker) is None, "let in by the same plan: its own copies are not made yet"
