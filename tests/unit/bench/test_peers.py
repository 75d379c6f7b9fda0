"""benchmarks/peers: the rounds with small processes in place of engines, the line-up, names of tensors."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path

import msgspec
import pytest

from benchmarks.peers.lineup import Racer, line_up
from benchmarks.peers.llama_cpp_peer import _full_batches
from benchmarks.peers.parts import OFFLINE, Part
from benchmarks.peers.peer_process import PeerProcess
from benchmarks.peers.process_group import PeerFailed, clear_cache
from benchmarks.peers.rounds import Race
from benchmarks.peers.write_gguf import bf16_tensors, gguf_name
from quire.bench.offline import Batch

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
        state = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]
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
    several = [racer("one", tmp_path), broken, absent, racer("two", tmp_path)]
    race = Race(Part("", (), ()), several, [], tmp_path / "logs", 60)
    race.start(1)
    try:
        race.round(0, [Batch(2, 3, 4), Batch(1, 2, 13), Batch(1, 2, 1)], vocab_size=100)
    finally:
        race.end()
    assert [(one.racer, one.job) for one in race.readings] == [("one", "2 x 3 + 4"), ("two", "2 x 3 + 4")]
    assert race.readings[0].first_tokens == race.readings[1].first_tokens
    assert all(one.unit == "output tokens/s" and one.value > 0 for one in race.readings)
    assert [(one.racer, one.job) for one in race.failures] == [
        ("broken", "start"),
        ("absent", "start"),
        ("one", "1 x 2 + 13"),
        ("two", "1 x 2 + 13"),
    ]
    assert [(fact.racer, fact.version) for fact in race.facts] == [("one", "1.2"), ("two", "1.2")]


def test_an_engine_that_takes_requests_one_by_one_gets_some_of_them_and_the_reading_says_how_many(
    tmp_path: Path,
) -> None:
    few = msgspec.structs.replace(racer("few", tmp_path), most_prompts=2)
    race = Race(Part("", (), ()), [few], [], tmp_path / "logs", 60)
    race.start(1)
    try:
        race.round(0, [Batch(5, 3, 4)], vocab_size=100)
    finally:
        race.end()
    [reading] = race.readings
    assert (reading.num_requests, reading.num_run, len(reading.first_tokens)) == (5, 2, 2)


def test_alone_an_engine_is_ended_before_the_next_starts_and_jobs_beyond_its_time_are_left_out(tmp_path: Path) -> None:
    part = Part("", (), (), is_alone=True, box_s=1e-9)
    race = Race(part, [racer("one", tmp_path), racer("two", tmp_path)], [], tmp_path / "logs", 60)
    race.one_by_one([Batch(1, 3, 4)], vocab_size=100)
    assert [(one.racer, one.job, one.is_left_out) for one in race.failures] == [
        ("one", "1 x 3 + 4", True),
        ("two", "1 x 3 + 4", True),
    ]
    roomy = Race(msgspec.structs.replace(part, box_s=60.0), [racer("one", tmp_path)], [], tmp_path / "logs", 60)
    roomy.one_by_one([Batch(1, 3, 4), Batch(2, 3, 4)], vocab_size=100)
    assert [one.job for one in roomy.readings] == ["1 x 3 + 4", "2 x 3 + 4"]
    assert not roomy.failures and not roomy._processes


def test_an_engine_that_fails_on_its_cache_gets_a_second_start_with_an_empty_one(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    program = f"""
import os
if os.path.exists({str(cache)!r}):
    raise ImportError("half a program")
{_ENGINE}
"""
    spoilt = msgspec.structs.replace(
        racer("spoilt", tmp_path, program), environment={"CACHE": str(cache)}, cache_variable="CACHE"
    )
    race = Race(Part("", (), ()), [spoilt], [], tmp_path / "logs", 60)
    race.start(1)
    race.end()
    assert not race.failures and [fact.racer for fact in race.facts] == ["spoilt"]
    assert "half a program" in (tmp_path / "logs" / "spoilt.first.log").read_text(encoding="utf-8")


def test_a_cache_stays_when_a_start_was_only_slow(tmp_path: Path) -> None:
    cache, log = tmp_path / "cache", tmp_path / "log"
    cache.mkdir()
    log.write_text("compiling", encoding="utf-8")
    assert not clear_cache({"CACHE": str(cache)}, "CACHE", log)
    assert cache.is_dir()
    log.write_text("Traceback (most recent call last):", encoding="utf-8")
    assert clear_cache({"CACHE": str(cache)}, "CACHE", log)
    assert not cache.exists()
    assert not clear_cache({}, "", log)


def test_the_line_up_knows_what_setup_has_not_made(tmp_path: Path) -> None:
    racers = line_up(tmp_path, tmp_path / "shapes", Path(sys.executable))
    assert {name for part in OFFLINE.values() for name in part.racers} <= set(racers)
    assert [racers[name].bits for name in OFFLINE["jobs"].racers] == [16, 16, 16, 16]
    assert racers["quire"].missing() == str(tmp_path / "shapes")
    assert racers["llama.cpp-q8_0"].missing() == str(tmp_path / "llama_cpp" / "bin" / "python")


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
