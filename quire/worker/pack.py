"""From weights as they were loaded to weights as they are multiplied: once, in place where that can be.

Not here: loading (load.py), how a kernel wants them (ops/gemm.py).
Door: pack_weights.
"""

from __future__ import annotations

from quire.layers.decoder import CausalModel
from quire.layers.linear import Linear
from quire.ops.gemm import Gemm


def pack_weights(model: CausalModel, gemm: Gemm) -> None:
    """Let ``gemm`` store every projection and the head. At most one weight is in memory twice at a time.

    An embedding that the head does not share stays as it is: only rows are read from it.
    Raises: ConfigError for a type or device that ``gemm`` does not take.
    """
    for module in model.modules():
        if isinstance(module, Linear):
            module.pack(gemm)
    model.lm_head.pack(gemm, tied=model.model.embed_tokens if model.is_tied else None)
