"""The socket that every executor fits: how the engine reaches its workers.

Not here: the executors (executors/).
Door: Executor.
"""

from __future__ import annotations

from typing import Protocol

from quire.core.events import Ready
from quire.core.step import StepPlan, StepResult


class Executor(Protocol):
    """Owns the workers from ``start`` to ``stop``."""

    def start(self) -> Ready:
        """Load the model. Raises CheckpointError or ConfigError when it cannot be had."""

    def run(self, plan: StepPlan) -> StepResult:
        """Compute one step. May raise anything; running the same step number again, with fewer chunks, is safe
        afterwards.
        """

    def stop(self) -> None:
        """Give back the device. Nothing may be called afterwards."""
