"""One step, in five calls.

The runner knows no feature: whatever is special about a row stands in the row table, in the sampler's columns or in the
model's layers.

Not here: every one of the five.
Door: Runner, Launcher.
"""

# Shapes: N wanted tokens of the step, M model size.

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from quire.core.step import StepPlan, StepResult
from quire.layers.batch import Batch
from quire.sampling.sampler import Sampler
from quire.worker.inputs import InputBuilder
from quire.worker.rows import RowTable


class Launcher(Protocol):
    """How the forward pass is started."""

    def forward(self, batch: Batch) -> Tensor:
        """Hidden states [N, M] of the tokens that are wanted."""
        ...


class Runner:
    """Runs plans. The row table and the sampler's columns live on; everything else is made anew each step."""

    def __init__(self, rows: RowTable, inputs: InputBuilder, launcher: Launcher, sampler: Sampler) -> None:
        self.rows = rows
        self._inputs = inputs
        self._launcher = launcher
        self._sampler = sampler

    def run(self, plan: StepPlan) -> StepResult:
        """Results in the order of the plan's chunks; none when it has no chunks.

        After anything raised here the same step number may be run again with any of the plan's chunks: what the plan
        does to the row table is done once (see RowTable), a chunk's KV is written again to the same slots, and no row
        that did not get a result has advanced.
        """
        self.rows.apply(plan)
        if not plan.chunks:
            return StepResult(plan.step)
        inputs = self._inputs.build(plan, self.rows)
        hidden_NM = self._launcher.forward(inputs.batch)
        results = self._sampler.sample(hidden_NM, inputs.wants)
        self.rows.advance(results)
        return StepResult(plan.step, results)
