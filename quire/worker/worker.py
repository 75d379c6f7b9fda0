"""A worker: a model on one device, its KV and its runner.

Not here: how these are made (main.py), a step (runner.py).
Door: Worker.
"""

from __future__ import annotations

import torch

from quire.core.events import Ready
from quire.core.step import StepPlan, StepResult
from quire.worker.runner import Runner


class Worker:
    """Runs steps until it is closed. Not safe for use from several threads at once."""

    def __init__(self, runner: Runner, report: Ready) -> None:
        self._runner: Runner | None = runner
        self.report = report

    def run(self, plan: StepPlan) -> StepResult:
        """Compute one step.

        May raise anything; the same step number may then be run again with any of the plan's chunks (see Runner.run).
        """
        if self._runner is None:
            raise RuntimeError("The worker is closed.")
        with torch.inference_mode():
            return self._runner.run(plan)

    def close(self) -> None:
        """Let go of weights and KV. May be called twice."""
        self._runner = None
