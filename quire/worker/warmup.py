"""One small prefill and one decode before the first request, so that it does not pay for what happens only once.

Not here: the runner's work (runner.py).
Door: warm_up.
"""

from __future__ import annotations

import logging

from quire.config.decided import WorkerConfig
from quire.core.ids import BlockId, Row
from quire.core.request import Sampling
from quire.core.step import Chunk, NewRow, StepPlan
from quire.worker.runner import Runner

_MAX_TOKENS = 16
_STEPS = (-3, -2, -1)
"""Numbers that no step of an engine has."""

logger = logging.getLogger(__name__)


def warm_up(runner: Runner, config: WorkerConfig) -> None:
    """Run a prefill and a decode of row 0 on the first blocks, then free the row; nothing if the pool is too small."""
    block_size, num_groups = config.layout.block_size, len(config.layout.groups)
    fits = (config.num_blocks // num_groups) * block_size
    num_tokens = min(_MAX_TOKENS, config.max_num_batched_tokens, config.max_model_len - 1, fits - 1)
    if num_tokens < 1:
        return
    held = -(-(num_tokens + 1) // block_size)
    blocks = tuple(tuple(BlockId(group * held + i) for i in range(held)) for group in range(num_groups))
    new = NewRow(Row(0), (0,) * num_tokens, num_tokens, Sampling(seed=0, top_p=0.9))
    prefill = Chunk(Row(0), 0, num_tokens, blocks, samples=True)
    decode = Chunk(Row(0), num_tokens, 1, ((),) * num_groups, samples=True)
    result = runner.run(StepPlan(_STEPS[0], added=(new,), chunks=(prefill,)))
    if result.rows[0].error:
        logger.warning("The model's first step failed: %s", result.rows[0].error)
    else:
        runner.run(StepPlan(_STEPS[1], chunks=(decode,)))
    runner.run(StepPlan(_STEPS[2], removed=(Row(0),)))
