"""Who is let in, and from whose KV a sequence starts."""

from __future__ import annotations

from quire.core.events import Scheduled
from quire.core.ids import RequestId
from tests.unit.scheduler.driving import finish, request, scheduler, step


def test_blocks_promised_to_prompts_under_way_are_not_given_to_others() -> None:
    one = scheduler(budget=8, blocks=16)
    one.add(request("a", 40))
    one.add(request("b", 24))
    planned, _ = step(one)
    assert [event.request_id for event in planned.scheduled] == ["a"], "10 + 6 blocks leave none for the next tokens"
    assert not any(step(one)[0].preempted for _ in range(5))


def test_a_hit_that_somebody_holds_costs_no_block() -> None:
    one = scheduler(blocks=14)
    one.add(request("a", range(40), max_tokens=8))
    step(one)
    one.add(request("b", range(40), max_tokens=1))
    planned, _ = step(one)
    assert [(event.request_id, event.cached_tokens) for event in planned.scheduled] == [("b", 36)]


def test_who_came_later_does_not_overtake_one_who_does_not_fit() -> None:
    one = scheduler(blocks=12)
    one.add(request("a", 24, max_tokens=8))
    step(one)
    one.add(request("large", 40, max_tokens=1))
    one.add(request("small", 4, max_tokens=1))
    ends: list[str] = [delta.request_id for delta in finish(one) if delta.finish]
    assert ends.index("a") < ends.index("small") and ends.index("a") < ends.index("large")


def test_a_sibling_starts_from_a_hit_when_the_first_has_ended() -> None:
    one = scheduler(rows=1)
    one.add(request("a", range(20), n=2, max_tokens=2))
    starts = []
    while one.has_unfinished:
        starts += [(event.index, event.cached_tokens, event.is_first) for event in step(one)[0].scheduled]
    assert starts == [(0, 0, True), (1, 16, True)]


def test_a_sequence_that_comes_back_says_so() -> None:
    one = scheduler(rows=1, policy="priority")
    one.add(request("late", priority=1))
    step(one)
    one.add(request("urgent", max_tokens=1))
    events: list[Scheduled] = []
    while one.has_unfinished:
        events += step(one)[0].scheduled
    assert [(event.request_id, event.is_first) for event in events] == [("urgent", True), ("late", False)]
    assert one.cancel(RequestId("late")) == []
