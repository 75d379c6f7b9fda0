"""Metrics: names, labels and buckets that dashboards know; what each event adds to them; the line in the log."""

from __future__ import annotations

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from quire.config.decided import KVConfig, KVGroup, KVLayout
from quire.core.events import Delta, EngineStats, Preempted, Scheduled, StepEvents
from quire.core.ids import RequestId
from quire.core.request import Request, Sampling, Stopping
from quire.engine.log_stats import StatsLine
from quire.engine.metrics import Metrics
from quire.engine.numbers import Histogram
from quire.engine.series import token_buckets

NAME = "tiny"
ID = RequestId("r1")


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Engine:
    def __init__(self) -> None:
        self.stats = EngineStats()


def request(n: int = 1) -> Request:
    return Request(ID, (1, 2, 3, 4), Sampling(seed=1), Stopping(max_tokens=20), n=n)


def values(metrics: Metrics) -> dict[str, float]:
    """Every sample under its name and its labels but model and engine."""
    found = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            labels = {k: v for k, v in sample.labels.items() if k not in ("model_name", "engine")}
            found[sample.name + "".join(f",{k}={v}" for k, v in sorted(labels.items()))] = sample.value
    return found


def served() -> tuple[Metrics, Clock]:
    """A request that waited 1 s, was prefilled in 2 s, and then got a token every 0.5 s, 3 in all."""
    clock = Clock()
    metrics = Metrics(NAME, max_model_len=1000, clock=clock)
    metrics.arrived(request())
    metrics.observe(StepEvents(scheduled=(Scheduled(ID, 0, 3, True, 101.0),), at_s=101.0))
    for k, at_s in enumerate((103.0, 103.5, 104.0)):
        delta = Delta(ID, 0, (7,), finish="length" if k == 2 else None)
        metrics.observe(StepEvents(deltas=(delta,), at_s=at_s))
    clock.now_s = 104.25
    metrics.finished(ID, {0: "length"})
    return metrics, clock


def test_a_request_s_times_are_observed_at_its_end() -> None:
    found = values(served()[0])
    for name, value in {
        "time_to_first_token_seconds": 3.0,
        "inter_token_latency_seconds": 1.0,
        "request_time_per_output_token_seconds": 0.5,
        "e2e_request_latency_seconds": 4.25,
        "request_queue_time_seconds": 1.0,
        "request_inference_time_seconds": 3.0,
        "request_prefill_time_seconds": 2.0,
        "request_decode_time_seconds": 1.0,
        "request_prompt_tokens": 4,
        "request_generation_tokens": 3,
        "request_max_num_generation_tokens": 3,
        "request_params_n": 1,
        "request_params_max_tokens": 20,
        "request_num_preemptions": 0,
        "request_prefill_kv_computed_tokens": 1,
    }.items():
        assert found[f"vllm:{name}_sum"] == value, name
    assert found["vllm:inter_token_latency_seconds_count"] == 2
    assert found["vllm:request_success_total,finished_reason=length"] == 1
    assert found["vllm:request_success_total,finished_reason=stop"] == 0
    assert found["vllm:prompt_tokens_cached_total"] == 3


def test_a_bucket_holds_its_own_bound() -> None:
    found = values(served()[0])
    bucket = "vllm:inter_token_latency_seconds_bucket,le="
    assert (found[bucket + "0.4"], found[bucket + "0.5"], found[bucket + "+Inf"]) == (0, 2, 2)


def test_every_series_of_the_engine_names_the_model_and_the_engine() -> None:
    for line in served()[0].render().decode().splitlines():
        if line.startswith("vllm:"):
            assert 'engine="0"' in line or line.startswith("vllm:admission_rejections")
            assert f'model_name="{NAME}"' in line


