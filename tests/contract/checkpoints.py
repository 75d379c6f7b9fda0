"""Tiny random checkpoints, made and judged by the reference implementation."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from quire.config.card import Card, read_card
from quire.config.decided import DType, KVLayout, LinearBackend, LoadFormat, WorkerConfig
from quire.layers.decoder import CausalModel
from quire.ops.op import bind_gemm, bind_rows
from quire.platforms.cpu import linear_backends
from quire.worker.load import load_model
from quire.worker.pack import pack_weights


@dataclass(frozen=True)
class Variant:
    """A family's tiny configuration with changes.

    ``keeps_own_config``: config.json is written as given here, and not as the reference spells it.
    ``nested``: the text model is written as a part of one that sees, as published checkpoints of Gemma 3 are.
    """

    family: str
    name: str = "plain"
    changes: dict[str, object] = field(default_factory=dict)
    keeps_own_config: bool = False
    nested: bool = False

    def __str__(self) -> str:
        return f"{self.family}-{self.name}"


def worker_config(
    path: Path,
    max_model_len: int,
    dtype: DType = "float32",
    load_format: LoadFormat = "safetensors",
    seed: int = 0,
    quantization: str | None = None,
    backend: LinearBackend = "torch",
) -> WorkerConfig:
    """A configuration for loading alone: it has no room for KV."""
    return WorkerConfig(
        model_path=str(path),
        device="cpu",
        dtype=dtype,
        load_format=load_format,
        layout=KVLayout(block_size=8, groups=(), layers_per_block=0, bytes_per_block=0),
        num_blocks=0,
        max_num_seqs=1,
        max_num_batched_tokens=1,
        max_model_len=max_model_len,
        linear_backend=backend,
        quantization=quantization,
        seed=seed,
    )


def load(
    path: Path, max_model_len: int, backend: LinearBackend | None = None, quantization: str | None = None
) -> tuple[Card, CausalModel]:
    """Card and model of a checkpoint, in float32, computed by the platform's best kernels unless others are named."""
    card = read_card(path)
    backend = backend or linear_backends()[0]
    model = load_model(card, worker_config(path, max_model_len, quantization=quantization, backend=backend))
    pack_weights(model, bind_gemm(backend))
    kernels = bind_rows(backend, torch.float32)
    if kernels is not None:
        model.bind(kernels)
    return card, model


def make(variant: Variant, config: dict[str, object], path: Path) -> Reference:
    """Write a checkpoint of random weights, large enough that logits are not flat."""
    given = {**config, **variant.changes}
    settings = {key: value for key, value in given.items() if key not in ("architectures", "model_type")}
    reference_config = transformers.AutoConfig.for_model(str(given["model_type"]), **json.loads(json.dumps(settings)))
    model = transformers.AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
        reference_config, attn_implementation="eager", dtype=torch.float32
    )
    chance = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_norm = "norm" in name
            noise = torch.randn(parameter.shape, generator=chance)
            if is_norm:
                parameter.add_(0.2 * noise)
            else:
                parameter.copy_((0.3 if parameter.ndim == 1 else 0.15) * noise)
    model.save_pretrained(path)
    if variant.keeps_own_config:
        (path / "config.json").write_text(json.dumps(given))
    if variant.nested:
        _nest(path, given)
    return Reference(model.eval())


def _nest(path: Path, given: dict[str, object]) -> None:
    file = path / "model.safetensors"
    tensors = {f"language_model.{name}": tensor for name, tensor in load_file(file).items()}
    save_file({**tensors, "vision_tower.vision_model.post_layernorm.weight": torch.ones(8)}, file)
    outer = {
        "model_type": "gemma3",
        "architectures": ["Gemma3ForConditionalGeneration"],
        "vision_config": {"hidden_size": 8},
    }
    (path / "config.json").write_text(json.dumps({**outer, "text_config": given}))


class Reference:
    """The reference implementation of one checkpoint."""

    def __init__(self, model: transformers.PreTrainedModel) -> None:
        self._model = model

    @torch.inference_mode()
    def logits(self, tokens: list[int]) -> Tensor:
        """Of every position, ``[tokens, V]``."""
        found: Tensor = self._model(torch.tensor([tokens]), use_cache=False).logits[0].float()
        return found
