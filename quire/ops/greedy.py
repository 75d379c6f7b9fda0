"""The most likely token of each row of logits.

Not here: stages and chance (sampling/), the kernel for the CPU (greedy_native.py).
Door: Greedy, greedy.
"""

# Shapes: R rows, V vocabulary.

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Greedy = Callable[[Tensor], list[int]]
"""``greedy``, however it is computed."""


def greedy(logits_RV: Tensor) -> list[int]:
    """The lowest id of each row's largest logit; -1 for a row that holds NaN or infinity.

    Two reductions are much cheaper than looking at every number's class.
    """
    is_finite_R = torch.isfinite(logits_RV.amin(dim=1)) & torch.isfinite(logits_RV.amax(dim=1))
    ids: list[int] = torch.where(is_finite_R, logits_RV.argmax(dim=1), -1).tolist()
    return ids
