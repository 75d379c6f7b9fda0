"""Phi-3, Phi-3.5 and Phi-4, dense.

Door: Model, tiny_config.
"""

from __future__ import annotations

from quire.config.card import Card
from quire.layers.attention import Attention
from quire.layers.decoder import CausalModel, PreNormLayer
from quire.layers.fields import fields_of, positive
from quire.layers.mlp import GatedMLP
from quire.layers.norm import RMSNorm
from quire.layers.rotary import read_rope


class Model(CausalModel):
    """Llama's decoder; the checkpoint stores q, k and v as one tensor, and gate and up as another.

    Heads may turn in part only (``partial_rotary_factor``). Long contexts use longrope, whose long factors hold from
    the first token on when the served context exceeds the original one.
    """

    def __init__(self, card: Card) -> None:
        fields = fields_of(card)
        size, eps = card.hidden_size, positive(fields, "rms_norm_eps", 1e-5)
        activation = fields.text("hidden_act", "silu")
        layers = [
            PreNormLayer(
                Attention(card, layer, fused=True),
                GatedMLP(size, card.intermediate_size, activation, fused=True),
                size=size,
                eps=eps,
            )
            for layer in range(card.num_layers)
        ]
        super().__init__(card, layers, RMSNorm(size, eps), [read_rope(card).build()])


def tiny_config() -> dict[str, object]:
    """A configuration small enough to run in milliseconds."""
    return {
        "model_type": "phi3",
        "architectures": ["Phi3ForCausalLM"],
        "vocab_size": 300,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "tie_word_embeddings": False,
    }
