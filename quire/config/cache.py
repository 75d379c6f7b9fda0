"""Options of memory: how much KV there is and how it lies.

Not here: the arithmetic (fit.py), the layout (kv_layout.py).
Door: CacheOptions.
"""

from __future__ import annotations

from dataclasses import dataclass

from quire.config.option import option


@dataclass(frozen=True, kw_only=True)
class CacheOptions:
    """How much memory goes to KV."""

    block_size: int = option(16, "Tokens of one KV block.", unit="tokens", low=1, high=1024)
    gpu_memory_utilization: float | None = option(
        None,
        "Part of the free memory that may be used, on a CPU too. Default: 0.92, with at most 4 GiB of KV on a CPU.",
        kind="real",
        low=0.01,
        high=1.0,
        also=("device_memory_utilization",),
    )
    kv_cache_memory_bytes: int | None = option(
        None, "Exact size of the KV pool, 2G or 512M.", kind="count", unit="bytes", low=1, high=2**50
    )
    num_gpu_blocks_override: int | None = option(
        None, "Exact number of KV blocks, for tests.", kind="whole", unit="blocks", low=1, high=2**31 - 1
    )
    enable_prefix_caching: bool = option(True, "Keep KV of finished requests for prompts that begin alike.")
    kv_cache_dtype: str = option(
        "auto",
        "Type of the KV: auto is the model's own; fp8 and int8 take half of bfloat16's memory.",
        choices=(
            "auto", "float16", "bfloat16", "float32", "fp8", "fp8_e4m3", "int8", "int8_per_token_head", "fp8_e5m2",
            "fp8_inc", "fp8_ds_mla", "nvfp4", "int4_per_token_head", "fp8_per_token_head",
        ),
    )  # fmt: skip
