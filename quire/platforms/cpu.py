"""Any CPU that torch runs on.

Door: DTYPES, KV_TYPES, ATTENTION_BACKENDS, linear_backends.
"""

from __future__ import annotations

from importlib.util import find_spec

from quire.config.decided import DType, KVType, LinearBackend

DTYPES: tuple[DType, ...] = ("bfloat16", "float32", "float16")
"""Types a model may compute in."""

KV_TYPES: tuple[KVType, ...] = ("fp8_e4m3", "int8_per_token_head")
"""Types in which every attention backend here keeps KV, beside the model's own."""

ATTENTION_BACKENDS: tuple[str, ...] = (
    ("cpu", "torch_sdpa") if find_spec("quire._native") is not None else ("torch_sdpa",)
)
"""Names on the shelf ``attention``, best first: Quire's kernels are missing where they could not be built."""


def linear_backends() -> tuple[LinearBackend, ...]:
    """What can multiply with weights here, best first: Quire's kernels are missing where they could not be built."""
    return ("native", "torch") if find_spec("quire._native") is not None else ("torch",)
