"""Forms of quantised weights: facts without tensors, for both stacks.

Not here: which names there are (quant/), how weights become codes (quant/), what multiplies them (ops/quantized.py).
Door: Form.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class Form(Struct, frozen=True):
    """How numbers of a weight ``[N, K]`` are written.

    ``group``: so many neighbours along K share a scale, the last ones perhaps fewer; None: all of a row.
    ``zero_points``: each group says which code means nought; else 8-bit codes are signed, and of 4-bit ones 8 means
    nought. ``int8_inputs``: what the weight is multiplied with is rounded to 8 bits too, row by row.
    """

    bits: Literal[8, 4]
    group: int | None = None
    zero_points: bool = False
    int8_inputs: bool = False

    def num_groups(self, depth: int) -> int:
        """Scales of one row of a weight with this depth."""
        return 1 if self.group is None else -(-depth // self.group)
