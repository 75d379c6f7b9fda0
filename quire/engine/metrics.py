"""The engine's and the server's numbers as Prometheus reads them: names, labels and buckets that dashboards of this
field know.

Numbers are gathered in plain lists by one event loop, and become Prometheus families only when somebody reads them: a
token costs one bisection. A *sequence* is one sample of a request; latencies and lengths are observed once for each
sequence, as the dashboards expect.

Not here: the log line (log_stats.py), HTTP. Door: Metrics, Ended.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from quire.config.decided import KVConfig
from quire.core.events import Delta, EngineStats, StepEvents
from quire.core.ids import RequestId
from quire.core.request import Request
from quire.engine.admission import REASONS
from quire.engine.numbers import Histogram, HttpNumbers
from quire.engine.series import COUNTERS, cache_facts, histogram_families
from quire.engine.spans import Spans

CONTENT_TYPE = CONTENT_TYPE_LATEST

FINISH_REASONS = ("stop", "length", "abort", "error", "repetition", "timeout")
_NUM_KEPT = 32
"""Requests that have ended and can still be asked about."""
_UNCOUNTED_HANDLERS = frozenset(
    ("/metrics", "/health", "/livez", "/load", "/ping", "/readyz", "/version", "/console/state")
)


@dataclass(frozen=True, slots=True)
class Ended:
    """A request that has ended. ``wall_s`` and ``spans`` (seconds by cause) are those of its slowest sample."""

    id: RequestId
    tenant: str
    prompt_tokens: int
    cached_tokens: int
    generated_tokens: int
    wall_s: float
    spans: dict[str, float]


@dataclass(slots=True)
class _Sequence:
    """Times of one sample on the monotonic clock; 0.0 where it has not happened yet."""

    spans: Spans
    scheduled_s: float = 0.0
    first_token_s: float = 0.0
    last_token_s: float = 0.0
    num_tokens: int = 0
    num_cached_tokens: int = 0


@dataclass(slots=True)
class _Record:
    """A request from its arrival to its end."""

    request: Request
    arrived_s: float
    sequences: list[_Sequence]


@dataclass(slots=True)
class _Totals:
    """Counters: they only grow, also over a restart of the engine."""

    values: dict[str, float] = field(default_factory=dict)

    def grow(self, name: str, now: int, before: int) -> None:
        """Add what a counter of the engine has grown; a smaller value means that the engine began anew."""
        self.values[name] = self.values.get(name, 0) + (now - before if now >= before else now)


class Metrics:
    """All series of one server, in a registry of its own.

    Invariant: ``_records`` holds the requests between ``arrived`` and ``finished``. All calls belong to one event loop.
    """

    def __init__(
        self,
        model_name: str,
        *,
        max_model_len: int = 131_072,
        kv: KVConfig | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._labels = (model_name, "0")
        self._cache = {} if kv is None else cache_facts(kv)
        self._clock = clock
        self._records: dict[RequestId, _Record] = {}
        self._stats = EngineStats()
        self._totals = _Totals({"computed": 0.0} | {name: 0.0 for name, _ in COUNTERS})
        self._finished = dict.fromkeys(FINISH_REASONS, 0)
        self._histograms = {
            name: (Histogram(bounds), text) for name, bounds, text in histogram_families(max_model_len)
        }
        self._step_tokens = self._histograms["iteration_tokens_total"][0]
        self._first_token_s = self._histograms["time_to_first_token_seconds"][0]
        self._between_tokens_s = self._histograms["inter_token_latency_seconds"][0]
        self._http = HttpNumbers()
        self._finished_latency_s = 0.0
        self._num_finished = 0
        self._rejections = dict.fromkeys(REASONS, 0)
        self._recent: deque[Ended] = deque(maxlen=_NUM_KEPT)
        self.registry = CollectorRegistry()
        self.registry.register(self)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    @property
    def num_finished(self) -> int:
        """Sequences that have ended, ever."""
        return self._num_finished

    @property
    def finished_latency_s(self) -> float:
        """Sum of the times from arrival to end over these."""
        return self._finished_latency_s

    @property
    def stats(self) -> EngineStats:
        """The engine after its last step."""
        return self._stats

    @property
    def totals(self) -> Mapping[str, float]:
        """Counters by name; they go on growing when the engine is replaced."""
        return self._totals.values

    @property
    def first_tokens(self) -> tuple[int, float]:
        """How many first tokens there were, and the seconds from their requests' arrivals, summed."""
        return self._first_token_s.count, self._first_token_s.total

    def recent(self, tenant: str) -> list[Ended]:
        """The tenant's requests among those that ended last, the newest first."""
        return [ended for ended in reversed(self._recent) if ended.tenant == tenant]

    def arrived(self, request: Request) -> None:
        """A request goes to the engine now."""
        now_s = self._clock()
        self._records[request.id] = _Record(request, now_s, [_Sequence(Spans(now_s)) for _ in range(request.n)])

    def observe(self, events: StepEvents) -> None:
        """What one step told. Requests that did not arrive here are counted in totals only."""
        now_s = events.at_s or self._clock()
        for scheduled in events.scheduled:
            record = self._records.get(scheduled.request_id)
            sequence = None if record is None else record.sequences[scheduled.index]
            if sequence is not None:
                sequence.spans.scheduled(scheduled.at_s or now_s, sequence.last_token_s)
            if scheduled.is_first:
                self._totals.values["prompt_tokens_cached"] += scheduled.cached_tokens
                if sequence is not None:
                    sequence.scheduled_s = scheduled.at_s or now_s
                    sequence.num_cached_tokens = scheduled.cached_tokens
        for preempted in events.preempted:
            if (record := self._records.get(preempted.request_id)) is not None:
                record.sequences[preempted.index].spans.preempted(now_s)
        for delta in events.deltas:
            if delta.token_ids and (record := self._records.get(delta.request_id)) is not None:
                self._note_tokens(record, delta, now_s)
        if events.stats is not None:
            self._note_stats(events.stats)

    def _note_tokens(self, record: _Record, delta: Delta, now_s: float) -> None:
        sequence = record.sequences[delta.index]
        if not sequence.spans.is_decoding:
            sequence.spans.token(now_s)
        if sequence.num_tokens == 0:
            sequence.first_token_s = now_s
            self._first_token_s.observe(now_s - record.arrived_s)
        else:
            self._between_tokens_s.observe(now_s - sequence.last_token_s)
        sequence.num_tokens += len(delta.token_ids)
        sequence.last_token_s = now_s

    def _note_stats(self, now: EngineStats) -> None:
        before, self._stats = self._stats, now
        grow = self._totals.grow
        grow("prefix_cache_queries", now.prefix_queries, before.prefix_queries)
        grow("prefix_cache_hits", now.prefix_hits, before.prefix_hits)
        grow("num_preemptions", now.num_preemptions, before.num_preemptions)
        grow("computed", now.prompt_tokens, before.prompt_tokens)
        grow("generation_tokens", now.generation_tokens, before.generation_tokens)
        if now.step_tokens > 0:
            self._step_tokens.observe(now.step_tokens)

    def finished(self, request_id: RequestId, reasons: Mapping[int, str]) -> Ended | None:
        """A request has ended, for its client: ``reasons`` by sample; one without a reason was aborted.

        None when it did not arrive here.
        """
        record = self._records.pop(request_id, None)
        if record is None:
            return None
        for index, sequence in enumerate(record.sequences):
            reason = reasons.get(index, "abort")
            self._finished[reason if reason in self._finished else "error"] += 1
            self._note_end(record, sequence)
        self._record("request_params_n", record.request.n)
        self._record("request_max_num_generation_tokens", max(one.num_tokens for one in record.sequences))
        ended = _ended(record)
        self._recent.append(ended)
        return ended

    def rejected(self, reason: str) -> None:
        """A request was refused because of one of the queue's limits."""
        self._rejections[reason] += 1

    def _record(self, name: str, value: float) -> None:
        self._histograms[name][0].observe(value)

    def _note_end(self, record: _Record, sequence: _Sequence) -> None:
        request, now_s = record.request, self._clock()
        last_s = sequence.last_token_s or now_s
        sequence.spans.ended(sequence.last_token_s, now_s)
        self._num_finished += 1
        self._finished_latency_s += now_s - record.arrived_s
        self._record("e2e_request_latency_seconds", now_s - record.arrived_s)
        self._record("request_prompt_tokens", len(request.prompt_ids))
        self._record("request_generation_tokens", sequence.num_tokens)
        self._record("request_params_max_tokens", request.stopping.max_tokens)
        self._record("request_num_preemptions", sequence.spans.num_preemptions)
        if sequence.scheduled_s:
            self._record("request_queue_time_seconds", max(0.0, sequence.scheduled_s - record.arrived_s))
            self._record("request_inference_time_seconds", max(0.0, last_s - sequence.scheduled_s))
            self._record("request_prefill_kv_computed_tokens", len(request.prompt_ids) - sequence.num_cached_tokens)
        if sequence.first_token_s:
            if sequence.scheduled_s:
                self._record("request_prefill_time_seconds", max(0.0, sequence.first_token_s - sequence.scheduled_s))
            decode_s = last_s - sequence.first_token_s
            self._record("request_decode_time_seconds", decode_s)
            if sequence.num_tokens > 1:
                self._record("request_time_per_output_token_seconds", decode_s / (sequence.num_tokens - 1))

    def answered(self, handler: str, method: str, status: int, seconds: float) -> None:
        """An HTTP exchange has ended. ``handler`` and ``method`` must come from closed sets."""
        if handler not in _UNCOUNTED_HANDLERS:
            self._http.note(handler, method, f"{status // 100}xx", seconds)

    def render(self) -> bytes:
        """All series in Prometheus' text format."""
        return generate_latest(self.registry)

    def describe(self) -> Iterable[Metric]:
        """Names for the registry's own check, without gathering anything."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """All families, as the registry asks for them."""
        yield from self._gauges()
        yield from self._counters()
        names = ("model_name", "engine")
        for name, (histogram, text) in self._histograms.items():
            family = HistogramMetricFamily(f"vllm:{name}", text, labels=names)
            histogram.add_to(family, self._labels)
            yield family
        yield from self._http.families()

    def _gauges(self) -> Iterator[Metric]:
        stats = self._stats
        used = stats.num_blocks_held / stats.num_blocks if stats.num_blocks else 0.0
        for name, text, value in (
            ("num_requests_running", "Sequences in the running batch.", stats.num_running),
            ("num_requests_waiting", "Sequences in the queue.", stats.num_waiting),
            ("kv_cache_usage_perc", "Share of the KV blocks that running sequences hold, 0 to 1.", used),
        ):
            gauge = GaugeMetricFamily(f"vllm:{name}", text, labels=("model_name", "engine"))
            gauge.add_metric(self._labels, value)
            yield gauge
        if self._cache:
            facts = GaugeMetricFamily(
                "vllm:cache_config_info", "The KV cache's configuration.", labels=(*self._cache, "engine")
            )
            facts.add_metric((*self._cache.values(), "0"), 1.0)
            yield facts

    def _counters(self) -> Iterator[Metric]:
        values = self._totals.values
        values["prompt_tokens"] = values["computed"] + values["prompt_tokens_cached"]
        names = ("model_name", "engine")
        for name, text in COUNTERS:
            counter = CounterMetricFamily(f"vllm:{name}", text, labels=names)
            counter.add_metric(self._labels, values[name])
            yield counter
        sources = CounterMetricFamily(
            "vllm:prompt_tokens_by_source", "Prompt tokens by where their KV came from.", labels=(*names, "source")
        )
        sources.add_metric((*self._labels, "local_compute"), values["computed"])
        sources.add_metric((*self._labels, "local_cache_hit"), values["prompt_tokens_cached"])
        yield sources
        success = CounterMetricFamily(
            "vllm:request_success", "Sequences that ended, by reason.", labels=(*names, "finished_reason")
        )
        for reason, count in self._finished.items():
            success.add_metric((*self._labels, reason), count)
        yield success
        rejected = CounterMetricFamily(
            "vllm:admission_rejections", "Requests refused because too much waits.", labels=("model_name", "reason")
        )
        for reason, count in self._rejections.items():
            rejected.add_metric((self._labels[0], reason), count)
        yield rejected


def _ended(record: _Record) -> Ended:
    slowest = max(record.sequences, key=lambda one: one.last_token_s)
    return Ended(
        record.request.id,
        record.request.tenant,
        len(record.request.prompt_ids),
        max(one.num_cached_tokens for one in record.sequences),
        sum(one.num_tokens for one in record.sequences),
        sum(slowest.spans.seconds.values()),
        dict(slowest.spans.seconds),
    )
