"""Whether one more request may come in: a queue that is bounded by requests, by tokens and by the time it will take.

A request that would wait too long is told so at once, with the time after which it is worth asking again; nothing that
was let in is turned away later. How long a step takes is learned from the steps themselves.

Not here: who of the waiting ones comes first (scheduler/), deadlines of those let in (deadlines.py).
Door: Admission, QueueLimits, StepCost, REASONS.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from quire.core.events import StepEvents
from quire.core.ids import RequestId
from quire.core.request import Request
from quire.errors import Overloaded

REASONS = ("max_num_queued_reqs", "max_num_queued_tokens", "max_queue_wait")
_MEMORY = 0.98
"""What an observation still weighs after the next one: the last fifty count."""
_LONGEST_RETRY_S = 60


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """None: not bounded. ``max_rows`` and ``max_batched_tokens`` are the scheduler's, for the prediction."""

    max_queued_rows: int | None
    """Samples that wait for a row."""
    max_queued_tokens: int | None
    """Prompt tokens of requests that have no token yet."""
    max_wait_s: float | None
    """Predicted time until a newcomer's first token."""
    max_rows: int
    max_batched_tokens: int


class StepCost:
    """Seconds of a step as a line over its tokens, least squares with forgetting."""

    __slots__ = ("_n", "_x", "_xx", "_xy", "_y")

    def __init__(self) -> None:
        self._n = self._x = self._y = self._xx = self._xy = 0.0

    def observe(self, num_tokens: int, seconds: float) -> None:
        """One step."""
        for name, value in (
            ("_n", 1.0),
            ("_x", num_tokens),
            ("_y", seconds),
            ("_xx", num_tokens * num_tokens),
            ("_xy", num_tokens * seconds),
        ):
            setattr(self, name, getattr(self, name) * _MEMORY + value)

    def seconds(self, num_tokens: int) -> float:
        """Of a step with so many tokens; 0.0 while nothing is known."""
        if self._n == 0.0:
            return 0.0
        mean_x, mean_y = self._x / self._n, self._y / self._n
        spread = self._xx / self._n - mean_x * mean_x
        if spread < 1.0:  # Steps of one size: they cost in proportion beyond it, and as much below.
            return mean_y * max(1.0, num_tokens / max(mean_x, 1.0))
        slope = max(0.0, (self._xy / self._n - mean_x * mean_y) / spread)
        return max(0.0, mean_y + slope * (num_tokens - mean_x))


@dataclass(slots=True)
class _Waiting:
    """A request that is in, with ``num_rows`` samples."""

    num_prompt_tokens: int
    num_rows: int
    has_row: bool = False
    has_token: bool = False


class Admission:
    """Invariant: ``_requests`` holds the requests between ``enter`` and ``leave``. All calls belong to one
    event loop.
    """

    def __init__(
        self,
        limits: QueueLimits,
        rejected: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``rejected`` is told the limit, one of REASONS, that a refused request met."""
        self.limits = limits
        self._rejected = rejected
        self._clock = clock
        self._cost = StepCost()
        self._requests: dict[RequestId, _Waiting] = {}
        self._num_waiting = 0
        self._num_running = 0
        """Both in rows."""
        self._num_backlog_tokens = 0
        self._gap_s = 0.0
        """For each row that is given back while others wait for one."""
        self._last_end_s = 0.0

    def check(self, requests: Sequence[Request]) -> None:
        """Raises: Overloaded with the time to wait, when these cannot be let in beside the others."""
        if not self._requests:
            return  # Whatever it costs, it waits for nobody.
        limits = self.limits
        num_new = sum(request.n for request in requests)
        num_waiting = self._num_waiting + num_new
        num_tokens = self._num_backlog_tokens + sum(len(request.prompt_ids) for request in requests)
        num_queued = self._num_running + num_waiting - limits.max_rows
        wait_s = self.predicted_wait_s(num_waiting, self._num_backlog_tokens)
        if limits.max_queued_rows is not None and num_queued > limits.max_queued_rows:
            said = f"{max(0, num_queued - num_new)} sequences wait for a row already"
            raise self._refusal("max_num_queued_reqs", said, wait_s)
        if limits.max_queued_tokens is not None and self._num_backlog_tokens and num_tokens > limits.max_queued_tokens:
            said = f"{self._num_backlog_tokens} prompt tokens wait already"
            raise self._refusal("max_num_queued_tokens", said, wait_s)
        if limits.max_wait_s is not None and wait_s > limits.max_wait_s:
            raise self._refusal("max_queue_wait", f"the wait would be about {wait_s:.0f} s", wait_s - limits.max_wait_s)

    def _refusal(self, reason: str, said: str, wait_s: float) -> Overloaded:
        self._rejected(reason)
        retry_s = min(_LONGEST_RETRY_S, max(1, math.ceil(wait_s)))
        return Overloaded(f"The server is overloaded: {said}. Try again in {retry_s} s.", retry_after_s=retry_s)

    def predicted_wait_s(self, num_waiting: int, num_backlog_tokens: int) -> float:
        """Until the last of so many waiting requests, with so many prompt tokens in all, has its first token."""
        limits = self.limits
        num_rows = min(limits.max_rows, self._num_running + num_waiting)
        budget = max(1, limits.max_batched_tokens - num_rows)
        if num_backlog_tokens <= budget:
            prefill_s = self._cost.seconds(num_backlog_tokens + num_rows)
        else:
            prefill_s = num_backlog_tokens / budget * self._cost.seconds(limits.max_batched_tokens)
        num_without_row = self._num_running + num_waiting - limits.max_rows
        return max(prefill_s, max(0, num_without_row) * self._gap_s)

    def enter(self, request: Request) -> None:
        """Count a request that was let in, until it leaves."""
        if self._num_waiting == 0:
            self._last_end_s = self._clock()
        self._requests[request.id] = _Waiting(len(request.prompt_ids), request.n)
        self._num_waiting += request.n
        self._num_backlog_tokens += len(request.prompt_ids)

    def leave(self, request_id: RequestId) -> None:
        """It has ended, one way or another."""
        request = self._requests.pop(request_id)
        if request.has_row:
            if self._num_waiting and self._num_running >= self.limits.max_rows:
                now_s = self._clock()
                gap_s = (now_s - self._last_end_s) / request.num_rows
                self._gap_s = gap_s if self._gap_s == 0.0 else 0.9 * self._gap_s + 0.1 * gap_s
                self._last_end_s = now_s
            self._num_running -= request.num_rows
        else:
            self._num_waiting -= request.num_rows
        if not request.has_token:
            self._num_backlog_tokens -= request.num_prompt_tokens

    def observe(self, events: StepEvents) -> None:
        """What one step told."""
        for scheduled in events.scheduled:
            request = self._requests.get(scheduled.request_id)
            if request is not None and not request.has_row:
                request.has_row = True
                self._num_waiting -= request.num_rows
                self._num_running += request.num_rows
        for delta in events.deltas if self._num_backlog_tokens else ():
            request = self._requests.get(delta.request_id)
            if request is not None and not request.has_token and delta.token_ids:
                request.has_token = True
                self._num_backlog_tokens -= request.num_prompt_tokens
        stats = events.stats
        if stats is not None and stats.step_tokens > 0:
            self._cost.observe(stats.step_tokens, stats.step_time_s)
