"""The simulation has teeth: it finds planted bugs, and finds nothing where none is planted."""

from __future__ import annotations

import pytest

from tests.sim.mutants import MUTANTS
from tests.sim.simulation import Simulation
from tests.sim.worlds import WORLDS

MOST_ESCAPES = 1
OPERATIONS = 4_000
SEED = 100


def hunt() -> str | None:
    """The first violation in any world, in words; None when there is none."""
    for world in WORLDS:
        try:
            Simulation(world, SEED).run(OPERATIONS)
        except Exception as violation:
            return f"{world.name}: {type(violation).__name__}: {violation}"
    return None


def test_nothing_is_found_where_no_bug_is_planted() -> None:
    assert hunt() is None


def test_planted_bugs_are_found(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(MUTANTS) == 25
    found: dict[str, str | None] = {}
    for name, plant in MUTANTS.items():
        with monkeypatch.context() as patch:
            plant(patch)
            found[name] = hunt()
    escaped = [name for name, violation in found.items() if violation is None]
    with capsys.disabled():
        print(
            f"\n{len(found) - len(escaped)} of {len(found)} planted bugs found; escaped: {', '.join(escaped) or 'none'}"
        )
    assert len(escaped) <= MOST_ESCAPES, found
