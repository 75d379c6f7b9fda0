"""The card: facts of a checkpoint, read from its files without loading a tensor or running any of its code.

Not here: what is made of them (resolve.py), tensors (worker/checkpoint.py).
Door: Card, read_card.
"""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct, field

from quire import plugins
from quire.config.context_length import read_max_model_len, with_both_spellings
from quire.config.decided import DType, GenerationDefaults
from quire.config.families import family_default
from quire.config.generation import read_generation
from quire.config.json_fields import Fields, read_json
from quire.config.layer_windows import read_windows
from quire.config.safetensors_header import DTYPE_BYTES, TensorFact, read_header, shards
from quire.errors import CheckpointError, UnsupportedModel

_STORED: dict[str, DType] = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
_WRITTEN: dict[str, DType] = {
    "bfloat16": "bfloat16",
    "float16": "float16",
    "half": "float16",
    "float32": "float32",
    "float": "float32",
}


class Card(Struct, frozen=True):
    """Facts of one checkpoint. Every number has been checked against its bounds.

    ``config`` is config.json with the text model's part on top, rotary settings in both spellings. ``layer_windows``:
    for each layer how many tokens, itself included, a token attends to; None: all. Without weight files ``num_tensors``
    and ``weight_bytes`` are 0 and ``num_parameters`` is reckoned.
    """

    path: str
    model_type: str
    architecture: str
    config: dict[str, object]
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    intermediate_size: int
    max_model_len: int
    ties_embeddings: bool
    dtype: DType
    layer_windows: tuple[int | None, ...]
    eos_token_ids: tuple[int, ...] = ()
    bos_token_id: int | None = None
    generation: GenerationDefaults = field(default_factory=GenerationDefaults)
    num_tensors: int = 0
    weight_bytes: int = 0
    num_parameters: int = 0

    @property
    def has_weights(self) -> bool:
        """Whether the folder has weight files."""
        return self.num_tensors > 0


def read_card(path: Path) -> Card:
    """The card of the checkpoint in a folder.

    Raises: CheckpointError for a missing or damaged file, naming file and field; UnsupportedModel for a model that
    Quire does not serve.
    """
    file = path / "config.json"
    if not file.is_file():
        raise CheckpointError(f"{path}: has no config.json, so it is no checkpoint that Quire can read.")
    written = read_json(file)
    model_type, merged = _text_part(file, written)
    fields = Fields(file, with_both_spellings(merged, model_type))
    _refuse_unsupported(fields, model_type)
    sizes = _sizes(fields, model_type)
    tensors = _read_tensors(path)
    generation = read_generation(path, sizes["vocab_size"])
    ties = fields.truth("tie_word_embeddings", bool(family_default(model_type, "tie_word_embeddings")))
    architectures = fields.texts("architectures")
    bos = None if fields.values.get("bos_token_id") == -1 else fields.ids("bos_token_id", sizes["vocab_size"])
    return Card(
        path=str(path),
        model_type=model_type,
        architecture=architectures[0] if architectures else "",
        config=dict(fields.values),
        max_model_len=read_max_model_len(
            fields, model_type, family_default(model_type, "max_position_embeddings"), _tokenizer_limit(path)
        ),
        ties_embeddings=ties,
        dtype=_stored_dtype(fields, tensors),
        layer_windows=read_windows(fields, model_type, sizes["num_layers"]),
        eos_token_ids=tuple(dict.fromkeys(fields.ids("eos_token_id", sizes["vocab_size"]) + generation.eos_token_ids)),
        bos_token_id=bos[0] if bos else None,
        generation=generation.defaults,
        num_tensors=len(tensors),
        weight_bytes=sum(fact.end - fact.start for fact in tensors.values()),
        num_parameters=_num_parameters(tensors, ties) or dense_parameters(sizes, ties),
        **sizes,
    )


def dense_parameters(sizes: dict[str, int], ties_embeddings: bool) -> int:
    """Parameters of a dense decoder of these sizes: embeddings, attention, gated MLP and norms."""
    hidden = sizes["hidden_size"]
    attention = hidden * sizes["head_size"] * (2 * sizes["num_heads"] + 2 * sizes["num_kv_heads"])
    layer = attention + 3 * hidden * sizes["intermediate_size"] + 4 * hidden
    embeddings = sizes["vocab_size"] * hidden * (1 if ties_embeddings else 2)
    return embeddings + sizes["num_layers"] * layer + hidden


