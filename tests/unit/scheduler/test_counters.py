"""Counting."""

from __future__ import annotations

from quire.scheduler.counters import Counters


def test_only_tokens_of_the_prompt_count_as_prompt_tokens() -> None:
    counters = Counters()
    counters.computed(10, 6, 12)
    counters.computed(10, 12, 13)
    counters.looked_up(30, 16)
    assert (counters.prompt_tokens, counters.step_tokens) == (4, 7)
    assert (counters.prefix_queries, counters.prefix_hits) == (30, 16)