def test_the_names_are_those_that_dashboards_know() -> None:
    names = {family.name for family in text_string_to_metric_families(served()[0].render().decode())}
    wanted = """
        num_requests_running num_requests_waiting kv_cache_usage_perc prefix_cache_queries prefix_cache_hits
        num_preemptions prompt_tokens generation_tokens prompt_tokens_cached prompt_tokens_by_source
        request_success request_prompt_tokens request_generation_tokens request_max_num_generation_tokens
        request_params_n request_params_max_tokens iteration_tokens_total time_to_first_token_seconds
        inter_token_latency_seconds request_time_per_output_token_seconds e2e_request_latency_seconds
        request_queue_time_seconds request_inference_time_seconds request_prefill_time_seconds
        request_decode_time_seconds request_num_preemptions request_prefill_kv_computed_tokens
    """
    assert {f"vllm:{name}" for name in wanted.split()} <= names
    assert {"http_requests", "http_request_duration_seconds", "process_cpu_seconds", "python_info"} <= names


@pytest.mark.parametrize(
    ("name", "bounds"),
    [
        ("e2e_request_latency_seconds", "0.3 0.5 0.8 1 1.5 2 2.5 5 10 15 20 30 40 50 60 120 240 480 960 1920 7680"),
        (
            "time_to_first_token_seconds",
            "0.001 0.005 0.01 0.02 0.04 0.06 0.08 0.1 0.25 0.5 0.75 1 2.5 5 7.5 10 20 40 80 160 640 2560",
        ),
        (
            "request_time_per_output_token_seconds",
            "0.01 0.025 0.05 0.075 0.1 0.15 0.2 0.3 0.4 0.5 0.75 1 2.5 5 7.5 10 20 40 80",
        ),
        ("iteration_tokens_total", "1 8 16 32 64 128 256 512 1024 2048 4096 8192 16384"),
        ("request_params_n", "1 2 5 10 20"),
        ("request_prompt_tokens", "1 2 5 10 20 50 100 200 500 1000"),
    ],
)  # fmt: skip
def test_the_buckets_are_those_that_dashboards_know(name: str, bounds: str) -> None:
    found = re.findall(rf'vllm:{name}_bucket{{.*?le="([^"]+)"', served()[0].render().decode())
    assert found[-1] == "+Inf"
    assert [float(bound) for bound in found[:-1]] == [float(bound) for bound in bounds.split()]


def test_gauges_are_of_now_and_counters_grow_over_a_restart_of_the_engine() -> None:
    metrics = Metrics(NAME)
    first = EngineStats(step=1, num_running=2, num_waiting=3, num_blocks=10, num_blocks_held=4, prefix_queries=100)
    metrics.observe(StepEvents(stats=first))
    again = EngineStats(
        step=1, num_blocks=10, prefix_queries=30, prefix_hits=5, prompt_tokens=7, generation_tokens=9, step_tokens=8
    )
    before = values(metrics)
    metrics.observe(StepEvents(stats=again))
    after = values(metrics)
    assert (before["vllm:num_requests_running"], before["vllm:num_requests_waiting"]) == (2, 3)
    assert before["vllm:kv_cache_usage_perc"] == 0.4
    assert after["vllm:num_requests_running"] == 0
    assert after["vllm:prefix_cache_queries_total"] == 130
    assert after["vllm:prefix_cache_hits_total"] == 5
    assert after["vllm:prompt_tokens_total"] == after["vllm:prompt_tokens_by_source_total,source=local_compute"] == 7
    assert after["vllm:generation_tokens_total"] == 9
    assert after["vllm:iteration_tokens_total_sum"] == 8


def test_samples_that_gave_no_reason_were_aborted_and_nothing_is_kept_of_them() -> None:
    metrics = Metrics(NAME)
    metrics.arrived(request(n=3))
    metrics.observe(StepEvents(deltas=(Delta(ID, 1, (5,)),), preempted=(Preempted(ID, 2), Preempted(ID, 2))))
    assert [one.spans.num_preemptions for one in metrics._records[ID].sequences] == [0, 0, 2]
    metrics.finished(ID, {1: "stop"})
    metrics.finished(ID, {})
    found = values(metrics)
    assert found["vllm:request_success_total,finished_reason=abort"] == 2
    assert found["vllm:request_success_total,finished_reason=stop"] == 1
    assert found["vllm:request_params_n_sum"] == 3
    assert found["vllm:request_num_preemptions_sum"] == 2
    assert metrics._records == {}


