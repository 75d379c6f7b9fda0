"""quire/bench/figures.py"""

from __future__ import annotations

import random

import numpy as np
import pytest

from quire.bench.figures import name_of, percentile, summarize


def test_a_summary_equals_numpys() -> None:
    chance = random.Random(7)
    values = [chance.expovariate(1.0) for _ in range(137)]
    found = summarize(values, (50, 90, 99, 99.9))
    assert found.mean == pytest.approx(np.mean(values))
    assert found.median == pytest.approx(np.median(values))
    assert found.std == pytest.approx(np.std(values))
    for p, value in found.percentiles:
        assert value == pytest.approx(np.percentile(values, p))


def test_nothing_is_summed_up_as_zeros() -> None:
    assert summarize([], (99,)).percentiles == ((99, 0.0),)


@pytest.mark.parametrize(("values", "p"), [([], 50), ([1.0], -1), ([1.0], 101), ([1.0], float("nan"))])
def test_a_percentile_of_nothing_or_beyond_the_ends_is_an_error(values: list[float], p: float) -> None:
    with pytest.raises(ValueError, match="percentile"):
        percentile(values, p)


def test_names_of_percentiles_have_no_needless_zeros() -> None:
    assert [name_of(p) for p in (99.0, 99.9, 50)] == ["p99", "p99.9", "p50"]
