"""Whether the goals are met: ``goals.toml`` says what is wanted, a race's scores what was found.

Not here: measuring.
Door: read_goals, judge, Goal, Verdict.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from benchmarks.peers.scores import Score

GOALS = Path(__file__).with_name("goals.toml")


class Goal(Struct, frozen=True, forbid_unknown_fields=True):
    """What is wanted of Quire in one job.

    ``measure``: "limit" (share of the machine's), "best peer" (times better than the best of as many bits, but for
    transformers one by one), the name of a racer (times better than it), or "value" (the figure itself).
    """

    job: str
    measure: str
    bits: int = 16
    at_least: float | None = None
    at_most: float | None = None


class Verdict(Struct, frozen=True, tag_field="record", tag="goal"):
    """A goal and what was found; ``is_met`` None: not measured in this race."""

    job: str
    measure: str
    wanted: str
    found: str
    value: float | None
    is_met: bool | None

    @property
    def word(self) -> str:
        return {True: "met", False: "MISSED", None: "not measured"}[self.is_met]


class _Goals(Struct, forbid_unknown_fields=True):
    goal: list[Goal]


def read_goals(path: Path = GOALS) -> list[Goal]:
    """The goals of the file, in its order.

    Raises: ValueError (msgspec.ValidationError) when a goal has an unknown or a missing field.
    """
    return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), _Goals).goal


def judge(goals: Sequence[Goal], scores: Sequence[Score]) -> list[Verdict]:
    """A verdict for each goal."""
    return [_judge(goal, [one for one in scores if one.job == goal.job and one.bits == goal.bits]) for goal in goals]


def _judge(goal: Goal, here: Sequence[Score]) -> Verdict:
    value = _found(goal.measure, here)
    wanted = f">= {goal.at_least:g}" if goal.at_least is not None else f"<= {goal.at_most:g}"
    name = goal.job if goal.bits == 16 else f"{goal.job}, {goal.bits} bits"
    if value is None:
        return Verdict(name, goal.measure, wanted, "-", None, None)
    is_met = (goal.at_least is None or value >= goal.at_least) and (goal.at_most is None or value <= goal.at_most)
    return Verdict(name, goal.measure, wanted, f"{value:.3g}" if value < 100 else f"{value:.0f}", value, is_met)


def _found(measure: str, here: Sequence[Score]) -> float | None:
    quires = [one for one in here if one.is_quire]
    if measure == "value":
        return quires[0].value if quires else None
    if measure == "limit":
        return max((one.value / one.limit for one in quires if one.limit), default=None)
    ratios = [
        one.quire_ratio
        for one in here
        if one.quire_ratio is not None
        and (one.racer != "transformers" if measure == "best peer" else one.racer == measure)
    ]
    return min(ratios, default=None)
