"""What came out of a race: medians, shares of the machine's limit, ratios of Quire to the others.

Not here: running (rounds.py, serving.py), what they should be (goals.py), tables (standings.py), drawing (plot.py).
Door: Reading, Score, score, EngineFacts, Failure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from quire.bench.figures import percentile

SMALLER_IS_BETTER = ("s", "MB")


class Reading(Struct, frozen=True):
    """One figure of one racer: a job in a round. ``num_run``: how many of ``num_requests`` were really run.

    ``first_tokens``: the first token of each sequence, in the order of the prompts; equal rounds have equal prompts.
    """

    racer: str
    job: str
    unit: str
    value: float
    round: int = 0
    num_requests: int = 0
    num_run: int = 0
    first_tokens: tuple[int, ...] = ()


class Score(Struct, frozen=True, tag_field="record", tag="score"):
    """One racer's figure in one job: the median of ``runs``, in ``unit``.

    ``limit``: the machine's at these weights, None where it is not known. ``quire_ratio``: how many times better than
    this one Quire is (its figure over this one; where smaller is better, this one over its figure), None for Quire
    itself and where Quire did not run. ``same_first_tokens``: the share of sequences whose first token is Quire's;
    engines round differently, so a little below 1 is usual on random weights, and near 0 is a broken model.
    ``num_run``: where an engine takes requests one by one, how many of the job's ``num_requests`` were run.
    """

    racer: str
    is_quire: bool
    bits: int
    job: str
    num_requests: int
    num_run: int
    unit: str
    value: float
    runs: tuple[float, ...]
    limit: float | None
    quire_ratio: float | None
    same_first_tokens: float | None


class EngineFacts(Struct, frozen=True, tag_field="record", tag="engine"):
    """One racer: its version and settings, seconds from its process' start to the first token, and resident memory.

    ``resident_start_mb``: once its first token has been computed; ``resident_mb``: the most that was seen.
    """

    racer: str
    version: str
    settings: dict[str, object]
    start_s: tuple[float, ...]
    resident_start_mb: float
    resident_mb: float


class Failure(Struct, frozen=True, tag_field="record", tag="failure"):
    """What a racer could not do, or, with ``is_left_out``, what it was not asked because its time was up."""

    racer: str
    job: str
    error: str
    is_left_out: bool = False


def score(
    readings: Sequence[Reading],
    bits: Mapping[str, int],
    quires: Sequence[str],
    limits: Mapping[tuple[int, str], float],
) -> list[Score]:
    """The scores, by job and then in the order of ``bits``.

    ``bits`` of each racer; ``quires``: which racers are Quire (the best of as many bits is compared); ``limits``: the
    machine's, for bits and a job's name.
    """
    by_job: dict[str, dict[str, list[Reading]]] = {}
    for one in readings:
        by_job.setdefault(one.job, {}).setdefault(one.racer, []).append(one)
    return [
        _score(by_racer, racer, bits, quires, limits.get((bits[racer], job)))
        for job, by_racer in by_job.items()
        for racer in bits
        if racer in by_racer
    ]


def _score(
    by_racer: Mapping[str, list[Reading]],
    racer: str,
    bits: Mapping[str, int],
    quires: Sequence[str],
    limit: float | None,
) -> Score:
    mine = by_racer[racer]
    first = mine[0]
    value = _median(mine)
    is_smaller_better = first.unit in SMALLER_IS_BETTER
    rivals = [one for one in quires if one in by_racer and bits[one] == bits[racer]]
    pick = min if is_smaller_better else max
    quire = pick(rivals, key=lambda one: _median(by_racer[one]), default=None)
    ratio = same = None
    if quire is not None and racer not in quires:
        best = _median(by_racer[quire])
        ratio = value / best if is_smaller_better else best / value
        same = _same_first(mine, by_racer[quire])
    return Score(
        racer=racer,
        is_quire=racer in quires,
        bits=bits[racer],
        job=first.job,
        num_requests=first.num_requests,
        num_run=first.num_run,
        unit=first.unit,
        value=value,
        runs=tuple(one.value for one in mine),
        limit=limit,
        quire_ratio=ratio,
        same_first_tokens=same,
    )


def _median(readings: Sequence[Reading]) -> float:
    return percentile(sorted(one.value for one in readings), 50)


def _same_first(mine: Sequence[Reading], theirs: Sequence[Reading]) -> float | None:
    by_round = {one.round: one.first_tokens for one in theirs}
    pairs = [
        pair
        for one in mine
        for pair in zip(one.first_tokens, by_round.get(one.round, ()), strict=False)  # one by one: fewer were run
    ]
    return sum(left == right for left, right in pairs) / len(pairs) if pairs else None
