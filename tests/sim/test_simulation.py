"""A million random operations: no invariant is violated, every token is the reference's, everybody finishes, nobody
starves.
"""

from __future__ import annotations

import pytest

from tests.sim.simulation import Simulation
from tests.sim.worlds import WORLDS, World

SEEDS = (0, 1)
OPERATIONS = -(-1_000_000 // (len(WORLDS) * len(SEEDS)))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_random_operations_violate_nothing(world: World, seed: int) -> None:
    tally = Simulation(world, seed).run(OPERATIONS)
    assert tally.operations >= OPERATIONS
    assert min(tally.submits, tally.steps, tally.cancels, tally.failures, tally.resets, tally.finishes) > 40
    assert tally.preemptions > 10, "the world is too roomy to test anything"
    assert tally.hits > 100 or not world.caches
    assert tally.forks > 10 or world.block_size == 1, "with one token a block nothing is ever copied"


@pytest.mark.parametrize("world", WORLDS[::3], ids=lambda world: world.name)
def test_the_same_seed_gives_the_same_trace_and_another_one_another(world: World) -> None:
    runs = [Simulation(world, seed) for seed in (7, 7, 8)]
    for run in runs:
        run.run(2_000)
    assert runs[0].trace == runs[1].trace != runs[2].trace
