from __future__ import annotations

import json
from pathlib import Path

import pytest

from quire.config.card import read_card
from quire.errors import CheckpointError, UnsupportedModel
from tests.unit.config.checkpoints import write_checkpoint, write_tensors


def test_a_plain_checkpoint_gives_its_numbers(tmp_path: Path) -> None:
    card = read_card(write_checkpoint(tmp_path))
    assert (card.model_type, card.architecture, card.dtype) == ("llama", "LlamaForCausalLM", "bfloat16")
    assert (card.num_layers, card.num_heads, card.num_kv_heads, card.head_size) == (4, 4, 2, 16)
    assert card.layer_windows == (None,) * 4
    assert (card.eos_token_ids, card.bos_token_id, card.max_model_len) == ((2,), 1, 2048)
    layer = 64 * 16 * (8 + 4) + 3 * 64 * 128 + 4 * 64
    assert card.num_parameters == 2 * 320 * 64 + 4 * layer + 64
    assert not card.has_weights


def test_weights_are_counted_from_headers_and_their_dtype_wins(tmp_path: Path) -> None:
    write_tensors(write_checkpoint(tmp_path) / "model.safetensors", {"a": (3, 4), "b": (5,)}, "F32", 4)
    card = read_card(tmp_path)
    assert (card.dtype, card.num_tensors, card.num_parameters, card.weight_bytes) == ("float32", 2, 17, 68)


def test_a_tied_head_that_is_stored_too_is_not_counted_twice(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, tie_word_embeddings=True)
    write_tensors(tmp_path / "model.safetensors", {"model.embed_tokens.weight": (10,), "lm_head.weight": (10,)})
    assert read_card(tmp_path).num_parameters == 10


def test_the_text_part_of_a_nested_configuration_wins(tmp_path: Path) -> None:
    text = {"model_type": "qwen2", "hidden_size": 128, "num_attention_heads": 8}
    card = read_card(write_checkpoint(tmp_path, model_type="some_vision", text_config=text))
    assert (card.model_type, card.hidden_size, card.num_heads, card.vocab_size) == ("qwen2", 128, 8, 320)


@pytest.mark.parametrize(
    ("changes", "windows"),
    [
        ({"model_type": "mistral", "sliding_window": 256}, (256,) * 4),
        ({"model_type": "mistral", "sliding_window": None}, (None,) * 4),
        ({"model_type": "mistral"}, (4096,) * 4),
        ({"model_type": "llama", "sliding_window": 256}, (None,) * 4),
        ({"model_type": "qwen2", "sliding_window": 256, "use_sliding_window": False}, (None,) * 4),
        (
            {"model_type": "qwen2", "sliding_window": 256, "use_sliding_window": True, "max_window_layers": 3},
            (None, None, None, 256),
        ),
        ({"model_type": "gemma2", "sliding_window": 256, "head_dim": 16}, (256, None, 256, None)),
        (
            {"model_type": "gemma3_text", "sliding_window": 256, "sliding_window_pattern": 3, "head_dim": 16},
            (256, 256, None, 256),
        ),
        (
            {
                "model_type": "gemma3_text",
                "sliding_window": 256,
                "layer_types": ["full_attention"] + ["sliding_attention"] * 3,
            },
            (None, 256, 256, 256),
        ),
        ({"model_type": "phi3", "sliding_window": 99}, (99,) * 4),
    ],
)
def test_windows_follow_the_rules_of_the_family(
    tmp_path: Path, changes: dict[str, object], windows: tuple[int | None, ...]
) -> None:
    assert read_card(write_checkpoint(tmp_path, **changes)).layer_windows == windows


@pytest.mark.parametrize(
    ("changes", "length"),
    [
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, 8192),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, 4096),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}}, 4096),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, 8192),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 512}}, 2048),
        ({"rope_scaling": {"type": "longrope", "long_factor": [1.0], "short_factor": [1.0]}}, 2048),
        ({"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}}, 8192),
        ({"model_type": "gemma3_text", "rope_scaling": {"rope_type": "linear", "factor": 8.0}}, 2048),
    ],
)
def test_the_context_follows_the_rule_of_its_rope_scaling(
    tmp_path: Path, changes: dict[str, object], length: int
) -> None:
    assert read_card(write_checkpoint(tmp_path, **changes)).max_model_len == length


@pytest.mark.parametrize(("limit", "length"), [(1024, 1024), (10**30, 2048), (1e30, 2048), (None, 2048), (-1, 2048)])
def test_a_sane_tokenizer_limit_bounds_the_context(tmp_path: Path, limit: object, length: int) -> None:
    folder = write_checkpoint(tmp_path, {"tokenizer_config.json": {"model_max_length": limit}})
    assert read_card(folder).max_model_len == length


