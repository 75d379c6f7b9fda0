"""One line in the log every few seconds while the engine works; nothing while it is idle.

Not here: metrics for machines (metrics.py). Door: StatsLine.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Protocol

from quire.core.events import EngineStats
from quire.engine.metrics import Metrics

logger = logging.getLogger(__name__)


class HasStats(Protocol):
    """Whoever knows how the engine is doing; an EngineClient does."""

    @property
    def stats(self) -> EngineStats: ...


class StatsLine:
    """Compares the engine with how it was a while ago, and says what happened between."""

    def __init__(self, engine: HasStats, metrics: Metrics, interval_s: float) -> None:
        self._engine = engine
        self._metrics = metrics
        self._interval_s = interval_s
        self._before = engine.stats
        self._num_finished = metrics.num_finished
        self._latency_s = metrics.finished_latency_s

    async def run(self) -> None:
        """Write lines until cancelled."""
        last_s = time.monotonic()
        while True:
            await asyncio.sleep(self._interval_s)
            now_s = time.monotonic()
            if (line := self.line(now_s - last_s)) is not None:
                logger.info("%s", line)
            last_s = now_s

    def line(self, seconds: float) -> str | None:
        """What happened in the last ``seconds``; None when nothing did and nothing waits."""
        before, now = self._before, self._engine.stats
        self._before = now
        if now.step < before.step:
            before = EngineStats()
        is_idle = now.step == before.step and not (now.num_running or now.num_waiting)
        num_finished = self._metrics.num_finished - self._num_finished
        latency_s = self._metrics.finished_latency_s - self._latency_s
        self._num_finished, self._latency_s = self._metrics.num_finished, self._metrics.finished_latency_s
        if is_idle:
            return None
        queries = now.prefix_queries - before.prefix_queries
        parts = [
            f"{(now.prompt_tokens - before.prompt_tokens) / seconds:.1f} prompt tokens/s",
            f"{(now.generation_tokens - before.generation_tokens) / seconds:.1f} generated tokens/s",
            f"running {now.num_running}",
            f"waiting {now.num_waiting}",
            f"KV in use {100 * now.num_blocks_held / max(now.num_blocks, 1):.1f} %",
        ]
        if queries > 0:
            parts.append(f"prefix hits {100 * (now.prefix_hits - before.prefix_hits) / queries:.1f} %")
        if now.num_preemptions > before.num_preemptions:
            parts.append(f"preemptions {now.num_preemptions - before.num_preemptions}")
        if now.resident_bytes:
            parts.append(f"engine memory {now.resident_bytes / 2**30:.2f} GiB")
        if num_finished:
            parts.append(f"finished {num_finished}, mean latency {latency_s / num_finished:.2f} s")
        return ", ".join(parts)
