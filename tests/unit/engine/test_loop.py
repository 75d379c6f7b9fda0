"""The loop against a worker whose next token is a function of the row's history."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from quire.config.decided import KVConfig, KVGroup, KVLayout, SchedulerConfig
from quire.core.events import Delta, Ready
from quire.core.ids import RequestId, Row
from quire.core.request import Request, Sampling, Stopping
from quire.core.step import RowResult, StepPlan, StepResult
from quire.engine.loop import EngineLoop
from quire.scheduler.scheduler import Scheduler

POISON = 666
LAYOUT = KVLayout(4, (KVGroup(None, (0,)),), 1, 1024)


def next_token(history: list[int]) -> int:
    return (sum(history) * 31 + len(history)) % 97


class FakeExecutor:
    """Keeps the rows' tokens; raises for every step in which a poisoned row takes part."""

    def __init__(self) -> None:
        self.rows: dict[Row, list[int]] = {}
        self.applied = -1
        self.num_calls = 0

    def start(self) -> Ready:
        return Ready(0, 0, 0, 0.0)

    def stop(self) -> None:
        self.rows.clear()

    def run(self, plan: StepPlan) -> StepResult:
        self.num_calls += 1
        if plan.step != self.applied:
            self.applied = plan.step
            for row in plan.removed:
                del self.rows[row]
            for new in plan.added:
                self.rows[new.row] = list(new.token_ids)
        if any(POISON in self.rows[chunk.row] for chunk in plan.chunks):
            raise FloatingPointError("poisoned")
        results = []
        for chunk in plan.chunks:
            tokens: tuple[int, ...] = ()
            if chunk.samples:
                history = self.rows[chunk.row]
                history.append(next_token(history))
                tokens = (history[-1],)
            results.append(RowResult(chunk.row, tokens))
        return StepResult(plan.step, tuple(results))


def make_loop(num_blocks: int = 64) -> tuple[EngineLoop, FakeExecutor]:
    executor = FakeExecutor()
    return EngineLoop(Scheduler(SchedulerConfig(8, 64, 128), KVConfig(LAYOUT, num_blocks)), executor), executor


def request(name: str, *prompt_ids: int, max_tokens: int = 5, n: int = 1) -> Request:
    return Request(RequestId(name), prompt_ids, Sampling(seed=0), Stopping(max_tokens), n=n)


def expected(*prompt_ids: int, max_tokens: int = 5) -> list[int]:
    history = list(prompt_ids)
    for _ in range(max_tokens):
        history.append(next_token(history))
    return history[len(prompt_ids) :]


def run(loop: EngineLoop) -> dict[tuple[str, int], list[Delta]]:
    deltas: dict[tuple[str, int], list[Delta]] = {}
    while loop.has_work:
        for delta in loop.step().deltas:
            deltas.setdefault((delta.request_id, delta.index), []).append(delta)
    return deltas


def tokens(deltas: list[Delta]) -> list[int]:
    return [token for delta in deltas for token in delta.token_ids]


def test_requests_run_to_their_end() -> None:
    loop, _ = make_loop()
    loop.add(request("a", 1, 2, 3))
    loop.add(request("b", 9, n=2))
    deltas = run(loop)
    assert tokens(deltas["a", 0]) == expected(1, 2, 3)
    assert tokens(deltas["b", 0]) == tokens(deltas["b", 1]) == expected(9)
    assert [delta.finish for delta in deltas["a", 0]] == [None] * 4 + ["length"]


@pytest.mark.parametrize("num_poisoned", [1, 2, 3])
def test_a_row_that_makes_the_step_raise_fails_alone(num_poisoned: int) -> None:
    loop, _ = make_loop()
    for k in range(5):
        loop.add(request(f"good{k}", k, k + 1))
    for k in range(num_poisoned):
        loop.add(request(f"bad{k}", POISON, k))
    deltas = run(loop)
    for k in range(5):
        assert tokens(deltas[f"good{k}", 0]) == expected(k, k + 1)
    for k in range(num_poisoned):
        [delta] = deltas[f"bad{k}", 0]
        assert delta.finish == "error" and delta.token_ids == () and "FloatingPointError" in delta.error


def test_after_a_failed_row_steps_are_whole_again() -> None:
    loop, executor = make_loop()
    loop.add(request("bad", POISON))
    loop.add(request("good", 1))
    loop.step()
    calls = executor.num_calls
    loop.step()
    assert executor.num_calls == calls + 1


def test_a_cancelled_request_is_told_once_and_gives_back_its_blocks() -> None:
    loop, _ = make_loop()
    loop.add(request("a", 1, 2, max_tokens=50, n=2))
    loop.step()
    loop.cancel(RequestId("a"))
    loop.cancel(RequestId("a"))
    loop.cancel(RequestId("unknown"))
    deltas = run(loop)
    assert [[d.finish for d in deltas["a", index]] for index in (0, 1)] == [["abort"], ["abort"]]
    assert loop.stats.num_blocks_held == 0 and loop.stats.num_running == 0
    loop.scheduler.check()


def test_an_interrupted_step_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, executor = make_loop()
    for name in ("a", "b"):
        loop.add(request(name, 1, 2, max_tokens=50))
    loop.step()
    with monkeypatch.context() as patch:
        patch.setattr(executor, "run", lambda plan: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            loop.step()
    assert loop.stats.num_blocks_held == 0
    assert [deltas[-1].finish for deltas in run(loop).values()] == ["error", "error"]
    loop.add(request("c", 5, 6))
    assert tokens(run(loop)["c", 0]) == expected(5, 6)
    loop.scheduler.check()


def test_stats_count_what_was_computed() -> None:
    loop, _ = make_loop()
    loop.add(request("a", *range(20), max_tokens=3))
    run(loop)
    stats = loop.stats
    assert (stats.prompt_tokens, stats.generation_tokens) == (20, 3)
    assert stats.resident_bytes > 0


def test_a_request_whose_time_was_up_in_the_queue_is_never_computed() -> None:
    loop, executor = make_loop()
    loop.add(replace(request("late", 1, 2, n=2), deadline_s=0.001))
    told = run(loop)
    assert [told["late", index][0].finish for index in range(2)] == ["timeout", "timeout"]
    assert executor.num_calls == 0


def test_a_request_whose_time_is_up_while_it_runs_ends_and_its_neighbour_goes_on() -> None:
    now_s = [10.0]
    executor = FakeExecutor()
    scheduler = Scheduler(SchedulerConfig(8, 64, 128), KVConfig(LAYOUT, 64))
    loop = EngineLoop(scheduler, executor, clock=lambda: now_s[0])
    loop.add(replace(request("brief", 1, 2, max_tokens=50), deadline_s=12.5))
    loop.add(request("a", 1, 2))
    told: dict[str, list[Delta]] = {"brief": [], "a": []}
    while loop.has_work:
        for delta in loop.step().deltas:
            told[delta.request_id].append(delta)
        now_s[0] += 1.0
    assert [len(delta.token_ids) for delta in told["brief"]] == [1, 1, 1, 0]
    assert told["brief"][-1].finish == "timeout"
    assert tokens(told["a"]) == expected(1, 2)
    scheduler.check()
