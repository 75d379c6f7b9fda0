"""Quantised weights as facts without tensors, for both stacks: how numbers are written, and what that takes.

Not here: which names there are (quant/), how weights become codes (ops/rounding.py), what multiplies them
(ops/quantized.py).
Door: Form, Scheme.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

_PANEL, _QUAD = 32, 4


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

    def num_bytes(self, columns: int, depth: int) -> int:
        """Memory of a packed weight ``[columns, depth]``: the native kernels' panels of 32 columns in quads of depth
        (native/quantized/quantized.h). The reference, which pads less, takes no more."""
        panels, size = -(-columns // _PANEL), self.group or depth
        whole, rest = divmod(depth, size)
        quads = whole * -(-size // _QUAD) + -(-rest // _QUAD)
        return (
            panels * _PANEL * (quads * _QUAD * self.bits // 8 + self.num_groups(depth) * (5 if self.zero_points else 4))
        )


class Scheme(Struct, frozen=True):
    """A way to quantise a whole model: the form of its projections, and that of its head, which an embedding that is
    tied to it shares. Everything else stays in the model's own type.

    ``clippings``: of each group's range, the parts that are tried as what the codes reach over; the one whose squared
    error is least is taken.
    """

    projections: Form
    head: Form
    clippings: tuple[float, ...] = (1.0,)
