"""Gemma 2.

Door: Model, tiny_config.
"""

from __future__ import annotations

from quire.config.card import Card
from quire.errors import UnsupportedModel
from quire.layers.attention import Attention
from quire.layers.decoder import CausalModel, SandwichLayer
from quire.layers.fields import cap, fields_of, positive
from quire.layers.mlp import GatedMLP
from quire.layers.norm import RMSNorm
from quire.layers.rotary import read_rope


class Model(CausalModel):
    """Norms on both sides of attention and MLP, capped scores and logits, scaled embeddings; every other layer
    attends to a window."""

    def __init__(self, card: Card) -> None:
        fields = fields_of(card)
        if fields.truth("use_bidirectional_attention", False):
            raise UnsupportedModel(f"{fields.file}: bidirectional attention is not served; it belongs to an encoder.")
        size, eps = card.hidden_size, positive(fields, "rms_norm_eps", 1e-6)
        activation = fields.text("hidden_activation", "gelu_pytorch_tanh")
        bias = fields.truth("attention_bias", False)
        layers = [
            SandwichLayer(
                Attention(
                    card,
                    layer,
                    qkv_bias=bias,
                    out_bias=bias,
                    scale=positive(fields, "query_pre_attn_scalar", 256.0) ** -0.5,
                    soft_cap=cap(fields, "attn_logit_softcapping", 50.0),
                ),
                GatedMLP(size, card.intermediate_size, activation),
                size=size,
                eps=eps,
            )
            for layer in range(card.num_layers)
        ]
        super().__init__(
            card,
            layers,
            RMSNorm(size, eps, plus_one=True),
            [read_rope(card).build()],
            embedding_scale=size**0.5,
            logit_cap=cap(fields, "final_logit_softcapping", 30.0),
        )


def tiny_config() -> dict[str, object]:
    """A configuration small enough to run in milliseconds."""
    return {
        "model_type": "gemma2",
        "architectures": ["Gemma2ForCausalLM"],
        "vocab_size": 300,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-6,
        "head_dim": 16,
        "rope_theta": 10000.0,
        "sliding_window": 24,
        "query_pre_attn_scalar": 24,
        "attn_logit_softcapping": 5.0,
        "final_logit_softcapping": 3.0,
        "hidden_activation": "gelu_pytorch_tanh",
        "tie_word_embeddings": True,
    }
