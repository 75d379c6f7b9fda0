"""Which series there are beside the gauges: names, help and buckets, as dashboards of this field know them.

Not here: their values (metrics.py).
Door: COUNTERS, histogram_families, cache_facts, token_buckets.
"""

from __future__ import annotations

from collections.abc import Sequence

from quire.config.decided import KVConfig

LATENCY_S = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680)
# fmt: off
FIRST_TOKEN_S = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
    1.0, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560,
)
BETWEEN_TOKENS_S = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75,
    1.0, 2.5, 5, 7.5, 10, 20, 40, 80,
)
# fmt: on
STEP_TOKENS = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
PARAMS_N = (1, 2, 5, 10, 20)
PREEMPTIONS = (1, 2, 3, 4, 5, 10, 20)

COUNTERS = (
    ("prefix_cache_queries", "Tokens looked up in the prefix cache."),
    ("prefix_cache_hits", "Tokens found in the prefix cache."),
    ("num_preemptions", "Preemptions."),
    ("prompt_tokens", "Prompt tokens, computed or found in the prefix cache."),
    ("prompt_tokens_cached", "Prompt tokens found in the prefix cache."),
    ("generation_tokens", "Tokens generated."),
)


def token_buckets(largest: int) -> tuple[int, ...]:
    """1, 2, 5, 10, 20, 50 ... up to ``largest``."""
    series = (digit * 10**power for power in range(len(str(largest))) for digit in (1, 2, 5))
    return tuple(value for value in series if value <= largest) or (1,)


def histogram_families(max_model_len: int) -> tuple[tuple[str, Sequence[float], str], ...]:
    """Name, buckets and help of each; lengths have buckets up to the context."""
    tokens = token_buckets(max_model_len)
    return (
        ("request_prompt_tokens", tokens, "Prompt tokens of a sequence."),
        ("request_generation_tokens", tokens, "Generated tokens of a sequence."),
        ("request_max_num_generation_tokens", tokens, "Generated tokens of a request's longest sample."),
        ("request_params_n", PARAMS_N, "Samples asked for."),
        ("request_params_max_tokens", tokens, "Most tokens asked for."),
        ("request_num_preemptions", PREEMPTIONS, "Preemptions of a sequence."),
        ("request_prefill_kv_computed_tokens", tokens, "Prompt tokens computed rather than found in the cache."),
        ("iteration_tokens_total", STEP_TOKENS, "Tokens computed in a step."),
        ("time_to_first_token_seconds", FIRST_TOKEN_S, "From arrival to the first token."),
        ("inter_token_latency_seconds", BETWEEN_TOKENS_S, "From one token to the next."),
        ("request_time_per_output_token_seconds", BETWEEN_TOKENS_S, "Mean time of a token after the first."),
        ("e2e_request_latency_seconds", LATENCY_S, "From arrival to the end."),
        ("request_queue_time_seconds", LATENCY_S, "From arrival to the first step."),
        ("request_inference_time_seconds", LATENCY_S, "From the first step to the last token."),
        ("request_prefill_time_seconds", LATENCY_S, "From the first step to the first token."),
        ("request_decode_time_seconds", LATENCY_S, "From the first token to the last."),
    )


def cache_facts(kv: KVConfig) -> dict[str, str]:
    """Labels of cache_config_info, under the names that dashboards look for."""
    return {
        "block_size": str(kv.layout.block_size),
        "num_gpu_blocks": str(kv.num_blocks),
        "enable_prefix_caching": str(kv.enable_prefix_caching),
        "num_kv_groups": str(len(kv.layout.groups)),
        "bytes_per_block": str(kv.layout.bytes_per_block),
    }
