"""Small checkpoints on disk for the tests of configuration: a config.json and, where wanted, real safetensors bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

LLAMA: dict[str, object] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "eos_token_id": 2,
    "bos_token_id": 1,
}


def write_checkpoint(folder: Path, files: Mapping[str, object] | None = None, /, **changes: object) -> Path:
    """A folder with a config.json: LLAMA with the changes (a change to ... removes the field) and other JSON files."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {key: value for key, value in (LLAMA | changes).items() if value is not ...}
    (folder / "config.json").write_text(json.dumps(config))
    for name, content in (files or {}).items():
        (folder / name).write_text(json.dumps(content))
    return folder


def write_tensors(path: Path, shapes: dict[str, tuple[int, ...]], dtype: str = "BF16", width: int = 2) -> Path:
    """A valid safetensors file of zeros."""
    header: dict[str, object] = {}
    position = 0
    for name, shape in shapes.items():
        size = width
        for one in shape:
            size *= one
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [position, position + size]}
        position += size
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(position))
    return path
