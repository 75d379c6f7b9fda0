"""The number of threads follows what is faster."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from quire.worker.pace import PERIOD, SHORT_S, TRIES, Pace


def run(pace: Pace, seconds: Callable[[int], float], times: int) -> list[int]:
    """The numbers of threads of so many runs."""
    used = []
    for _ in range(times):
        used.append(pace.num_threads)
        pace.took(seconds(used[-1]))
    return used


@pytest.mark.parametrize(("alone_s", "together_s", "best"), [(0.0004, 0.001, 1), (0.0015, 0.001, 2)])
def test_both_are_tried_and_the_faster_is_kept(alone_s: float, together_s: float, best: int) -> None:
    used = run(Pace(2), lambda num: alone_s if num == 1 else together_s, 2 * TRIES + PERIOD)
    assert used[: 2 * TRIES] == [2] * TRIES + [1] * TRIES
    assert set(used[2 * TRIES :]) == {best}


def test_a_long_program_never_runs_alone() -> None:
    assert set(run(Pace(8), lambda num: 2 * SHORT_S / num * 8, 3000)) == {8}


def test_what_was_faster_once_is_asked_again() -> None:
    pace = Pace(2)
    run(pace, lambda num: 0.001 / num, 2 * TRIES + 2 * PERIOD)
    used = run(pace, lambda num: 0.001 * num, 2 * TRIES + PERIOD)
    assert set(used[2 * TRIES :]) == {1}


def test_what_stays_the_faster_is_asked_ever_more_seldom() -> None:
    used = run(Pace(2), lambda num: 0.0015 / num, 20 * PERIOD)
    assert used.count(1) <= 4 * TRIES


def test_one_thread_that_is_much_slower_is_tried_once() -> None:
    used = run(Pace(64), lambda num: 0.003 if num == 64 else 0.1, PERIOD)
    assert used.count(1) == 1


def test_one_slow_run_decides_nothing() -> None:
    pace = Pace(2)
    times = iter([0.001, 0.5, 0.001, 0.001, 0.001] + [0.0015] * 5)
    used = run(pace, lambda num: next(times, 0.001), 2 * TRIES + 10)
    assert set(used[2 * TRIES :]) == {2}


def test_where_there_is_one_thread_there_is_nothing_to_try() -> None:
    assert set(run(Pace(1), lambda num: 0.001, 100)) == {1}
