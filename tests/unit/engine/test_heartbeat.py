"""Signs of life between an engine and its front."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from quire.engine.heartbeat import CHECK_S, MAX_MISSED, MIN_STEP_S, PATIENCE, UNKNOWN_STEP_S, Heartbeat, Watch


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watch() -> Iterator[Watch]:
    watch = Watch()
    yield watch
    watch.close()


def looks_until_alarm(watch: Watch, heart: Heartbeat | None, most: int) -> int | None:
    """How many looks it takes until something is wrong, with a beat before each if there is a heart."""
    for number in range(1, most + 1):
        if heart is not None:
            heart.beat()
        if watch.look() is not None:
            return number
    return None


def test_an_idle_engine_that_beats_is_well(watch: Watch, clock: Clock) -> None:
    assert looks_until_alarm(watch, Heartbeat(watch.fd, clock), 10_000) is None


def test_an_engine_without_beats_is_found_within_five_seconds(watch: Watch, clock: Clock) -> None:
    heart = Heartbeat(watch.fd, clock)
    assert looks_until_alarm(watch, heart, 10) is None
    looks = looks_until_alarm(watch, None, 100)
    assert looks is not None and looks > MAX_MISSED and looks * CHECK_S < 5


def test_a_step_that_never_ends_is_found_within_five_seconds(watch: Watch, clock: Clock) -> None:
    heart = Heartbeat(watch.fd, clock)
    heart.begin_step(64)
    clock.now_s += 0.01
    heart.end_step()
    assert watch.look() is None
    heart.begin_step(64)
    looks = looks_until_alarm(watch, heart, 100)
    assert looks is not None and looks * CHECK_S <= MIN_STEP_S + CHECK_S


def test_a_large_step_may_take_as_long_as_its_tokens_did_before(watch: Watch, clock: Clock) -> None:
    heart = Heartbeat(watch.fd, clock)
    heart.begin_step(1)
    clock.now_s += 0.2
    heart.end_step()
    heart.begin_step(100)
    most = int(PATIENCE * 0.2 * 100 / CHECK_S)
    assert looks_until_alarm(watch, heart, most) is None
    assert looks_until_alarm(watch, heart, 3) is not None


def test_a_small_step_may_take_as_long_as_a_large_one_did(watch: Watch, clock: Clock) -> None:
    heart = Heartbeat(watch.fd, clock)
    heart.begin_step(2000)
    clock.now_s += 2.0
    heart.end_step()
    heart.begin_step(1)
    assert looks_until_alarm(watch, heart, int(PATIENCE * 2.0 / CHECK_S)) is None
    assert looks_until_alarm(watch, heart, 3) is not None


def test_the_first_step_of_a_large_model_has_its_time(watch: Watch, clock: Clock) -> None:
    heart = Heartbeat(watch.fd, clock)
    heart.begin_step(2048)
    assert looks_until_alarm(watch, heart, int(UNKNOWN_STEP_S / CHECK_S) - 1) is None


def test_steps_that_end_are_no_stuck_step(watch: Watch, clock: Clock) -> None:
    heart = Heartbeat(watch.fd, clock)
    for _ in range(1000):
        heart.begin_step(8)
        clock.now_s += 0.3
        heart.beat()
        assert watch.look() is None
        heart.end_step()
