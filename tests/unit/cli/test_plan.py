"""quire plan and quire config explain: the same decisions, in words and for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from quire.cli import MISTAKE, main
from tests.unit.config.checkpoints import write_checkpoint


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(write_checkpoint(tmp_path))


def test_a_plan_needs_no_more_than_a_config(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", model, "--load-format", "dummy", "--max-num-seqs", "4"]) == 0
    shown = capsys.readouterr().out
    for part in ("weights", "activations", "350.00 MiB", "available", "4 sequences of 2048 tokens", "2048 tokens of"):
        assert part in shown


def test_a_plan_for_programs_has_all_numbers(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", model, "--load-format", "dummy", "--json", "--max-model-len", "1K"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["max_model_len"] == 1024 and plan["dtype"] == "bfloat16" and plan["notices"] == []
    parts = ("weight_bytes", "activation_bytes", "overhead_bytes", "kv_bytes")
    assert plan["total_bytes"] == sum(plan[part] for part in parts) <= plan["budget_bytes"]


def test_a_plan_counts_quantised_weights(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = {}
    for quantization in ("none", "int8", "int4"):
        assert main(["plan", model, "--load-format", "dummy", "--json", "--quantization", quantization]) == 0
        plan = json.loads(capsys.readouterr().out)
        assert plan["quantization"] == (None if quantization == "none" else quantization)
        sizes[quantization] = plan["weight_bytes"]
    assert sizes["int4"] < sizes["int8"] < sizes["none"]


def test_what_does_not_fit_is_refused_with_the_way_out(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--load-format", "dummy", "--max-model-len", "1K", "--num-gpu-blocks-override", "2"]
    assert main(["plan", model, *arguments]) == MISTAKE
    assert "The largest context that fits is 32" in capsys.readouterr().err


def test_explain_gives_value_origin_and_reason(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "explain", model, "--load-format", "dummy", "--max-model-len", "1K"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "1024" in lines["max_model_len"] and "flag --max-model-len" in lines["max_model_len"]
    assert "checkpoint" in lines["dtype"] and "own type" in lines["dtype"]


def test_explain_for_programs_is_json(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "explain", model, "--load-format", "dummy", "--json"]) == 0
    decisions = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert decisions["device"] == {
        "name": "device",
        "value": "cpu",
        "origin": "machine",
        "reason": "the CPU is the platform that Quire serves so far",
    }


@pytest.mark.parametrize("verb", [["plan"], ["config", "explain"], ["serve"], ["generate"]])
def test_help_begins_with_what_the_verb_does(verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*verb, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "quire " + verb[0] in shown and "--max-model-len" in shown
