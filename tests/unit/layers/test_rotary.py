from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from quire.config.card import Card, read_card
from quire.errors import CheckpointError, UnsupportedModel
from quire.layers.rotary import Rotary, read_rope
from quire.models import gemma3_text, llama


def card_with(path: Path, config: dict[str, object], **changes: object) -> Card:
    (path / "config.json").write_text(json.dumps({**config, **changes}))
    return read_card(path)


def test_plain_frequencies_fall_from_one(tmp_path: Path) -> None:
    rotary = read_rope(card_with(tmp_path, llama.tiny_config())).build()
    assert torch.allclose(rotary.frequencies_F, 10_000.0 ** (-torch.arange(8) / 8))


def test_angles_are_position_times_frequency_in_float32() -> None:
    cos, sin = Rotary(torch.tensor([1.0, 0.5]))(torch.tensor([0, 3]))
    assert cos.dtype == torch.float32
    assert torch.allclose(cos, torch.tensor([[0.0, 0.0], [3.0, 1.5]]).cos())
    assert torch.allclose(sin, torch.tensor([[0.0, 0.0], [3.0, 1.5]]).sin())


def test_frequencies_are_real_even_where_the_model_is_built_without_memory(tmp_path: Path) -> None:
    with torch.device("meta"):
        assert read_rope(card_with(tmp_path, llama.tiny_config())).build().frequencies_F.device.type == "cpu"


@pytest.mark.parametrize("field", ["rope_scaling", "rope_parameters"])
def test_an_unknown_scaling_is_refused_by_name(tmp_path: Path, field: str) -> None:
    card = card_with(tmp_path, llama.tiny_config(), **{field: {"rope_type": "spiral", "rope_theta": 1e4}})
    with pytest.raises(UnsupportedModel, match=r"'spiral' is not served; known are default, linear"):
        llama.Model(card)


@pytest.mark.parametrize(
    ("scaling", "named"),
    [
        ({"rope_type": "linear"}, "factor"),
        ({"rope_type": "linear", "factor": "two"}, "factor"),
        ({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0}, "high_freq_factor"),
        ({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 4.0}, "low_freq_factor"),
        ({"rope_type": "longrope", "short_factor": [1.0], "long_factor": [1.0]}, "short_factor"),
        ({"rope_type": "longrope", "short_factor": [0.0] * 8, "long_factor": [1.0] * 8}, "short_factor"),
    ],
)
def test_a_scaling_with_a_bad_number_names_the_field(tmp_path: Path, scaling: dict[str, object], named: str) -> None:
    with pytest.raises(CheckpointError, match=named):
        llama.Model(card_with(tmp_path, llama.tiny_config(), rope_scaling=scaling))


def test_heads_that_turn_an_odd_count_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="turn 5 numbers"):
        read_rope(card_with(tmp_path, llama.tiny_config(), partial_rotary_factor=0.33)).build()


def test_each_kind_of_layer_has_its_own_settings(tmp_path: Path) -> None:
    settings = {
        "full_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    }
    card = card_with(tmp_path, gemma3_text.tiny_config(), rope_parameters=settings)
    full, sliding = read_rope(card, "full_attention"), read_rope(card, "sliding_attention")
    assert (full.theta, sliding.theta) == (1e6, 1e4)
    assert float(full.build().frequencies_F[0]) == 0.5 and float(sliding.build().frequencies_F[0]) == 1.0
