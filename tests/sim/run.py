"""Run the simulation from the command line: ``python -m tests.sim.run --operations 1000000``.

Not here: what is simulated (simulation.py), the tests that `make test` runs (test_simulation.py).
"""

from __future__ import annotations

import argparse
import time

from tests.sim.simulation import Simulation, Tally
from tests.sim.worlds import WORLDS


def main() -> None:
    """One line a run: its world, seed, trace hash, CPU seconds, and what happened.

    The first violation ends it with a traceback.
    """
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--operations", type=int, default=1_000_000, help="in total, over all worlds and seeds")
    parser.add_argument("--seeds", type=int, default=2, help="seeds of each world")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--world", choices=[world.name for world in WORLDS], help="only this one")
    asked = parser.parse_args()
    worlds = [world for world in WORLDS if asked.world in (None, world.name)]
    share = -(-asked.operations // (len(worlds) * asked.seeds))
    total, started_s = Tally(), time.process_time()
    for world in worlds:
        for seed in range(asked.first_seed, asked.first_seed + asked.seeds):
            before_s = time.process_time()
            simulation = Simulation(world, seed)
            tally = simulation.run(share)
            print(
                f"{world.name:24s} seed {seed}  trace {simulation.trace:+020d}",
                f" {time.process_time() - before_s:5.2f} s  {tally}",
                flush=True,
            )
            total = total + tally
    print(f"{total.operations} operations in {time.process_time() - started_s:.1f} s of CPU, no violation: {total}")


if __name__ == "__main__":
    main()
