"""Logprobs of the raw distribution by the CPU kernel, from the logits as they lie there.

Not here: what they are (logprobs.py), how (native/rows/).
Door: NativeLogprobs.
"""

# Shapes: R rows, V vocabulary.

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from quire.core.step import TokenLogprobs
from quire.ops.native import check_floats, native


class NativeLogprobs:
    """``logprobs_of_lines`` of contiguous float32 logits that are all finite."""

    def __init__(self) -> None:
        self._call = native().logprobs

    def __call__(
        self,
        logits_RV: Tensor,
        lines: Sequence[int],
        token_ids: Sequence[int],
        num_top: int,
        further_ids: Sequence[int],
    ) -> list[TokenLogprobs]:
        vocab_size = logits_RV.shape[1]
        check_floats(logits_RV, torch.float32, vocab_size)
        num_top = min(max(num_top, 0), vocab_size)
        address = logits_RV.data_ptr()
        rows = self._call(address, vocab_size, vocab_size, num_top, list(lines), list(token_ids), list(further_ids))
        return [TokenLogprobs(*row) for row in rows]
