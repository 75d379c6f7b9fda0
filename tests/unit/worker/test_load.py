from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from quire.config.card import Card, read_card
from quire.config.decided import DType, KVLayout, LoadFormat, WorkerConfig
from quire.errors import CheckpointError, UnsupportedModel
from quire.layers.decoder import CausalModel
from quire.layers.norm import RMSNorm
from quire.layers.weights import destinations
from quire.models import gemma2, llama, phi3
from quire.worker.load import BarProgress, NoProgress, load_model, progress_for


def worker_config(
    path: Path,
    *,
    dtype: DType = "float32",
    load_format: LoadFormat = "safetensors",
    seed: int = 0,
    max_model_len: int = 64,
    shows_progress: bool = False,
) -> WorkerConfig:
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
        seed=seed,
        shows_progress=shows_progress,
    )


def card_of(path: Path, config: dict[str, object]) -> Card:
    (path / "config.json").write_text(json.dumps(config))
    return read_card(path)


@pytest.fixture
def stored(tmp_path: Path) -> dict[str, Tensor]:
    """A whole Llama checkpoint in ``tmp_path``; numbers that float32 and bfloat16 both hold exactly."""
    with torch.device("meta"):
        model = llama.Model(card_of(tmp_path, llama.tiny_config()))
    sizes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    tensors = {}
    for number, (name, rows) in enumerate(destinations(model).items()):
        shape = sizes[rows.parameter]
        tensors[name] = torch.full((rows.count or shape[0], *shape[1:]), float(number))
    save_file(tensors, tmp_path / "model.safetensors")
    return tensors


def load_again(path: Path, tensors: dict[str, Tensor], dtype: DType = "float32") -> CausalModel:
    save_file(tensors, path / "model.safetensors")
    card = card_of(path, llama.tiny_config())
    return load_model(card, worker_config(path, dtype=dtype))


def test_queries_keys_and_values_are_stacked_in_that_order(tmp_path: Path, stored: dict[str, Tensor]) -> None:
    model = load_again(tmp_path, stored)
    stacked = dict(model.named_parameters())["model.layers.2.self_attn.qkv_proj.weight"]
    parts = [stored[f"model.layers.2.self_attn.{part}_proj.weight"] for part in "qkv"]
    assert torch.equal(stacked, torch.cat(parts))


def test_gate_and_up_are_stacked_in_that_order(tmp_path: Path, stored: dict[str, Tensor]) -> None:
    model = load_again(tmp_path, stored)
    stacked = dict(model.named_parameters())["model.layers.0.mlp.gate_up_proj.weight"]
    parts = [stored[f"model.layers.0.mlp.{part}_proj.weight"] for part in ("gate", "up")]
    assert torch.equal(stacked, torch.cat(parts))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("stored_as", [torch.bfloat16, torch.float32, torch.float64])
def test_weights_are_converted_to_the_configured_type(
    tmp_path: Path, stored: dict[str, Tensor], dtype: DType, stored_as: torch.dtype
) -> None:
    name = "model.layers.1.mlp.down_proj.weight"
    changed = {**stored, name: stored[name].to(stored_as)}
    model = load_again(tmp_path, changed, dtype=dtype)
    parameter = dict(model.named_parameters())[name]
    assert {one.dtype for one in model.parameters()} == {getattr(torch, dtype)}
    assert torch.equal(parameter.float(), stored[name])
    assert not any(one.requires_grad for one in model.parameters()) and not model.training


def test_frequencies_stay_in_float32(tmp_path: Path, stored: dict[str, Tensor]) -> None:
    model = load_again(tmp_path, stored, dtype="bfloat16")
    assert [buffer.dtype for buffer in model.buffers()] == [torch.float32]


def refused(path: Path, tensors: dict[str, Tensor]) -> str:
    with pytest.raises(CheckpointError) as found:
        load_again(path, tensors)
    message = str(found.value)
    assert "\n" not in message and str(path) in message
    return message


def test_a_missing_tensor_is_named(tmp_path: Path, stored: dict[str, Tensor]) -> None:
    del stored["model.layers.1.self_attn.k_proj.weight"]
    assert "'model.layers.1.self_attn.k_proj.weight' is missing" in refused(tmp_path, stored)


def test_several_missing_tensors_are_counted(tmp_path: Path, stored: dict[str, Tensor]) -> None:
    rest = {name: tensor for name, tensor in stored.items() if ".layers.3." not in name}
    assert "and 8 more is missing" in refused(tmp_path, rest)


def test_a_tensor_that_has_no_place_is_named(tmp_path: Path, stored: dict[str, Tensor]) -> None:
    message = refused(tmp_path, {**stored, "model.layers.4.mlp.up_proj.weight": torch.ones(96, 64)})
    assert (
        "model.safetensors: tensor 'model.layers.4.mlp.up_proj.weight' has no place in a model of type llama" in message
    )


def test_a_bias_that_the_configuration_denies_is_not_dropped(tmp_path: Path, stored: dict[str, Tensor]) -> None:
    assert "q_proj.bias" in refused(tmp_path, {**stored, "model.layers.0.self_attn.q_proj.bias": torch.ones(64)})


@pytest.mark.parametrize("name", ["model.layers.0.self_attn.v_proj.weight", "model.norm.weight", "lm_head.weight"])
def test_a_wrong_shape_is_named_with_both_shapes(tmp_path: Path, stored: dict[str, Tensor], name: str) -> None:
    wanted = list(stored[name].shape)
    stored[name] = torch.ones(7, 5)
    assert f"model.safetensors: tensor '{name}' has shape [7, 5]; config.json asks for {wanted}." in refused(
        tmp_path, stored
    )


