"""Which models, and in which form they compute: what decides which tokens are the right ones.

Not here: what must not change an answer (conditions.py).
Door: Model, MODELS, Form, forms.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from quire import plugins
from tests.contract import checkpoints
from tests.contract.checkpoints import Variant
from tests.same.asks import MAX_LENGTH, ROOM

CONTEXT = 2048
assert CONTEXT >= MAX_LENGTH + ROOM


@dataclass(frozen=True)
class Model:
    """The bundled model (no variant), or a tiny random one."""

    name: str
    variant: Variant | None = None

    def made(self, folder: Path) -> str:
        """What to call it for an engine; a tiny one is written to the folder."""
        if self.variant is None:
            return self.name
        config = plugins.load("models", self.variant.family).tiny_config()
        checkpoints.make(self.variant, {**config, "max_position_embeddings": CONTEXT}, folder)
        return str(folder)


_WIDE: dict[str, object] = {
    "vocab_size": 1009,
    "hidden_size": 384,
    "intermediate_size": 1024,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "attention_bias": True,
}
"""Large enough that products are shared out among threads and that weights have several groups."""
_MANY_TOKENS: dict[str, object] = {"vocab_size": 70_001, "num_hidden_layers": 1}
"""Large enough that a row of logits does not fit into one piece of anything."""

MODELS = (
    Model("folio"),
    *(Model(family, Variant(family)) for family in plugins.names("models")),
    Model("llama-wide", Variant("llama", "wide", _WIDE)),
    Model("llama-many-tokens", Variant("llama", "many-tokens", _MANY_TOKENS)),
)


@dataclass(frozen=True)
class Form:
    """Options of LLM that may change tokens, and the instruction set ("": the processor's best)."""

    name: str
    options: dict[str, object] = field(default_factory=dict)
    isa: str = ""

    @property
    def is_default(self) -> bool:
        return self.name == "bfloat16"


def forms() -> tuple[Form, ...]:
    """Types, quantized weights as the shelf has them, quantized KV, instruction sets."""
    weights = plugins.names("quant")
    return (
        Form("bfloat16", {"dtype": "bfloat16"}),
        Form("float32", {"dtype": "float32"}),
        Form("float16", {"dtype": "float16"}),
        *(Form(name, {"quantization": name}) for name in weights),
        *(Form(f"kv {name}", {"kv_cache_dtype": name}) for name in ("fp8", "int8")),
        Form("int4, kv fp8", {"quantization": "int4", "kv_cache_dtype": "fp8"}),
        *(Form(isa, {"dtype": "bfloat16"}, isa) for isa in ("portable", "avx2", "avx512")),
    )

