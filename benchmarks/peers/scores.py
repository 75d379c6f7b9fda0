"""What came out of a race: medians, shares of the machine's limit, ratios of Quire to the others, and their table.

Not here: running (race.py), drawing (plot.py).
Door: Score, EngineFacts, score, standings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from quire.bench.figures import percentile
from quire.bench.jobs import counts_prompts, name_of
from quire.bench.offline import Batch
from quire.bench.report import table


class Score(Struct, frozen=True):
    """One racer's figure in one job: tokens a second, the median of ``runs``.

    ``limit``: the machine's at these weights, None where it is not known. ``quire_ratio``: Quire's figure over this
    one, None for Quire itself and where Quire did not run. ``same_first_tokens``: the share of sequences whose first
    token is Quire's; engines round differently, so a little below 1 is usual on random weights, and near 0 is a broken
    model.
    """

    racer: str
    is_quire: bool
    bits: int
    job: str
    num_requests: int
    unit: str
    value: float
    runs: tuple[float, ...]
    limit: float | None
    quire_ratio: float | None
    same_first_tokens: float | None


class EngineFacts(Struct, frozen=True):
    """One racer: its version and settings, seconds from its process' start to the first token, the most memory seen."""

    racer: str
    version: str
    settings: dict[str, object]
    start_s: tuple[float, ...]
    resident_mb: float


class Failure(Struct, frozen=True):
    """What a racer could not do."""

    racer: str
    job: str
    error: str


class Run(Struct, frozen=True):
    """One job of one racer in one round."""

    racer: str
    batch: Batch
    seconds: float
    first_tokens: tuple[int, ...]

    @property
    def rate(self) -> float:
        batch = self.batch
        return (batch.num_input_tokens if counts_prompts(batch) else batch.num_output_tokens) / self.seconds


def score(
    runs: Sequence[Run], bits: Mapping[str, int], quires: Sequence[str], limits: Mapping[str, float]
) -> list[Score]:
    """The scores, by job and then in the order of ``bits``.

    ``bits`` of each racer; ``quires``: which racers are Quire (the fastest of as many bits is compared); ``limits``:
    the machine's for each job's name at 16 bits.
    """
    by_job: dict[str, dict[str, list[Run]]] = {}
    for run in runs:
        by_job.setdefault(name_of(run.batch), {}).setdefault(run.racer, []).append(run)
    return [
        _score(job, racer, by_racer, bits, quires, limits.get(job) if bits[racer] == 16 else None)
        for job, by_racer in by_job.items()
        for racer in bits
        if racer in by_racer
    ]


def _score(
    job: str,
    racer: str,
    by_racer: Mapping[str, list[Run]],
    bits: Mapping[str, int],
    quires: Sequence[str],
    limit: float | None,
) -> Score:
    runs = by_racer[racer]
    value = _median(runs)
    rivals = [one for one in quires if one in by_racer and bits[one] == bits[racer]]
    quire = max(rivals, key=lambda one: _median(by_racer[one]), default=None)
    ratio = same = None
    if quire is not None and racer not in quires:
        ratio = _median(by_racer[quire]) / value
        same = _same_first(runs, by_racer[quire])
    batch = runs[0].batch
    unit = "prompt tokens/s" if counts_prompts(batch) else "output tokens/s"
    rates = tuple(run.rate for run in runs)
    return Score(racer, racer in quires, bits[racer], job, batch.num_prompts, unit, value, rates, limit, ratio, same)


def _median(runs: Sequence[Run]) -> float:
    return percentile(sorted(run.rate for run in runs), 50)


def _same_first(runs: Sequence[Run], others: Sequence[Run]) -> float:
    pairs = [
        pair
        for run, other in zip(runs, others, strict=False)  # one that left the race has fewer
        for pair in zip(run.first_tokens, other.first_tokens, strict=True)
    ]
    return sum(mine == theirs for mine, theirs in pairs) / len(pairs)


def standings(scores: Sequence[Score], facts: Sequence[EngineFacts]) -> str:
    """Tables for people: a row for each job, a column for each racer; then start and memory."""
    racers = list(dict.fromkeys(one.racer for one in scores)) or [fact.racer for fact in facts]
    found = {(one.job, one.racer): one for one in scores}
    rows = []
    for job in dict.fromkeys(one.job for one in scores):
        here = [found.get((job, racer)) for racer in racers]
        limit = next((one.limit for one in here if one and one.limit), None)
        share = next((100 * one.value / one.limit for one in here if one and one.limit and one.is_quire), None)
        rows.append(
            [
                job,
                *(f"{one.value:.1f}" if one else "-" for one in here),
                f"{limit:.0f}" if limit else "-",
                f"{share:.0f} %" if share else "-",
                _least_ratio(here),
            ]
        )
    parts = []
    if rows:
        parts.append(table(("tokens/s", *racers, "limit", "Quire of it", "Quire / best"), rows))
        if any(one.quire_ratio is not None for one in scores):
            parts.append(_ratios(found, racers))
    if facts:
        about = [(fact.racer, fact.version, _start(fact), f"{fact.resident_mb:.0f}") for fact in facts]
        parts.append(table(("engine", "version", "start to first token, s", "resident MB"), about))
    return "\n\n".join(parts)


def _least_ratio(here: Sequence[Score | None]) -> str:
    ratios = [one.quire_ratio for one in here if one and one.quire_ratio is not None]
    return f"{min(ratios):.2f} x" if ratios else "-"


def _ratios(found: Mapping[tuple[str, str], Score], racers: Sequence[str]) -> str:
    """Quire over each other racer, with lowest and highest round, and whether both computed the same."""
    rows = []
    for (job, racer), one in found.items():
        if one.quire_ratio is not None and racer in racers:
            low, high = min(one.runs), max(one.runs)
            same = "-" if one.same_first_tokens is None else f"{100 * one.same_first_tokens:.0f} %"
            rows.append((job, racer, f"{one.quire_ratio:.2f} x", f"{low:.1f}", f"{high:.1f}", same))
    return table(("job", "engine", "Quire / it", "its lowest", "its highest", "same first token"), rows)


def _start(fact: EngineFacts) -> str:
    return f"{percentile(sorted(fact.start_s), 50):.2f}" if fact.start_s else "-"
