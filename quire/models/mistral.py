"""Mistral 7B and its successors that keep its dense text architecture.

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
    """Llama's decoder without biases; where the configuration has a sliding window, every layer attends to it."""

    def __init__(self, card: Card) -> None:
        fields = fields_of(card)
        size, eps = card.hidden_size, positive(fields, "rms_norm_eps", 1e-6)
        activation = fields.text("hidden_act", "silu")
        layers = [
            PreNormLayer(Attention(card, layer), GatedMLP(size, card.intermediate_size, activation), size=size, eps=eps)
            for layer in range(card.num_layers)
        ]
        super().__init__(card, layers, RMSNorm(size, eps), [read_rope(card).build()])


def tiny_config() -> dict[str, object]:
    """A configuration small enough to run in milliseconds."""
    return {
        "model_type": "mistral",
        "architectures": ["MistralForCausalLM"],
        "vocab_size": 300,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "sliding_window": 24,
        "tie_word_embeddings": False,
    }
