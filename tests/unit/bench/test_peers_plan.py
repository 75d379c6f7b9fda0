"""benchmarks/peers: what a command line of the race asks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.peers.parts import OFFLINE, SERVED, limits_for
from benchmarks.peers.plan import Plan, make_plan, parse_job
from benchmarks.peers.race import _ceilings, _parse
from quire.bench.jobs import PEER_JOBS, name_of
from quire.bench.limits import Limits
from quire.bench.offline import Batch
from quire.config.card import read_card
from quire.errors import ConfigError

SHAPE = Path(__file__).parents[3] / "quire" / "bench" / "shapes" / "qwen3-0.6b"
LIMITS = Limits(read_gb_s=46.0, bf16_gflop_s=1000.0, float32_gflop_s=500.0, num_threads=2, torch="2", int8_gop_s=2000.0)


def plan(*words: str) -> Plan:
    return make_plan(_parse(list(words)), Path("python"))


def test_a_job_is_read_from_its_short_name_and_anything_else_is_refused() -> None:
    assert parse_job("8x128+64") == parse_job("8 x 128 + 64") == Batch(8, 128, 64)
    for wrong in ("8x128", "0x128+64", "x", "8x128+64+1"):
        with pytest.raises(ConfigError, match="is no job"):
            parse_job(wrong)


def test_everything_is_raced_unless_something_is_named() -> None:
    everything = plan()
    assert everything.parts == [*OFFLINE, *SERVED]
    assert everything.offline["jobs"] == list(PEER_JOBS)
    assert [racer.name for racer in everything.racers["jobs"]] == ["quire", "vllm", "llama.cpp", "openvino"]
    assert [server.name for server in everything.servers["serving"]] == ["quire", "vllm"]
    assert (everything.rounds["jobs"], everything.rounds["generate"]) == (3, 1)


def test_rounds_are_asked_for_all_parts_or_for_some() -> None:
    some = plan("--rounds", "2", "quantised=1", "poisson=4")
    assert [some.rounds[name] for name in ("jobs", "quantised", "generate", "poisson")] == [2, 1, 1, 4]
    for wrong in ("0", "two", "job=2", "=1x"):
        with pytest.raises(ConfigError, match="PART=NUMBER"):
            plan("--rounds", wrong)


def test_the_curve_leaves_out_what_the_jobs_measure_already() -> None:
    assert [batch.num_prompts for batch in plan().offline["curve"]] == [1, 2, 4, 16, 128]
    assert [batch.num_prompts for batch in plan("--parts", "curve").offline["curve"]] == [1, 2, 4, 8, 16, 32, 64, 128]


def test_peers_are_those_that_a_part_names_and_other_settings_of_them() -> None:
    some = plan("--peers", "quire", "vllm-default", "openvino-int8")
    assert {name: [racer.name for racer in racers] for name, racers in some.racers.items()} == {
        "jobs": ["quire", "vllm-default"],
        "quantised": ["openvino-int8"],
        "generate": ["quire"],
        "curve": ["quire", "vllm-default"],
    }
    assert [server.name for server in some.servers["poisson"]] == ["quire"]
    with pytest.raises(ConfigError, match="no engine 'vlm'; there are: quire, vllm"):
        plan("--peers", "vlm")


def test_only_picks_among_the_jobs_and_start_alone_means_none() -> None:
    one = plan("--only", "8x128+64", "tiny, 1 stream")
    assert {name: list(map(name_of, batches)) for name, batches in one.offline.items()} == {"jobs": ["8 x 128 + 64"]}
    assert [job.name for job in one.loads["serving"]] == ["1 stream"]
    start = plan("--only", "start")
    assert (start.parts, start.offline) == (["jobs"], {"jobs": []})
    assert plan("--jobs", "2x3+4", "1x1+1", "--only", "1x1+1").offline == {"jobs": [Batch(1, 1, 1)]}
    with pytest.raises(ConfigError, match="no job '2 x 3 \\+ 4'; there are: 1 x 16"):
        plan("--only", "2x3+4")


def test_the_estimate_grows_with_jobs_rounds_and_slower_machines() -> None:
    card = read_card(SHAPE)

    def seconds(limits: Limits, *words: str) -> float:
        asked = plan(*words)
        return sum(asked.seconds(_ceilings(asked.batches, card, limits), with_cold=True).values())

    short = seconds(LIMITS, "--parts", "jobs", "--rounds", "1")
    assert 100 < short < seconds(LIMITS, "--parts", "jobs", "--rounds", "3") < seconds(LIMITS)
    slow = Limits(23.0, 500.0, 250.0, 2, "2", 1000.0)
    assert seconds(slow, "--parts", "jobs", "--rounds", "1") > 1.5 * short
    assert seconds(slow, "--parts", "curve", "--box", "30") < seconds(slow, "--parts", "curve")


def test_fewer_bits_read_less_and_may_multiply_as_int8() -> None:
    assert limits_for(16, LIMITS) == (2.0, 1000.0)
    assert limits_for(8, LIMITS) == (1.0, 2000.0)
    assert limits_for(4, LIMITS) == (0.5, 2000.0)
    ceilings = _ceilings([Batch(1, 16, 64)], read_card(SHAPE), LIMITS)
    assert ceilings[16, "1 x 16 + 64"] == pytest.approx(38, rel=0.05)
    assert ceilings[8, "1 x 16 + 64"] == pytest.approx(2 * ceilings[16, "1 x 16 + 64"], rel=0.05)
