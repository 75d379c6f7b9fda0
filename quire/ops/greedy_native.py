"""The most likely token of each row of logits by the CPU kernel: one pass, no copy.

Not here: what it computes (greedy.py), how (native/rows/).
Door: NativeGreedy.
"""

# Shapes: R rows, V vocabulary.

from __future__ import annotations

import torch
from torch import Tensor

from quire.ops.native import check_floats, native


class NativeGreedy:
    """``greedy`` of contiguous float32 logits."""

    def __init__(self) -> None:
        self._call = native().greedy

    def __call__(self, logits_RV: Tensor) -> list[int]:
        num_rows, vocab_size = logits_RV.shape
        check_floats(logits_RV, torch.float32, vocab_size)
        ids: list[int] = self._call(logits_RV.data_ptr(), num_rows, vocab_size, vocab_size)
        return ids
