"""What the sampler is asked in one step: which tokens' hidden states are wanted, and what for.

Not here: who asks (worker/inputs.py), what a stage keeps of a row between steps (stage.py).
Door: Want, Draw, PromptSpan.
"""

# Shapes: T tokens of the step, L known tokens of one row, P prompt tokens of one chunk. ``_host`` arrays are numpy.

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quire.core.ids import Row
from quire.core.request import Sampling


@dataclass(slots=True)
class Draw:
    """One row whose next token is drawn in this step.

    ``token_ids_host``: all L known ids, prompt first; a view of the row table that is valid for this step only.
    ``error``: why this row fails alone; empty while nothing is wrong. The first reason stays.
    """

    row: Row
    sampling: Sampling
    sample_index: int
    token_ids_host: npt.NDArray[np.int32]
    num_prompt_tokens: int
    error: str = ""

    def fail(self, error: str) -> None:
        """Let this row fail, unless it already has a reason to."""
        self.error = self.error or error


@dataclass(frozen=True, slots=True)
class PromptSpan:
    """Prompt tokens whose logprobs are wanted: ``target_ids_host[i]`` follows the step's token ``start + i``."""

    start: int
    target_ids_host: npt.NDArray[np.int64]
    sampling: Sampling


@dataclass(frozen=True, slots=True)
class Want:
    """What one chunk of the plan wants: a draw behind its ``last`` token (an index into T), logprobs of prompt
    tokens, or neither.
    """

    row: Row
    last: int
    draw: Draw | None = None
    prompt: PromptSpan | None = None
