"""What the sampler is asked in one step: which tokens' hidden states are wanted, and what for.

Not here: who asks (worker/inputs.py), what a stage keeps of a row between steps (stage.py).
Door: Want, Draw, PromptSpan.
"""

# Shapes: T tokens of the step, L known tokens of one row, P prompt tokens of one chunk. ``_host`` arrays are numpy.

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from quire.core.ids import Row
from quire.core.request import Sampling


class Draw(Struct, gc=False):
    """One row whose next token is drawn in this step.

    ``row_host``: the row's line of the row table, of which the first ``num_known`` ids mean something. ``error``: why
    this row fails alone; empty while nothing is wrong. The first reason stays.
    """

    row: Row
    sampling: Sampling
    sample_index: int
    row_host: npt.NDArray[np.int32]
    num_known: int
    num_prompt_tokens: int
    error: str = ""

    @property
    def token_ids_host(self) -> npt.NDArray[np.int32]:
        """All L known ids, prompt first; a view of the row table that is valid for this step only."""
        return self.row_host[: self.num_known]

    def fail(self, error: str) -> None:
        """Let this row fail, unless it already has a reason to."""
        self.error = self.error or error


class PromptSpan(Struct, frozen=True, gc=False):
    """Prompt tokens whose logprobs are wanted: ``target_ids_host[i]`` follows the token whose hidden
    states are the step's ``start + i``-th."""

    start: int
    target_ids_host: npt.NDArray[np.int64]
    sampling: Sampling


class Want(Struct, frozen=True, gc=False):
    """What one chunk of the plan wants: a draw behind its ``last`` token (an index into the step's hidden states),
    logprobs of prompt tokens, or neither.
    """

    row: Row
    last: int
    draw: Draw | None = None
    prompt: PromptSpan | None = None