def test_a_shape_that_would_broadcast_is_refused(tmp_path: Path, stored: dict[str, Tensor]) -> None:
    stored["model.norm.weight"] = torch.ones(1)
    assert "[1]" in refused(tmp_path, stored)


def test_whole_numbers_are_no_weights(tmp_path: Path, stored: dict[str, Tensor]) -> None:
    name = "model.layers.0.mlp.down_proj.weight"
    stored[name] = stored[name].to(torch.int8)
    with pytest.raises(UnsupportedModel, match=f"{name}.*I8"):
        load_again(tmp_path, stored)


def test_stored_frequencies_are_passed_over(tmp_path: Path, stored: dict[str, Tensor]) -> None:
    load_again(tmp_path, {**stored, "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)})


@pytest.mark.parametrize("has_own_head", [True, False])
def test_a_tied_head_is_the_embedding(tmp_path: Path, stored: dict[str, Tensor], has_own_head: bool) -> None:
    if not has_own_head:
        del stored["lm_head.weight"]
    save_file(stored, tmp_path / "model.safetensors")
    card = card_of(tmp_path, {**llama.tiny_config(), "tie_word_embeddings": True})
    model = load_model(card, worker_config(tmp_path))
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert torch.equal(model.lm_head.weight, stored["model.embed_tokens.weight"])


def test_parts_of_two_shards_meet_in_one_weight(tmp_path: Path, stored: dict[str, Tensor]) -> None:
    (tmp_path / "model.safetensors").unlink()
    files = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    halves = [
        {name: tensor for name, tensor in stored.items() if ("k_proj" in name) == wanted} for wanted in (True, False)
    ]
    for file, half in zip(files, halves, strict=True):
        save_file(half, tmp_path / file)
    places = {name: file for file, half in zip(files, halves, strict=True) for name in half}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    model = load_model(card_of(tmp_path, llama.tiny_config()), worker_config(tmp_path))
    stacked = dict(model.named_parameters())["model.layers.3.self_attn.qkv_proj.weight"]
    assert torch.equal(stacked, torch.cat([stored[f"model.layers.3.self_attn.{part}_proj.weight"] for part in "qkv"]))


def test_progress_hears_every_byte_that_is_needed(tmp_path: Path, stored: dict[str, Tensor]) -> None:
    heard: list[tuple[str, int]] = []

    class Ear:
        def start(self, num_bytes: int) -> None:
            heard.append(("start", num_bytes))

        def advance(self, num_bytes: int) -> None:
            heard.append(("advance", num_bytes))

        def finish(self) -> None:
            heard.append(("finish", 0))

    load_model(read_card(tmp_path), worker_config(tmp_path), Ear())
    total = sum(tensor.nbytes for tensor in load_file(tmp_path / "model.safetensors").values())
    assert heard[0] == ("start", total) and heard[-1] == ("finish", 0)
    assert sum(count for kind, count in heard if kind == "advance") == total


def test_a_bar_is_shown_on_a_terminal_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert isinstance(progress_for(worker_config(tmp_path, shows_progress=True)), BarProgress)
    assert isinstance(progress_for(worker_config(tmp_path, shows_progress=False)), NoProgress)
    monkeypatch.setattr("sys.stderr.isatty", lambda: False)
    assert isinstance(progress_for(worker_config(tmp_path, shows_progress=True)), NoProgress)


def dummy(path: Path, config: dict[str, object], seed: int = 0, dtype: DType = "float32") -> CausalModel:
    return load_model(card_of(path, config), worker_config(path, load_format="dummy", seed=seed, dtype=dtype))


def test_dummy_weights_need_no_files_and_depend_on_the_seed_alone(tmp_path: Path) -> None:
    first, same, other = (dict(dummy(tmp_path, llama.tiny_config(), seed).named_parameters()) for seed in (1, 1, 2))
    name = "model.layers.0.self_attn.qkv_proj.weight"
    assert all(torch.equal(first[one], same[one]) for one in first)
    assert not torch.equal(first[name], other[name])
    assert not torch.equal(first[name], first["model.layers.1.self_attn.qkv_proj.weight"])


@pytest.mark.parametrize("family", [llama, gemma2], ids=["llama", "gemma2"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_dummy_weights_are_small_and_norms_neutral(tmp_path: Path, family: object, dtype: DType) -> None:
    model = dummy(tmp_path, family.tiny_config(), dtype=dtype)  # type: ignore[attr-defined]
    norms = [module for module in model.modules() if isinstance(module, RMSNorm)]
    neutral = 0.0 if family is gemma2 else 1.0
    assert all(torch.equal(norm.weight.float(), torch.full_like(norm.weight.float(), neutral)) for norm in norms)
    assert abs(float(model.model.embed_tokens.weight.float().std()) - 0.02) < 0.002


def test_the_served_context_settles_which_long_factors_hold(tmp_path: Path) -> None:
    scaling = {"type": "longrope", "short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
    card = card_of(tmp_path, {**phi3.tiny_config(), "rope_scaling": scaling, "original_max_position_embeddings": 128})
    config = worker_config(tmp_path, load_format="dummy")
    first = [
        float(next(load_model(card, msgspec.structs.replace(config, max_model_len=length)).buffers())[0])
        for length in (128, 129)
    ]
    assert first == [1.0, 0.5]
