"""benchmarks/peers: the driver with small processes in place of engines, the arithmetic of scores, names of tensors."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path

import pytest

from benchmarks.peers.lineup import BF16_RACERS, Racer, line_up
from benchmarks.peers.llama_cpp_peer import _full_batches
from benchmarks.peers.peer_process import PeerFailed, PeerProcess
from benchmarks.peers.plot import curves
from benchmarks.peers.race import Race, _jobs, parse_job
from benchmarks.peers.scores import EngineFacts, Run, score, standings
from benchmarks.peers.write_gguf import bf16_tensors, gguf_name
from quire.bench.jobs import PEER_JOBS
from quire.bench.offline import Batch
from quire.errors import ConfigError

ROOT = Path(__file__).parents[3]

_ENGINE = """
import sys
from benchmarks.peers.protocol import own_stdout, serve
answers = own_stdout()
print("a greeting that is no answer")
class Counting:
    version, settings = "1.2", {"form": "bf16"}
    def prepare(self, prompts, output_len):
        pass
    def generate(self, prompts, output_len):
        if output_len == 13:
            raise ValueError("13 is refused")
        if output_len == 99:
            sys.exit("no more")
        return [[ids[0]] * min(output_len, 50) for ids in prompts]
serve(Counting(), answers)
"""


def start(tmp_path: Path, program: str = _ENGINE, timeout_s: float = 60) -> PeerProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return PeerProcess([sys.executable, "-c", program], environment, tmp_path / "engine.log", timeout_s)


def test_an_engine_answers_jobs_and_is_held_still_in_between(tmp_path: Path) -> None:
    process = start(tmp_path)
    try:
        assert (process.ready.version, process.ready.settings) == ("1.2", {"form": "bf16"})
        assert process.start_s > 0
        assert process.run([[5], [6]], 3).outputs == [[5, 5, 5], [6, 6, 6]]
        state = Path(f"/proc/{process._process.pid}/stat").read_text().rpartition(")")[2].split()[0]
        assert state == "T"
        assert process.memory_mb() > 1
        assert process.run([[7]], 1).outputs == [[7]]
    finally:
        process.end()
    assert process.memory_mb() == 0


def test_a_refused_job_and_a_wrong_number_of_tokens_are_failures_that_say_what_happened(tmp_path: Path) -> None:
    process = start(tmp_path)
    try:
        with pytest.raises(PeerFailed, match="ValueError: 13 is refused"):
            process.run([[1]], 13)
        with pytest.raises(PeerFailed, match=r"1 of \[50\] tokens where 1 of 51"):
            process.run([[1]], 51)
        with pytest.raises(PeerFailed, match=r"ended; engine\.log ends: no more"):
            process.run([[1]], 99)
    finally:
        process.end()


def test_an_engine_that_does_not_start_is_named_with_the_last_line_of_its_log(tmp_path: Path) -> None:
    with pytest.raises(PeerFailed, match=r"its process ended; engine\.log ends: ImportError: no such engine"):
        start(tmp_path, "raise ImportError('no such engine')")


def test_an_engine_that_says_nothing_is_ended_after_the_time_limit(tmp_path: Path) -> None:
    with pytest.raises(PeerFailed, match="no answer within 0 s"):
        start(tmp_path, "import signal; signal.pause()", timeout_s=0.2)


def racer(name: str, tmp_path: Path, program: str = _ENGINE) -> Racer:
    python = tmp_path / name
    python.write_text(f"#!/bin/sh\nexec {shlex.join([sys.executable, '-c', program])}\n", encoding="utf-8")
    python.chmod(0o755)
    return Racer(name, "an_engine", python, tmp_path, "bf16", 16)


def test_a_race_gives_all_the_same_prompts_and_goes_on_without_those_that_fail(tmp_path: Path) -> None:
    broken = racer("broken", tmp_path, "raise ImportError('no such engine')")
    absent = Racer("absent", "an_engine", tmp_path / "nowhere", tmp_path, "bf16", 16)
    race = Race([racer("one", tmp_path), broken, absent, racer("two", tmp_path)], [], tmp_path / "logs", 60)
    race.start(1)
    try:
        race.round(0, [Batch(2, 3, 4), Batch(1, 2, 13), Batch(1, 2, 1)], vocab_size=100)
    finally:
        race.end()
    assert [(run.racer, run.batch.output_len) for run in race.runs] == [("one", 4), ("two", 4)]
    assert race.runs[0].first_tokens == race.runs[1].first_tokens
    assert [(one.racer, one.job) for one in race.failures] == [
        ("broken", "start"),
        ("absent", "start"),
        ("one", "1 x 2 + 13"),
        ("two", "1 x 2 + 13"),
    ]
    assert [(fact.racer, fact.version) for fact in race.facts] == [("one", "1.2"), ("two", "1.2")]


def test_a_job_is_read_from_its_short_name_and_anything_else_is_refused() -> None:
    assert parse_job("8x128+64") == parse_job("8 x 128 + 64") == Batch(8, 128, 64)
    for wrong in ("8x128", "0x128+64", "x", "8x128+64+1"):
        with pytest.raises(ConfigError, match="is no job"):
            parse_job(wrong)


def test_only_picks_among_the_jobs_and_start_alone_means_none() -> None:
    assert _jobs(None, None) == (list(PEER_JOBS), True)
    assert _jobs(None, ["start"]) == ([], False)
    assert _jobs(["2x3+4", "1x1+1"], ["1x1+1"]) == ([Batch(1, 1, 1)], True)
    with pytest.raises(ConfigError, match="no job '2 x 3 \\+ 4'; there are: 1 x 16"):
        _jobs(None, ["2x3+4"])


def test_the_line_up_knows_what_setup_has_not_made(tmp_path: Path) -> None:
    racers = line_up(tmp_path, tmp_path / "shapes", Path(sys.executable))
    assert [racers[name].bits for name in BF16_RACERS] == [16, 16, 16, 16]
    assert racers["quire"].missing() == str(tmp_path / "shapes")
    assert racers["llama.cpp-q8_0"].missing() == str(tmp_path / "llama_cpp" / "bin" / "python")


def race_runs() -> list[Run]:
    batch = Batch(2, 10, 5)  # 10 output tokens
    times = {"quire": (1.0, 0.5, 2.0), "fast": (2.0, 2.0, 2.0), "slow": (4.0, 5.0), "quire-int8": (0.5,), "q8": (1.0,)}
    return [
        Run(racer, batch, seconds, (1, 2) if racer != "slow" else (1, 3))
        for racer, several in times.items()
        for seconds in several
    ]


BITS = {"quire": 16, "fast": 16, "slow": 16, "quire-int8": 8, "q8": 8}


def test_scores_are_medians_and_ratios_are_to_quire_at_as_many_bits() -> None:
    scores = score(race_runs(), BITS, ["quire", "quire-int8"], {"2 x 10 + 5": 20.0})
    found = {one.racer: one for one in scores}
    assert (found["quire"].value, found["quire"].quire_ratio, found["quire"].limit) == (10.0, None, 20.0)
    assert found["quire"].unit == "output tokens/s"
    assert (found["fast"].quire_ratio, found["fast"].same_first_tokens) == (2.0, 1.0)
    assert found["slow"].quire_ratio == pytest.approx(10 / 2.25)
    assert found["slow"].same_first_tokens == 0.5
    assert (found["q8"].quire_ratio, found["q8"].limit) == (2.0, None)


def test_the_table_names_share_of_the_limit_and_the_ratio_to_the_best() -> None:
    scores = score(race_runs(), BITS, ["quire", "quire-int8"], {"2 x 10 + 5": 20.0})
    text = standings([one for one in scores if one.bits == 16], [EngineFacts("quire", "0.1", {}, (2.0, 1.0, 9.0), 512)])
    assert " ".join(text.splitlines()[2].split()) == "2 x 10 + 5 10.0 5.0 2.2 20 50 % 2.00 x"
    assert text.splitlines()[-1].split() == ["quire", "0.1", "2.00", "512"]


def test_without_quire_there_are_figures_and_no_ratios() -> None:
    scores = score([run for run in race_runs() if run.racer == "fast"], BITS, ["quire"], {})
    assert [(one.racer, one.quire_ratio, one.same_first_tokens) for one in scores] == [("fast", None, None)]
    assert "5.0" in standings(scores, [])


def test_the_plot_takes_points_by_number_of_requests_and_leaves_prompt_jobs_out() -> None:
    common: dict[str, object] = {"racer": "quire", "bits": 16, "unit": "output tokens/s"}
    records: list[dict[str, object]] = [
        {"machine": {}},
        {**common, "num_requests": 8, "value": 100.0, "limit": 200.0},
        {**common, "num_requests": 1, "value": 30.0, "limit": 40.0},
        {**common, "unit": "prompt tokens/s", "num_requests": 4, "value": 900.0, "limit": 1000.0},
    ]
    assert curves(records) == ({("quire", 16): [(1, 30.0), (8, 100.0)]}, [(1, 40.0), (8, 200.0)])


def test_calls_of_llama_cpp_cover_every_token_once_and_never_hold_too_many() -> None:
    prompts = [[0] * length for length in (128, 2048, 1, 5000, 900)]
    seen: dict[int, int] = {}
    for part in _full_batches(prompts):
        assert 0 < sum(end - start for _, start, end in part) <= 2048
        for sequence, begin, end in part:
            assert begin == seen.get(sequence, 0)
            seen[sequence] = end
    assert seen == {number: len(prompt) for number, prompt in enumerate(prompts)}


def test_every_tensor_of_the_families_has_its_gguf_name_and_others_are_refused() -> None:
    assert gguf_name("model.embed_tokens.weight") == "token_embd.weight"
    assert gguf_name("model.layers.11.self_attn.q_norm.weight") == "blk.11.attn_q_norm.weight"
    assert gguf_name("model.layers.0.mlp.down_proj.weight") == "blk.0.ffn_down.weight"
    with pytest.raises(ValueError, match=r"no place for the tensor 'model\.layers\.0\.mlp\.gate\.weight'"):
        gguf_name("model.layers.0.mlp.gate.weight")


def test_bf16_values_of_a_checkpoint_are_read_as_their_bits(tmp_path: Path) -> None:
    header = {"w": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [0, 8]}, "__metadata__": {"format": "pt"}}
    text = json.dumps(header).encode()
    values = b"".join(number.to_bytes(2, "little") for number in (1, 2, 3, 0x3F80))
    file = tmp_path / "model.safetensors"
    file.write_bytes(len(text).to_bytes(8, "little") + text + values)
    [(name, bits)] = bf16_tensors(file)
    assert (name, bits.tolist()) == ("w", [[1, 2], [3, 0x3F80]])