def test_both_spellings_of_the_rotary_settings_are_there(tmp_path: Path) -> None:
    old = read_card(write_checkpoint(tmp_path / "old", rope_theta=500.0)).config
    assert old["rope_parameters"] == {"rope_type": "default", "rope_theta": 500.0}
    nested = {"full_attention": {"rope_type": "default", "rope_theta": 7.0}, "sliding_attention": {"rope_theta": 5.0}}
    new = read_card(write_checkpoint(tmp_path / "new", model_type="gemma3_text", rope_parameters=nested)).config
    assert (new["rope_theta"], new["rope_local_base_freq"], new["rope_scaling"]) == (7.0, 5.0, None)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_attention_heads", 0),
        ("num_attention_heads", "4"),
        ("num_attention_heads", True),
        ("num_hidden_layers", 10**6),
        ("num_hidden_layers", ...),
        ("hidden_size", -64),
        ("hidden_size", 65),
        ("vocab_size", 2**40),
        ("vocab_size", 3.5),
        ("num_key_value_heads", 3),
        ("intermediate_size", [1]),
        ("head_dim", 10**9),
        ("max_position_embeddings", 0),
        ("tie_word_embeddings", "yes"),
        ("torch_dtype", "int3"),
        ("eos_token_id", 320),
        ("eos_token_id", "</s>"),
        ("bos_token_id", -7),
        ("layer_types", ["full_attention"]),
        ("layer_types", "full_attention"),
        ("rope_scaling", "linear"),
        ("architectures", 5),
    ],
)
def test_a_hostile_field_is_refused_by_its_name(tmp_path: Path, field: str, value: object) -> None:
    with pytest.raises(CheckpointError) as caught:
        read_card(write_checkpoint(tmp_path, **{field: value}))
    message = str(caught.value)
    assert "config.json" in message and field in message and "\n" not in message


def test_a_hostile_rope_factor_is_refused(tmp_path: Path) -> None:
    (write_checkpoint(tmp_path) / "config.json").write_text(
        (tmp_path / "config.json").read_text()[:-1] + ', "rope_scaling": {"rope_type": "linear", "factor": NaN}}'
    )
    with pytest.raises(CheckpointError, match="factor"):
        read_card(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100000, "\x00"])
def test_a_broken_config_file_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(CheckpointError) as caught:
        read_card(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_without_config_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        read_card(tmp_path)


def test_an_unknown_family_is_refused_with_the_shelf_and_its_code_never_runs(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, model_type="exotic", auto_map={"AutoModel": "evil.Model"})
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    with pytest.raises(UnsupportedModel, match=r"exotic.*llama, mistral.*never run"):
        read_card(folder)


def test_auto_map_changes_nothing_for_a_known_family(tmp_path: Path) -> None:
    assert read_card(write_checkpoint(tmp_path, auto_map={"AutoModel": "evil.Model"})).model_type == "llama"


def test_a_quantized_checkpoint_is_refused_by_its_method(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match=r"awq.*not served yet"):
        read_card(write_checkpoint(tmp_path, quantization_config={"quant_method": "awq"}))


def test_a_layer_that_is_no_attention_is_refused(tmp_path: Path) -> None:
    kinds = ["full_attention", "linear_attention", "full_attention", "full_attention"]
    with pytest.raises(UnsupportedModel, match="linear_attention"):
        read_card(write_checkpoint(tmp_path, layer_types=kinds))


def test_weights_in_an_unserved_dtype_are_refused(tmp_path: Path) -> None:
    write_tensors(write_checkpoint(tmp_path) / "model.safetensors", {"a": (4,)}, "F8_E4M3", 1)
    with pytest.raises(UnsupportedModel, match="F8_E4M3"):
        read_card(tmp_path)


def test_ends_of_sequence_come_from_both_files(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, {"generation_config.json": {"eos_token_id": [2, 7], "temperature": 0.6}})
    card = read_card(folder)
    assert card.eos_token_ids == (2, 7) and card.generation.temperature == 0.6


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", "hot"),
        ("temperature", -1),
        ("temperature", 2.5),
        ("repetition_penalty", 0.005),
        ("top_p", 2),
        ("top_k", 1.5),
        ("max_new_tokens", 0),
        ("eos_token_id", 400),
    ],
)
def test_a_hostile_generation_default_is_refused(tmp_path: Path, field: str, value: object) -> None:
    with pytest.raises(CheckpointError, match=rf"generation_config\.json: {field}"):
        read_card(write_checkpoint(tmp_path, {"generation_config.json": {field: value}}))


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    for shard in ("a.safetensors", "b.safetensors"):
        write_tensors(tmp_path / shard, {"same": (2,)})
    with pytest.raises(CheckpointError, match="same"):
        read_card(tmp_path)


def test_windows_and_context_agree_with_the_reference_reader(tmp_path: Path) -> None:
    from transformers import AutoConfig

    for model_type in ("qwen2", "qwen3", "gemma2", "gemma3_text"):
        changes: dict[str, object] = {"model_type": model_type, "sliding_window": 128, "use_sliding_window": True}
        folder = write_checkpoint(tmp_path / model_type, max_window_layers=1, num_hidden_layers=8, **changes)
        theirs = AutoConfig.from_pretrained(folder)
        card = read_card(folder)
        assert [window is not None for window in card.layer_windows] == [
            kind == "sliding_attention" for kind in theirs.layer_types
        ]
        assert card.head_size == (theirs.head_dim if getattr(theirs, "head_dim", None) else 16)
        assert json.loads((folder / "config.json").read_text())["vocab_size"] == card.vocab_size
