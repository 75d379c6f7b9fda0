"""Every field of Sampling changes what is drawn exactly as it should: frequencies of some 20,000 draws against
reference distributions.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from scipy.stats import chisquare  # type: ignore[import-untyped]

from quire.core.request import Sampling
from quire.core.step import NewRow
from tests.unit.sampling.drawing import Floats, counts, new_row, probabilities

pytestmark = pytest.mark.usefixtures("backend")

LOGITS = torch.tensor([2.0, 1.5, 1.5, 0.8, 0.4, 0.0, -0.3, -1.0, -1.2, -2.0, 1.1, 0.9])
KNOWN = (0, 10, 3, 1, 1, 7, 2, 1, 5)
NUM_PROMPT = 4
PLAIN = Sampling(seed=0)


def row(**fields: object) -> NewRow:
    return new_row(0, replace(PLAIN, **fields), KNOWN, NUM_PROMPT)


CASES = {
    "temperature below 1": row(temperature=0.5),
    "temperature above 1": row(temperature=1.8),
    "top_k": row(top_k=4),
    "top_k between equal tokens": row(top_k=2),
    "top_p": row(top_p=0.6),
    "top_p and top_k": row(top_k=6, top_p=0.7),
    "min_p": row(min_p=0.3),
    "repetition": row(repetition_penalty=1.7),
    "repetition below 1": row(repetition_penalty=0.6),
    "frequency": row(frequency_penalty=0.8),
    "presence": row(presence_penalty=1.5),
    "negative presence": row(presence_penalty=-1.5),
    "logit_bias": row(logit_bias=((9, 3.5), (0, -100.0))),
    "allowed ids": row(allowed_token_ids=(2, 4, 9)),
    "bad words": row(bad_words_ids=((0,), (1, 5, 10), (5, 1), (2, 5, 2))),
    "min_tokens": replace(row(), min_length=12, masked_until_min=(0, 10)),
    "temperature, min_p, top_k, top_p": row(temperature=1.5, min_p=0.1, top_k=7, top_p=0.8),
    "penalties, bias, temperature, top_p": row(
        repetition_penalty=1.3,
        frequency_penalty=-0.4,
        presence_penalty=0.5,
        logit_bias=((11, 2.0),),
        temperature=0.7,
        top_p=0.9,
    ),
    "allowed ids, bad words, bias, top_k": row(
        allowed_token_ids=(0, 1, 2, 5, 9), bad_words_ids=((5, 2),), logit_bias=((9, 3.0),), top_k=3
    ),
}


def fits(found: Floats, expected: Floats) -> float:
    """The chance of frequencies at least as far off as these; 0 when an impossible token was drawn."""
    if found[expected == 0].any():
        return 0.0
    possible = expected > 0
    return float(chisquare(found[possible], expected[possible] * found.sum()).pvalue) if possible.sum() > 1 else 1.0


def test_without_any_field_the_model_s_own_distribution_is_drawn() -> None:
    assert fits(counts(row(), LOGITS), probabilities(row(), LOGITS)) > 1e-3


@pytest.mark.parametrize("new", CASES.values(), ids=CASES.keys())
def test_frequencies_fit_the_reference_and_not_the_plain_distribution(new: NewRow) -> None:
    found = counts(new, LOGITS)
    assert fits(found, probabilities(new, LOGITS)) > 1e-3
    assert fits(found, probabilities(row(), LOGITS)) < 1e-9


def test_frequencies_over_positions_fit_too() -> None:
    found = np.zeros(len(LOGITS))
    for length in range(1, 81):
        new = new_row(0, PLAIN, (3,) * length)
        found += counts(new, LOGITS, rounds=1)
    assert fits(found, probabilities(row(), LOGITS)) > 1e-3


def test_top_p_of_a_line_longer_than_the_first_look_fits_the_reference() -> None:
    logits = torch.linspace(0.5, -0.5, 3000)
    new = row(top_p=0.7)
    expected = probabilities(new, logits)
    found = counts(new, logits, rows=64, rounds=80)
    assert not found[expected == 0].any()
    # 3,000 tokens are too many for 5,120 draws, so 150 of them at a time are counted together.
    groups, expected_groups = found.reshape(-1, 150).sum(axis=1), expected.reshape(-1, 150).sum(axis=1)
    assert fits(groups, expected_groups) > 1e-3
