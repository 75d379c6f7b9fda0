"""How many threads the worker has, and where they and its memory are kept.

Not here: the topology itself (topology.py), the rest of the device (resolve.py).
Door: decide_threads.
"""

from __future__ import annotations

from msgspec import Struct

from quire.config.device import DeviceOptions
from quire.config.env import Env
from quire.config.ledger import Ledger
from quire.config.machine import Machine
from quire.config.topology import AUTO, NONE, Placement, place


class Threads(Struct, frozen=True):
    """Of the worker."""

    number: int
    placement: Placement


def decide_threads(options: DeviceOptions, machine: Machine, env: Env, ledger: Ledger) -> Threads:
    """As many as asked for; else one a processor of the list asked for, else one a core.

    Raises: ConfigError for a list of processors that cannot be had.
    """
    bind = options.cpu_omp_threads_bind
    number, reason = options.num_threads, "asked for"
    if not number and bind not in (AUTO, NONE):
        number, reason = len(place(machine.topology, 1, bind).cpus), "one for each processor of --cpu-omp-threads-bind"
    elif not number:
        number, reason = machine.num_cores, why(machine)
        if 0 < env.num_threads < number:
            number, reason = env.num_threads, "OMP_NUM_THREADS"
    placement = place(machine.topology, number, bind)
    ledger.note("num_threads", number, reason, source="machine")
    where = ",".join(map(str, placement.cpus)) or "any"
    ledger.note("cpu_omp_threads_bind", f"processors {where}", placement.reason, source="machine")
    return Threads(number, placement)


def why(machine: Machine) -> str:
    """Where the number of cores comes from."""
    cores, num_processors = machine.topology.num_cores, len(machine.topology.processors)
    if not cores:
        return "processors that affinity and quota leave to this process"
    text = f"cores of the {num_processors} processors that this process may use"
    return f"the quota of {machine.quota:g} processors" if 0 < machine.quota < cores else text
