from __future__ import annotations

import numpy as np
import pytest
import torch

from quire.sampling.logprobs import token_logprobs
from quire.sampling.pieces import MAX_PIECE_ELEMENTS, pieces
from tests.unit.sampling.drawing import random_logits, softmax

LOGITS = random_logits(4, 50, seed=3)
REFERENCE = np.stack([np.log(softmax(line.astype(np.float64))) for line in LOGITS.numpy()])


def test_the_token_itself_comes_first_with_its_rank_then_the_most_likely_ones() -> None:
    for line, found in enumerate(token_logprobs(LOGITS, [7, 8, 9, 10], 3)):
        own = 7 + line
        order = np.argsort(-REFERENCE[line], kind="stable")
        assert found.ids == (own, *order[:3])
        assert found.ranks == (int(np.where(order == own)[0][0]) + 1, 1, 2, 3)
        assert found.logprobs == pytest.approx([REFERENCE[line, i] for i in found.ids], abs=1e-5)


def test_none_beside_the_token_itself_are_given_for_zero() -> None:
    assert [len(found.ids) for found in token_logprobs(LOGITS, [0, 0, 0, 0], 0)] == [1] * 4


@pytest.mark.parametrize("num_top", [50, 10**6])
def test_the_whole_vocabulary_may_be_asked_for(num_top: int) -> None:
    found = token_logprobs(LOGITS[:1], [0], num_top)[0]
    assert sorted(found.ids[1:]) == list(range(50))
    assert np.exp(found.logprobs[1:]).sum() == pytest.approx(1.0, abs=1e-5)
    assert found.ranks[1:] == tuple(range(1, 51))


def test_named_ids_replace_the_most_likely_ones_and_keep_their_order() -> None:
    found = token_logprobs(LOGITS[:1], [4], 2, (30, 2, 4))[0]
    order = np.argsort(-REFERENCE[0], kind="stable").tolist()
    assert found.ids == (4, 30, 2, 4)
    assert found.ranks == tuple(order.index(i) + 1 for i in found.ids)
    assert found.logprobs == pytest.approx([REFERENCE[0, i] for i in found.ids], abs=1e-5)


def test_equally_likely_tokens_share_a_rank() -> None:
    logits = torch.tensor([[1.0, 3.0, 1.0, 3.0, 0.0]])
    found = token_logprobs(logits, [2], 5)[0]
    assert found.ids == (2, 1, 3, 0, 2, 4)
    assert found.ranks == (3, 1, 1, 3, 3, 5)


def test_a_result_does_not_depend_on_the_positions_beside_it() -> None:
    size = MAX_PIECE_ELEMENTS // 3
    logits = random_logits(7, size)
    together = token_logprobs(logits, list(range(7)), 4)
    alone = [token_logprobs(logits[i : i + 1], [i], 4)[0] for i in range(7)]
    assert together == alone


def test_pieces_cover_all_rows_once_and_never_are_empty() -> None:
    for width in (1, 1000, MAX_PIECE_ELEMENTS, MAX_PIECE_ELEMENTS + 1):
        spans = list(pieces(700, width))
        assert [i for start, stop in spans for i in range(start, stop)] == list(range(700))
        assert all((stop - start) * width <= max(width, MAX_PIECE_ELEMENTS) for start, stop in spans)
    assert list(pieces(0, 5)) == []
