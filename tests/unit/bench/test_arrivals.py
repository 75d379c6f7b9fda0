"""quire/bench/arrivals.py"""

from __future__ import annotations

import math

import pytest

from quire.bench.arrivals import RandomPrompts, draw_arrivals
from quire.errors import ConfigError

PROMPTS = RandomPrompts(input_len=20, output_len=5, vocab_size=100)


def test_all_at_once_is_a_rate_of_infinity() -> None:
    arrivals = draw_arrivals(PROMPTS, num=9, rate=math.inf)
    assert [arrival.at_s for arrival in arrivals] == [0.0] * 9


def test_a_finite_rate_ends_on_time_and_only_grows() -> None:
    times = [arrival.at_s for arrival in draw_arrivals(PROMPTS, num=101, rate=4.0, burstiness=0.3)]
    assert times == sorted(times)
    assert times[0] == 0.0
    assert times[-1] == pytest.approx(25.0)


def test_equal_seeds_give_equal_prompts_and_others_give_others() -> None:
    first, again, other = (draw_arrivals(PROMPTS, num=4, rate=1.0, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_lengths_stay_in_their_range_and_the_prefix_is_shared() -> None:
    prompts = RandomPrompts(input_len=20, output_len=10, range_ratio=0.5, prefix_len=7, vocab_size=50)
    arrivals = draw_arrivals(prompts, num=200, rate=math.inf)
    ids = [arrival.prompt for arrival in arrivals]
    assert all(isinstance(prompt, list) and 17 <= len(prompt) <= 37 and max(prompt) < 50 for prompt in ids)
    assert len({tuple(prompt[:7]) for prompt in ids}) == 1
    assert {arrival.output_len for arrival in arrivals} <= set(range(5, 16))


def test_text_prompts_have_one_word_for_each_token_asked() -> None:
    (arrival,) = draw_arrivals(PROMPTS, num=1, rate=math.inf, as_text=True)
    assert isinstance(arrival.prompt, str)
    assert len(arrival.prompt.split()) == 20


@pytest.mark.parametrize(
    ("num", "rate", "burstiness"), [(0, 1.0, 1.0), (1, 0.0, 1.0), (1, math.nan, 1.0), (1, 1.0, 0.0)]
)
def test_numbers_out_of_bounds_are_refused(num: int, rate: float, burstiness: float) -> None:
    with pytest.raises(ConfigError, match="above 0"):
        draw_arrivals(PROMPTS, num=num, rate=rate, burstiness=burstiness)
