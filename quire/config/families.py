"""What a family's configuration means where config.json is silent: facts of the published configurations.

Not here: how a family computes (models/).
Door: family_default.
"""

from __future__ import annotations

_SILENT: dict[str, dict[str, int | bool]] = {
    "llama": {"max_position_embeddings": 2048},
    "mistral": {"num_key_value_heads": 8, "max_position_embeddings": 131072, "sliding_window": 4096},
    "qwen2": {"sliding_window": 4096, "max_window_layers": 28, "max_position_embeddings": 32768, "vocab_size": 151936},
    "qwen3": {
        "sliding_window": 4096,
        "max_window_layers": 28,
        "max_position_embeddings": 32768,
        "vocab_size": 151936,
        "head_dim": 128,
    },
    "gemma": {"head_dim": 256, "tie_word_embeddings": True, "max_position_embeddings": 8192, "vocab_size": 256000},
    "gemma2": {
        "head_dim": 256,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "tie_word_embeddings": True,
        "max_position_embeddings": 8192,
        "sliding_window": 4096,
        "vocab_size": 256000,
    },
    "gemma3_text": {
        "head_dim": 256,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "tie_word_embeddings": True,
        "max_position_embeddings": 131072,
        "sliding_window": 4096,
        "sliding_window_pattern": 6,
        "vocab_size": 262208,
    },
}


def family_default(model_type: str, field: str) -> int | bool | None:
    """The value of a field that config.json leaves out; None where the family has no such default."""
    return _SILENT.get(model_type, {}).get(field)
