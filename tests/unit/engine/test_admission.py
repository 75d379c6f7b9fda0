"""The bounded queue: what is let in, what is refused and when it shall come again."""

from __future__ import annotations

import pytest

from quire.core.events import Delta, EngineStats, Scheduled, StepEvents
from quire.core.ids import RequestId
from quire.core.request import Request, Sampling, Stopping
from quire.engine.admission import REASONS, Admission, QueueLimits, StepCost
from quire.errors import Overloaded


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Door:
    """An admission with a clock and a count of refusals."""

    def __init__(self, rows: int | None = None, tokens: int | None = None, wait_s: float | None = None) -> None:
        self.clock = Clock()
        self.refused: list[str] = []
        limits = QueueLimits(rows, tokens, wait_s, max_rows=4, max_batched_tokens=100)
        self.admission = Admission(limits, self.refused.append, clock=self.clock)
        self._number = 0

    def request(self, num_tokens: int = 10, n: int = 1) -> Request:
        self._number += 1
        return Request(RequestId(str(self._number)), (1,) * num_tokens, Sampling(0), Stopping(5), n=n)

    def enter(self, num_tokens: int = 10, n: int = 1) -> Request:
        """Ask, and come in."""
        request = self.request(num_tokens, n)
        self.admission.check([request])
        self.admission.enter(request)
        return request

    def step(self, *, scheduled: list[Request] = [], told: list[Request] = [], tokens: int = 0, s: float = 0) -> None:  # noqa: B006
        self.admission.observe(
            StepEvents(
                deltas=tuple(Delta(one.id, 0, (1,)) for one in told),
                scheduled=tuple(Scheduled(one.id, 0, 0, True) for one in scheduled),
                stats=EngineStats(step_tokens=tokens, step_time_s=s),
            )
        )


def test_everything_comes_in_where_nothing_is_bounded() -> None:
    door = Door()
    for _ in range(1000):
        door.enter()
    assert door.refused == []


def test_so_many_rows_may_be_waited_for_and_no_more() -> None:
    door = Door(rows=3)
    door.step(scheduled=[door.enter() for _ in range(4)])
    for _ in range(3):
        door.enter()
    with pytest.raises(Overloaded, match="3 sequences wait for a row already"):
        door.enter()
    assert door.refused == ["max_num_queued_reqs"]


def test_samples_count_and_those_who_left_do_not() -> None:
    door = Door(rows=0)
    request = door.enter(n=4)
    with pytest.raises(Overloaded):
        door.enter()
    door.admission.leave(request.id)
    door.enter(n=4)


def test_prompt_tokens_that_wait_are_bounded_until_the_first_token_comes() -> None:
    door = Door(tokens=25)
    first, _ = door.enter(), door.enter()
    with pytest.raises(Overloaded, match="20 prompt tokens wait already"):
        door.enter()
    door.step(scheduled=[first], told=[first])
    door.enter()


def test_a_prompt_longer_than_the_bound_comes_in_when_nobody_waits() -> None:
    Door(tokens=25).enter(num_tokens=1000)


def test_who_would_wait_too_long_is_told_when_to_come_again() -> None:
    door = Door(wait_s=5.0)
    for _ in range(50):
        door.step(tokens=100, s=1.0)
    for _ in range(5):
        door.enter(num_tokens=100)
    with pytest.raises(Overloaded) as refused:
        for _ in range(5):
            door.enter(num_tokens=100)
    assert door.refused == ["max_queue_wait"]
    assert refused.value.retry_after_s == 1
    assert refused.value.status == 503


def test_rows_that_are_given_back_slowly_make_the_wait_long() -> None:
    door = Door(wait_s=30.0)
    running = [door.enter() for _ in range(4)]
    door.step(scheduled=running, told=running)
    for request in running[:3]:
        waiting = door.enter()
        door.clock.now_s += 10.0
        door.admission.leave(request.id)
        door.step(scheduled=[waiting], told=[waiting])
    door.enter()
    door.enter()
    door.enter()
    with pytest.raises(Overloaded, match="about 40 s"):
        door.enter()


def test_a_long_prompt_alone_is_never_too_long_to_wait_for() -> None:
    door = Door(wait_s=1.0)
    door.step(tokens=100, s=10.0)
    door.enter(num_tokens=100_000)


def test_the_reasons_are_those_that_metrics_count() -> None:
    assert set(REASONS) == {"max_num_queued_reqs", "max_num_queued_tokens", "max_queue_wait"}


def test_the_cost_of_a_step_is_learned_as_a_line() -> None:
    cost = StepCost()
    assert cost.seconds(100) == 0.0
    for num_tokens in (1, 10, 64, 200, 512) * 20:
        cost.observe(num_tokens, 0.01 + 0.001 * num_tokens)
    assert cost.seconds(300) == pytest.approx(0.31)


def test_steps_of_one_size_say_nothing_of_the_slope_but_larger_ones_cost_more() -> None:
    cost = StepCost()
    for _ in range(10):
        cost.observe(8, 0.04)
    assert cost.seconds(8) == pytest.approx(0.04)
    assert cost.seconds(16) == pytest.approx(0.08)


def test_what_was_learned_long_ago_is_forgotten() -> None:
    cost = StepCost()
    for seconds in (1.0, 0.01):
        for num_tokens in (10, 100) * 300:
            cost.observe(num_tokens, seconds)
    assert cost.seconds(50) == pytest.approx(0.01, rel=0.1)
