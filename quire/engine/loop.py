"""The loop: ask the scheduler for a plan, have it computed, commit the result.

A step that raises is contained: its chunks are tried again in halves until the culprit alone fails, so that one request
can never end another.

Not here: who waits for whom (scheduler/), what computes (worker/), sockets (main.py).
Door: EngineLoop.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Protocol

from msgspec.structs import replace

from quire.core.events import Delta, EngineStats, StepEvents
from quire.core.ids import RequestId, Row
from quire.core.request import Request
from quire.core.step import RowResult, StepPlan, StepResult
from quire.engine.deadlines import Deadlines
from quire.engine.executor import Executor
from quire.engine.resident import resident_bytes
from quire.scheduler.scheduler import Scheduler

logger = logging.getLogger(__name__)

_MEMORY_EVERY_S = 1.0
"""How old the figure of resident memory may be: asking the kernel costs as much as planning a small step."""


class Pulse(Protocol):
    """Hears when a step begins and ends (a heartbeat.Heartbeat does)."""

    def begin_step(self, num_tokens: int) -> None: ...
    def end_step(self) -> None: ...


class NoPulse:
    """Nobody listens."""

    def begin_step(self, num_tokens: int) -> None: ...
    def end_step(self) -> None: ...


class EngineLoop:
    """Runs one step at a time; between two steps requests may be added and cancelled.

    Invariant: outside ``step`` nothing is in flight, and every delta was handed out exactly once.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        executor: Executor,
        pulse: Pulse | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self.scheduler = scheduler
        self._executor = executor
        self._pulse = pulse or NoPulse()
        self._untold: list[Delta] = []
        """Ends that no step made: refused and cancelled sequences, told with the next step."""
        self._deadlines = Deadlines()
        self._last_step_s = 0.0
        self._resident_bytes = 0
        self._measured_s = float("-inf")

    @property
    def has_work(self) -> bool:
        """Whether ``step`` would do or tell anything."""
        return bool(self._untold) or self.scheduler.has_unfinished

    @property
    def stats(self) -> EngineStats:
        """The engine as it is now."""
        now_s = self._clock()
        if now_s - self._measured_s >= _MEMORY_EVERY_S:
            self._resident_bytes, self._measured_s = resident_bytes(), now_s
        return replace(self.scheduler.stats, step_time_s=self._last_step_s, resident_bytes=self._resident_bytes)

    def add(self, request: Request) -> None:
        """Queue a validated request."""
        self._untold += self.scheduler.add(request)
        self._deadlines.add(request)

    def cancel(self, request_id: RequestId, index: int | None = None) -> None:
        """Stop a request, or one of its samples; the next step tells the client. Unknown ids are ignored."""
        self._untold += self.scheduler.cancel(request_id, index)

    def step(self) -> StepEvents:
        """Plan, compute and commit one step.

        Cost: one forward pass of at most ``max_num_batched_tokens`` tokens; nothing when there is nothing to do.
        What interrupts it (KeyboardInterrupt) ends the step's sequences with an error and goes on.
        """
        started_s = self._clock()
        for request_id in self._deadlines.passed(started_s):
            self._untold += self.scheduler.cancel(request_id, finish="timeout")
        deltas, self._untold = self._untold, []
        planned = self.scheduler.plan()
        plan = planned.plan
        self._pulse.begin_step(plan.num_tokens)
        try:
            result = StepResult(plan.step) if plan.is_empty else self._run_contained(plan)
        except BaseException:
            # An interrupt in the library: what was computed of the step is not known, and nothing may stay in flight.
            rows = tuple(RowResult(chunk.row, error="The step was interrupted.") for chunk in plan.chunks)
            self._untold = deltas + self.scheduler.commit(plan, StepResult(plan.step, rows))
            raise
        finally:
            self._pulse.end_step()
        deltas += self.scheduler.commit(plan, result)
        ended_s = self._clock()
        self._last_step_s = ended_s - started_s
        return StepEvents(
            deltas=tuple(deltas),
            scheduled=tuple(replace(event, at_s=started_s) for event in planned.scheduled),
            preempted=planned.preempted,
            stats=self.stats,
            at_s=ended_s,
        )

    def _run_contained(self, plan: StepPlan) -> StepResult:
        """The plan's result, whatever single rows do: a row that makes the worker raise has an error in its place."""
        try:
            return self._executor.run(plan)
        except Exception as error:
            if len(plan.chunks) <= 1:
                if not plan.chunks:
                    raise
                logger.exception("A step failed for row %d alone; only this sequence ends.", plan.chunks[0].row)
                return StepResult(plan.step, (_failed(plan.chunks[0].row, error),))
            logger.warning("A step of %d chunks failed (%r); trying its halves.", len(plan.chunks), error)
        middle = len(plan.chunks) // 2
        halves = (replace(plan, chunks=plan.chunks[:middle]), replace(plan, chunks=plan.chunks[middle:]))
        first, second = (self._run_contained(half) for half in halves)
        return StepResult(plan.step, first.rows + second.rows)


def _failed(row: Row, error: Exception) -> RowResult:
    return RowResult(row, error=f"The step failed for this sequence alone ({type(error).__name__}).")
