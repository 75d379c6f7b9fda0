"""benchmarks/peers: the arithmetic of scores, the goals and their verdicts, the tables and the curve."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from benchmarks.peers.goals import Goal, judge, read_goals
from benchmarks.peers.parts import OFFLINE, SERVED
from benchmarks.peers.plot import curves
from benchmarks.peers.scores import EngineFacts, Failure, Reading, Score, score
from benchmarks.peers.standings import standings
from quire.bench.jobs import name_of

JOB = "2 x 10 + 5"
BITS = {"quire": 16, "fast": 16, "slow": 16, "quire-int8": 8, "quire-w8a8": 8, "q8": 8}
QUIRES = ["quire", "quire-int8", "quire-w8a8"]


def readings() -> list[Reading]:
    rates = {
        "quire": (10.0, 20.0, 5.0),
        "fast": (5.0, 5.0, 5.0),
        "slow": (2.5, 2.0),
        "quire-int8": (20.0,),
        "quire-w8a8": (25.0,),
        "q8": (10.0,),
    }
    return [
        Reading(racer, JOB, "output tokens/s", rate, number, 2, 2, (1, 2) if racer != "slow" else (1, 3))
        for racer, several in rates.items()
        for number, rate in enumerate(several)
    ]


def scores() -> list[Score]:
    return score(readings(), BITS, QUIRES, {(16, JOB): 20.0})


def test_scores_are_medians_and_ratios_are_to_the_best_of_quire_at_as_many_bits() -> None:
    found = {one.racer: one for one in scores()}
    assert (found["quire"].value, found["quire"].quire_ratio, found["quire"].limit) == (10.0, None, 20.0)
    assert (found["fast"].quire_ratio, found["fast"].same_first_tokens) == (2.0, 1.0)
    assert found["slow"].quire_ratio == pytest.approx(10 / 2.25)
    assert found["slow"].same_first_tokens == 0.5
    assert (found["q8"].quire_ratio, found["q8"].limit) == (2.5, None)


def test_where_smaller_is_better_the_ratio_is_turned_round() -> None:
    starts = [Reading("quire", "ready", "s", 2.0), Reading("fast", "ready", "s", 30.0)]
    assert score(starts, BITS, QUIRES, {})[1].quire_ratio == 15.0


def test_without_quire_there_are_figures_and_no_ratios() -> None:
    found = score([one for one in readings() if one.racer == "fast"], BITS, QUIRES, {})
    assert [(one.racer, one.quire_ratio, one.same_first_tokens) for one in found] == [("fast", None, None)]
    assert "5.00" in standings(found, [])


def test_goals_are_met_missed_or_not_measured() -> None:
    goals = [
        Goal(JOB, "limit", at_least=0.5),
        Goal(JOB, "best peer", at_least=2.5),
        Goal(JOB, "slow", at_least=4),
        Goal(JOB, "value", at_most=9),
        Goal(JOB, "best peer", bits=8, at_least=2.5),
        Goal(JOB, "nobody", at_least=1),
        Goal("another", "limit", at_least=1),
    ]
    found = judge(goals, scores())
    assert [one.is_met for one in found] == [True, False, True, False, True, None, None]
    assert found[1].value == 2.0
    assert [one.word for one in found[:2]] == ["met", "MISSED"]


def test_the_best_of_quire_counts_and_transformers_one_by_one_is_no_best_peer() -> None:
    slow = Reading("transformers", JOB, "output tokens/s", 8.0, 0, 2, 1)
    everybody = score([*readings(), slow], {**BITS, "transformers": 16}, QUIRES, {(8, JOB): 50.0})
    goals = [Goal(JOB, "best peer", at_least=2.0), Goal(JOB, "transformers", at_least=2.0)]
    assert [one.value for one in judge(goals, everybody)] == [2.0, 1.25]
    assert judge([Goal(JOB, "limit", bits=8, at_least=0.5)], everybody)[0].value == 0.5


def test_every_goal_of_the_file_names_a_job_that_a_race_has() -> None:
    jobs = {name_of(batch) for part in OFFLINE.values() for batch in part.batches}
    labels = {part.label for part in SERVED.values()}
    loads = {f"{part.label}, {job.name}" for part in SERVED.values() for job in part.jobs}
    measured = {"ready warm", "resident at most", "resident beyond weights and KV"}
    goals = read_goals()
    assert len(goals) > 20
    for goal in goals:
        label, _, what = goal.job.partition(", ")
        assert goal.job in jobs | loads or (label in labels and what in measured), goal
        assert (goal.at_least is None) != (goal.at_most is None), goal


def test_a_goal_with_a_field_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "goals.toml"
    file.write_text('[[goal]]\njob = "x"\nmeasure = "limit"\nat_leest = 1\n', encoding="utf-8")
    with pytest.raises(msgspec.ValidationError, match="at_leest"):
        read_goals(file)


def test_the_tables_name_shares_ratios_goals_and_who_failed() -> None:
    few = Reading("transformers", JOB, "output tokens/s", 1.0, 0, 2, 1)
    everybody = score([*readings(), few], {**BITS, "transformers": 16}, QUIRES, {(16, JOB): 20.0})
    facts = [EngineFacts("quire", "0.1", {}, (2.0, 1.0, 9.0), 300, 512)]
    verdicts = judge([Goal(JOB, "limit", at_least=0.6)], everybody)
    failures = [Failure("openvino", "start", "its process ended"), Failure("slow", JOB, "late", is_left_out=True)]
    lines = [" ".join(line.split()) for line in standings(everybody, facts, [], verdicts, failures).splitlines()]
    assert f"{JOB} output tokens/s 10.0 5.00 2.25 1.00 (1 of 2 run) 20 50 % 2.00 x" in lines
    assert f"{JOB} output tokens/s 20.0 25.0 10.0 - - 2.50 x" in lines
    assert "quire 0.1 2.00 300 512" in lines
    assert f"{JOB} limit >= 0.6 0.5 MISSED" in lines
    assert "openvino start FAILED its process ended" in lines
    assert f"slow {JOB} left out late" in lines


def test_the_curve_takes_jobs_of_128_and_64_tokens_that_were_run_in_full() -> None:
    common: dict[str, object] = {"racer": "quire", "bits": 16, "unit": "output tokens/s"}

    def point(job: str, num_run: int, value: float, limit: float) -> dict[str, object]:
        num_requests = int(job.split()[0])
        return {
            **common, "job": job, "num_requests": num_requests, "num_run": num_run, "value": value, "limit": limit
        }  # fmt: skip

    records = [
        {"machine": {}},
        point("8 x 128 + 64", 8, 100.0, 200.0),
        point("1 x 128 + 64", 1, 30.0, 40.0),
        point("1 x 16 + 64", 1, 31.0, 41.0),
        point("64 x 128 + 64", 8, 5.0, 300.0),
    ]
    assert curves(records) == ({("quire", 16): [(1, 30.0), (8, 100.0)]}, [(1, 40.0), (8, 200.0)])
    assert curves(records[:2]) == ({}, [])
