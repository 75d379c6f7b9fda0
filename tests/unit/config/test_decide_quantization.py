from __future__ import annotations

from pathlib import Path

import pytest

from quire.config.asked import engine_options
from quire.config.env import Env
from quire.config.machine import Machine
from quire.config.resolve import resolve_engine
from quire.config.root import Decided
from quire.errors import UnsupportedFlag
from tests.unit.config.checkpoints import write_checkpoint

MACHINE = Machine(total_bytes=64 * 2**30, available_bytes=32 * 2**30, num_cores=2)


def decide(tmp_path: Path, quantization: str | None) -> Decided:
    options = engine_options(model=str(write_checkpoint(tmp_path)), load_format="dummy", quantization=quantization)
    return resolve_engine(options, "llm", machine=MACHINE, env=Env())


@pytest.mark.parametrize("asked", [None, "none", "None"])
def test_weights_stay_as_they_are_unless_somebody_asks(tmp_path: Path, asked: str | None) -> None:
    decided = decide(tmp_path, asked)
    assert decided.worker.quantization is None and "bfloat16" in decided.reasons["quantization"]


def test_the_reason_says_how_weights_are_written(tmp_path: Path) -> None:
    reason = decide(tmp_path, "int4").reasons["quantization"]
    assert reason == "4 bits with a scale for each 128 and a zero point; the head 8 bits with a scale for each column"
    assert "inputs in 8 bits too" in decide(tmp_path, "w8a8").reasons["quantization"]


def test_a_name_that_nobody_knows_is_answered_with_the_shelf(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFlag, match=r"int3 is unknown; Quire quantises .* int4, int4_sym"):
        decide(tmp_path, "int3")


@pytest.mark.parametrize("asked", ["awq", "gptq", "fp8"])
def test_a_format_of_checkpoints_is_told_from_quantising_at_load(tmp_path: Path, asked: str) -> None:
    with pytest.raises(UnsupportedFlag, match=f"{asked} names a format of checkpoints, which is not served yet"):
        decide(tmp_path, asked)


def test_less_weight_leaves_more_for_kv(tmp_path: Path) -> None:
    plain, small = decide(tmp_path, None).plan, decide(tmp_path, "int8").plan
    assert small.weight_bytes < 0.6 * plain.weight_bytes


def test_what_was_quantised_is_kept_in_the_cache_folder_of_the_user(tmp_path: Path) -> None:
    assert decide(tmp_path, "int8").worker.packed_cache == str(Path.home() / ".cache/quire/packed")
    options = engine_options(model=str(tmp_path), load_format="dummy", quantization="int8")
    elsewhere = resolve_engine(options, "llm", machine=MACHINE, env=Env(cache_home="/somewhere"))
    assert elsewhere.worker.packed_cache == "/somewhere/quire/packed"
    assert "/somewhere/quire/packed" in elsewhere.reasons["packed_cache_bytes"]