def test_events_of_requests_that_ended_or_never_came_are_harmless() -> None:
    metrics = Metrics(NAME)
    metrics.observe(
        StepEvents(deltas=(Delta(ID, 5, (1,)),), scheduled=(Scheduled(ID, 5, 2, True),), preempted=(Preempted(ID, 5),))
    )
    metrics.finished(ID, {0: "stop"})
    assert values(metrics)["vllm:request_success_total,finished_reason=stop"] == 0


def test_the_cache_s_configuration_is_a_constant_with_labels() -> None:
    kv = KVConfig(KVLayout(16, (KVGroup(None, (0, 1)),), 2, 4096), 77)
    text = Metrics(NAME, kv=kv).render().decode()
    [line] = [line for line in text.splitlines() if line.startswith("vllm:cache_config_info{")]
    assert 'block_size="16"' in line
    assert 'num_gpu_blocks="77"' in line
    assert line.endswith(" 1.0")


def test_http_exchanges_are_counted_by_template_method_and_class_of_status() -> None:
    metrics = Metrics(NAME)
    metrics.answered("/v1/models/{model:path}", "GET", 404, 0.2)
    metrics.answered("/v1/models/{model:path}", "GET", 200, 0.2)
    metrics.answered("/metrics", "GET", 200, 0.2)
    text = metrics.render().decode()
    assert 'http_requests_total{handler="/v1/models/{model:path}",method="GET",status="4xx"} 1.0' in text
    assert 'http_request_duration_seconds_bucket{handler="/v1/models/{model:path}",le="0.5",method="GET"} 2.0' in text
    assert 'handler="/metrics"' not in text


def test_a_model_s_name_with_quotes_and_breaks_makes_no_lines() -> None:
    text = Metrics('a"b\nc\\').render().decode()
    assert all(line.startswith(("#", "vllm:", "http_", "process_", "python_")) for line in text.splitlines())
    assert values(Metrics('a"b\nc\\'))


def test_token_buckets_end_at_the_context() -> None:
    assert token_buckets(2048) == (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
    assert token_buckets(1) == (1,)


def test_a_histogram_counts_what_exceeds_every_bound() -> None:
    histogram = Histogram((1, 2))
    for value in (0, 1, 1.5, 99):
        histogram.observe(value)
    assert histogram._counts == [2, 1, 1]


def test_the_line_tells_rates_of_what_happened_since_the_last_one() -> None:
    metrics, _ = served()
    engine = Engine()
    line = StatsLine(engine, metrics, 10)
    metrics.arrived(request())
    metrics.finished(ID, {0: "stop"})
    engine.stats = EngineStats(
        step=5, num_running=2, num_waiting=1, num_blocks=10, num_blocks_held=5, prefix_queries=100, prefix_hits=25,
        num_preemptions=3, prompt_tokens=200, generation_tokens=50, resident_bytes=3 * 2**29,
    )  # fmt: skip
    assert line.line(10.0) == (
        "20.0 prompt tokens/s, 5.0 generated tokens/s, running 2, waiting 1, KV in use 50.0 %, prefix hits 25.0 %, "
        "preemptions 3, engine memory 1.50 GiB, finished 1, mean latency 0.00 s"
    )


def test_the_line_is_silent_while_nothing_happens() -> None:
    engine = Engine()
    line = StatsLine(engine, Metrics(NAME), 10)
    assert line.line(10.0) is None
    engine.stats = EngineStats(step=3, generation_tokens=10)
    assert line.line(10.0) is not None
    assert line.line(10.0) is None
    engine.stats = EngineStats(step=3, num_waiting=1, generation_tokens=10)
    assert line.line(10.0) is not None


def test_the_line_survives_an_engine_that_began_anew() -> None:
    engine = Engine()
    engine.stats = EngineStats(step=100, generation_tokens=1000, num_running=1)
    line = StatsLine(engine, Metrics(NAME), 10)
    engine.stats = EngineStats(step=2, generation_tokens=20, num_running=1)
    assert "2.0 generated tokens/s" in str(line.line(10.0))


def test_what_became_of_a_request_can_be_asked_afterwards() -> None:
    [ended] = served()[0].recent("")
    assert (ended.prompt_tokens, ended.cached_tokens, ended.generated_tokens, ended.wall_s) == (4, 3, 3, 4.25)
    assert ended.spans == {"queue": 1.0, "prefill": 2.0, "decode": 1.0, "send": 0.25}
