"""The worker lives in the engine's own process: one device, no copy, no wait.

The device stack is imported by name when it is needed, so that nothing above the wall depends on it.
"""

from __future__ import annotations

import importlib
from typing import Protocol, cast

from quire.config.decided import WorkerConfig
from quire.core.events import Ready
from quire.core.step import StepPlan, StepResult


class _Worker(Protocol):
    @property
    def report(self) -> Ready: ...
    def run(self, plan: StepPlan) -> StepResult: ...
    def close(self) -> None: ...


class Executor:
    """One worker, called directly. Not safe for use from several threads: torch keeps a pool of threads for each
    caller.
    """

    def __init__(self, config: WorkerConfig) -> None:
        self._config = config
        self._worker: _Worker | None = None

    def start(self) -> Ready:
        """Import the device stack and load the model."""
        door = importlib.import_module("quire.worker.main")
        worker = cast(_Worker, door.open_worker(self._config))
        self._worker = worker
        return worker.report

    def run(self, plan: StepPlan) -> StepResult:
        """Compute one step in the caller's thread."""
        if self._worker is None:
            raise RuntimeError("The executor was not started.")
        return self._worker.run(plan)

    def stop(self) -> None:
        """Free weights and KV."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None