def _text_part(file: Path, written: dict[str, object]) -> tuple[str, dict[str, object]]:
    fields = Fields(file, written)
    outer = fields.text("model_type")
    text = fields.inner("text_config")
    merged = {key: value for key, value in written.items() if key != "text_config"}
    if text is None:
        return outer, merged
    merged |= text.values
    shelf = plugins.names("models")
    return (outer if outer in shelf else text.text("model_type", outer)), merged


def _refuse_unsupported(fields: Fields, model_type: str) -> None:
    shelf = plugins.names("models")
    if not model_type:
        raise CheckpointError(f"{fields.file}: model_type is missing; it says which family the checkpoint is of.")
    if model_type not in shelf:
        code = " Code that comes with a checkpoint (auto_map) is never run." if fields.has("auto_map") else ""
        raise UnsupportedModel(
            f"{fields.file}: models of type {model_type[:80]!r} are not served; these are: "
            f"{', '.join(shelf) or 'none'}.{code}"
        )
    for name in ("quantization_config", "compression_config"):
        quantized = fields.inner(name)
        if quantized is not None:
            method = quantized.text("quant_method", "unnamed")
            raise UnsupportedModel(
                f"{fields.file}: the checkpoint is quantized ({method[:40]}), which is not served yet; use the "
                "unquantized one."
            )
    if fields.truth("is_encoder_decoder", False):
        raise UnsupportedModel(f"{fields.file}: encoder-decoder models are not served.")


def _sizes(fields: Fields, model_type: str) -> dict[str, int]:
    def whole(name: str, low: int, high: int) -> int:
        return fields.whole(name, low, high, family_default(model_type, name))

    hidden_size = whole("hidden_size", 1, 2**20)
    num_heads = whole("num_attention_heads", 1, 4096)
    num_kv_heads = fields.whole(
        "num_key_value_heads", 1, 4096, family_default(model_type, "num_key_value_heads") or num_heads
    )
    if num_heads % num_kv_heads:
        raise fields.refuse("num_key_value_heads", f"a divisor of num_attention_heads = {num_heads}")
    if not fields.has("head_dim") and family_default(model_type, "head_dim") is None and hidden_size % num_heads:
        raise fields.refuse(
            "hidden_size", f"a multiple of num_attention_heads = {num_heads}, since there is no head_dim"
        )
    return {
        "vocab_size": whole("vocab_size", 1, 2**24),
        "hidden_size": hidden_size,
        "num_layers": whole("num_hidden_layers", 1, 1024),
        "num_heads": num_heads,
        "num_kv_heads": num_kv_heads,
        "head_size": fields.whole(
            "head_dim", 1, 4096, family_default(model_type, "head_dim") or hidden_size // num_heads
        ),
        "intermediate_size": whole("intermediate_size", 1, 2**24),
    }


def _read_tensors(path: Path) -> dict[str, TensorFact]:
    tensors: dict[str, TensorFact] = {}
    for shard in shards(path):
        for name, fact in read_header(shard).items():
            if name in tensors:
                raise CheckpointError(f"{shard}: tensor {name!r} is in another file of the checkpoint too.")
            tensors[name] = fact
    return tensors


def _num_parameters(tensors: dict[str, TensorFact], ties_embeddings: bool) -> int:
    return sum(
        fact.num_elements for name, fact in tensors.items() if not (ties_embeddings and name == "lm_head.weight")
    )


def _stored_dtype(fields: Fields, tensors: dict[str, TensorFact]) -> DType:
    """The dtype of most of the stored bytes; without weights, what config.json says."""
    counted: dict[str, int] = {}
    for fact in tensors.values():
        counted[fact.dtype] = counted.get(fact.dtype, 0) + fact.num_elements * DTYPE_BYTES[fact.dtype]
    if counted:
        most = max(counted, key=lambda name: counted[name])
        if most not in _STORED:
            raise UnsupportedModel(
                f"{fields.file.parent}: its weights are stored as {most}, which is not served; these are: "
                f"{', '.join(_STORED)}."
            )
        return _STORED[most]
    written = fields.text("dtype", fields.text("torch_dtype", "float32")).removeprefix("torch.")
    if written not in _WRITTEN:
        raise fields.refuse("dtype" if fields.has("dtype") else "torch_dtype", f"one of {', '.join(sorted(_WRITTEN))}")
    return _WRITTEN[written]


def _tokenizer_limit(path: Path) -> object:
    file = path / "tokenizer_config.json"
    return read_json(file).get("model_max_length") if file.is_file() else None
