"""Any CPU that torch runs on.

Door: DTYPES, ATTENTION_BACKENDS.
"""

from __future__ import annotations

from quire.config.decided import DType

DTYPES: tuple[DType, ...] = ("bfloat16", "float32", "float16")
"""Types a model may compute in."""

ATTENTION_BACKENDS: tuple[str, ...] = ("torch_sdpa",)
"""Names on the shelf ``attention``, best first."""
