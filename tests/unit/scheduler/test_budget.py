"""How a step's tokens are shared."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from quire.scheduler.budget import share


def test_all_that_is_wanted_is_given_when_there_is_enough() -> None:
    assert share([5, 90, 5], 100, 10, 100) == [5, 90, 5]
    assert share([], 100, 10, 100) == []


def test_a_long_prompt_leaves_short_ones_their_part() -> None:
    assert share([1000, 30, 20], 100, 10, 1000) == [50, 30, 20]


def test_short_prompts_come_before_other_long_ones_but_not_before_the_first() -> None:
    assert share([1000, 1000, 1000, 1000, 10], 100, 40, 1000) == [40, 40, 10, 0, 10]


def test_nobody_gets_more_than_the_cap_even_when_something_is_left() -> None:
    assert share([1000, 5], 100, 10, 30) == [30, 5]


@given(st.lists(st.integers(1, 500), max_size=30), st.integers(0, 300), st.integers(1, 40), st.integers(1, 300))
def test_shares_keep_every_bound_and_the_first_always_goes_on(
    wants: list[int], budget: int, smallest: int, largest: int
) -> None:
    grants = share(wants, budget, smallest, largest)
    assert sum(grants) <= budget
    assert all(0 <= grant <= min(want, largest) for grant, want in zip(grants, wants, strict=True))
    assert not wants or not budget or grants[0] > 0
    assert sum(grants) == min(budget, sum(min(want, largest) for want in wants)), "no token of the step is wasted"
