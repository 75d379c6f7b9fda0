"""The race's tables for people.

Not here: the figures (scores.py), the goals (goals.py).
Door: standings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.peers.goals import Verdict
from benchmarks.peers.scores import EngineFacts, Failure, Score
from benchmarks.peers.serving import ServedRun
from quire.bench.figures import percentile
from quire.bench.report import table


def standings(
    scores: Sequence[Score],
    facts: Sequence[EngineFacts],
    served: Sequence[ServedRun] = (),
    verdicts: Sequence[Verdict] = (),
    failures: Sequence[Failure] = (),
) -> str:
    """A row for each job and a column for each racer, at as many bits; then ratios, starts, memory, loads and goals."""
    parts = [_jobs([one for one in scores if one.bits == bits], bits) for bits in (16, 8, 4)]
    parts.append(_ratios(scores))
    if facts:
        rows = [
            (one.racer, one.version, _start(one), f"{one.resident_start_mb:.0f}", f"{one.resident_mb:.0f}")
            for one in facts
        ]
        parts.append(table(("engine", "version", "start to first token, s", "then MB", "most MB"), rows))
    if served:
        parts.append(_served(served))
    judged = [(one.job, one.measure, one.wanted, one.found, one.word) for one in verdicts if one.is_met is not None]
    if judged:
        parts.append(table(("goal", "measure", "wanted", "found", ""), judged))
    if len(judged) < len(verdicts):
        parts.append(f"{len(verdicts) - len(judged)} of {len(verdicts)} goals were not measured in this race.")
    if failures:
        lost = [(one.racer, one.job, "left out" if one.is_left_out else "FAILED", one.error[:100]) for one in failures]
        parts.append(table(("engine", "job", "", "why"), lost))
    return "\n\n".join(part for part in parts if part)


def _jobs(scores: Sequence[Score], bits: int) -> str:
    racers = list(dict.fromkeys(one.racer for one in scores))
    found: Mapping[tuple[str, str], Score] = {(one.job, one.racer): one for one in scores}
    rows = []
    for job in dict.fromkeys(one.job for one in scores):
        here = [found.get((job, racer)) for racer in racers]
        limit = next((one.limit for one in here if one and one.limit), None)
        best = max((one for one in here if one and one.limit and one.is_quire), key=lambda one: one.value, default=None)
        rows.append(
            [
                job,
                next(one.unit for one in here if one),
                *(_value(one) for one in here),
                f"{limit:.0f}" if limit else "-",
                f"{100 * best.value / best.limit:.0f} %" if best and best.limit else "-",
                _least_ratio(here),
            ]
        )
    return table((f"{bits} bits", "unit", *racers, "limit", "Quire of it", "Quire / best"), rows) if rows else ""


def _value(one: Score | None) -> str:
    if one is None:
        return "-"
    part = f" ({one.num_run} of {one.num_requests} run)" if one.num_run < one.num_requests else ""
    return (f"{one.value:.2f}" if one.value < 10 else f"{one.value:.1f}") + part


def _least_ratio(here: Sequence[Score | None]) -> str:
    ratios = [one.quire_ratio for one in here if one and one.quire_ratio is not None]
    return f"{min(ratios):.2f} x" if ratios else "-"


def _ratios(scores: Sequence[Score]) -> str:
    """Quire over each other racer, with lowest and highest round, and whether both computed the same."""
    rows = []
    for one in scores:
        if one.quire_ratio is not None:
            same = "-" if one.same_first_tokens is None else f"{100 * one.same_first_tokens:.0f} %"
            low, high = min(one.runs), max(one.runs)
            rows.append((one.job, one.racer, f"{one.quire_ratio:.2f} x", f"{low:.1f}", f"{high:.1f}", same))
    return table(("job", "engine", "Quire / it", "its lowest", "its highest", "same first token"), rows) if rows else ""


def _served(served: Sequence[ServedRun]) -> str:
    header = ("load", "server", "tokens/s", "good/s", "ttft p50", "p99 ms", "tpot p50", "p99 ms", "itl p99", "client")
    rows = []
    for run in served:
        one = run.result
        good = "-" if one.request_goodput is None else f"{one.request_goodput:.2f}"
        times = (one.median_ttft_ms, one.p99_ttft_ms, one.median_tpot_ms, one.p99_tpot_ms, one.p99_itl_ms)
        share = f"{100 * one.client_cpu_s / one.duration:.0f} %"
        rows.append((run.job, run.racer, f"{one.output_throughput:.1f}", good, *(f"{ms:.1f}" for ms in times), share))
    return table(header, rows)


def _start(fact: EngineFacts) -> str:
    return f"{percentile(sorted(fact.start_s), 50):.2f}" if fact.start_s else "-"
