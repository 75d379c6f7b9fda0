"""quire/bench/offline.py, latency.py, throughput.py and jobs.py, with an engine that only counts."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from quire.bench.jobs import PEER_JOBS, ModelCost, ceiling, name_of, run_job
from quire.bench.latency import measure_latency
from quire.bench.limits import Limits
from quire.bench.offline import Batch, time_batch
from quire.bench.throughput import measure_throughput
from quire.core.outputs import CompletionOutput, RequestOutput
from quire.core.params import SamplingParams


class CountingEngine:
    """Gives as many zeros as asked (or ``short`` fewer) and remembers the prompts."""

    def __init__(self, short: int = 0) -> None:
        self.short = short
        self.calls: list[list[list[int]]] = []

    def generate(
        self, prompts: Sequence[dict[str, list[int]]], sampling_params: SamplingParams, *, use_tqdm: bool = True
    ) -> list[RequestOutput]:
        assert sampling_params.ignore_eos
        assert sampling_params.temperature == 0.0
        assert sampling_params.max_tokens is not None
        self.calls.append([prompt["prompt_token_ids"] for prompt in prompts])
        ids = [0] * (sampling_params.max_tokens - self.short)
        return [
            RequestOutput("r", None, ids_in, [CompletionOutput(i, "", ids) for i in range(sampling_params.n)], True)
            for ids_in in self.calls[-1]
        ]


def test_a_batch_is_as_large_as_asked_and_equal_seeds_ask_the_same() -> None:
    engine = CountingEngine()
    ticks = iter([10.0, 12.5, 20.0, 21.0])
    batch = Batch(3, 5, 7, n=2)
    first = time_batch(engine, batch, vocab_size=11, seed=4, clock=lambda: next(ticks))
    again = time_batch(engine, batch, vocab_size=11, seed=4, clock=lambda: next(ticks))
    assert (first.elapsed_s, again.elapsed_s) == (2.5, 1.0)
    assert (first.num_input_tokens, first.num_output_tokens) == (15, 42)
    assert engine.calls[0] == engine.calls[1]
    assert [len(ids) for ids in engine.calls[0]] == [5, 5, 5]


def test_an_engine_that_gives_too_few_tokens_is_not_timed() -> None:
    with pytest.raises(RuntimeError, match="6 tokens where 8"):
        time_batch(CountingEngine(short=1), Batch(2, 3, 4), vocab_size=9, seed=0)


def test_latency_counts_only_what_comes_after_the_warm_up() -> None:
    engine = CountingEngine()
    found = measure_latency(engine, Batch(2, 3, 4), vocab_size=9, num_warmups=2, num_iterations=5)
    assert len(engine.calls) == 7
    assert len(found.latencies) == 5
    assert sorted(found.percentiles) == sorted(["10", "25", "50", "75", "90", "99"])


def test_throughput_counts_prompt_and_output_tokens() -> None:
    found = measure_throughput(CountingEngine(), Batch(6, 3, 4), vocab_size=9)
    assert found.total_num_tokens == 6 * 7
    assert found.output_tokens_per_second * found.elapsed_time == pytest.approx(24)


def test_a_job_runs_once_to_warm_up_and_each_run_has_its_own_prompts() -> None:
    engine = CountingEngine()
    figure = run_job(engine, Batch(2, 16, 1), vocab_size=1000, repeat=3)
    assert (figure.job, figure.unit, len(figure.runs)) == ("2 x 16 + 1", "prompt tokens/s", 3)
    assert len({str(call) for call in engine.calls}) == 4


def test_ceilings_of_the_peers_jobs_match_the_arithmetic_of_their_machine() -> None:
    limits = Limits(read_gb_s=46.0, bf16_gflop_s=1000.0, float32_gflop_s=100.0, num_threads=2, torch="")
    cost = ModelCost(weight_bytes=1_190_000_000, body_flop=0.88e9, head_flop=0.31e9)
    found = {name_of(job): ceiling(job, cost, limits, is_bf16=True) for job in PEER_JOBS}
    assert found["1 x 16 + 64"] == pytest.approx(38, rel=0.05)
    assert found["8 x 128 + 64"] == pytest.approx(198, rel=0.05)
    assert found["32 x 128 + 64"] == pytest.approx(338, rel=0.05)
    assert found["1 x 1024 + 1"] == pytest.approx(1135, rel=0.05)
