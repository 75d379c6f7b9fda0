"""Gemma 3: the text models, and the text part of those that see.

Pictures are not served; the tensors of the vision tower are left in the file.

Door: Model, tiny_config.
"""

from __future__ import annotations

from quire.config.card import Card
from quire.errors import UnsupportedModel
from quire.layers.attention import Attention
from quire.layers.decoder import CausalModel, SandwichLayer
from quire.layers.fields import fields_of, positive, positive_or_none
from quire.layers.mlp import GatedMLP
from quire.layers.norm import RMSNorm
from quire.layers.rotary import read_rope

_OF_VISION = ("vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector.")
_TEXT_PREFIXES = {
    "language_model.model.": "model.",
    "model.language_model.": "model.",
    "language_model.lm_head.": "lm_head.",
}


class Model(CausalModel):
    """Gemma 2's layers with norms on query and key heads instead of capped scores; layers with a window turn by
    frequencies of their own."""

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
                    head_norms=(
                        RMSNorm(card.head_size, eps, plus_one=True),
                        RMSNorm(card.head_size, eps, plus_one=True),
                    ),
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
            [read_rope(card, "full_attention").build(), read_rope(card, "sliding_attention").build()],
            rotary_of_layer=[int(window is not None) for window in card.layer_windows],
            embedding_scale=size**0.5,
            logit_cap=positive_or_none(fields, "final_logit_softcapping"),
        )

    def own_name(self, name: str) -> str | None:
        if name.startswith(_OF_VISION):
            return None
        for prefix, own in _TEXT_PREFIXES.items():
            if name.startswith(prefix):
                return super().own_name(own + name.removeprefix(prefix))
        return super().own_name(name)


def tiny_config() -> dict[str, object]:
    """A configuration small enough to run in milliseconds."""
    return {
        "model_type": "gemma3_text",
        "architectures": ["Gemma3ForCausalLM"],
        "vocab_size": 300,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-6,
        "head_dim": 16,
        "rope_theta": 1000000.0,
        "rope_local_base_freq": 10000.0,
        "sliding_window": 24,
        "sliding_window_pattern": 3,
        "query_pre_attn_scalar": 24,
        "hidden_activation": "gelu_pytorch_tanh",
        "tie_word_embeddings": True,
    }
