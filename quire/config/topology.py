"""Which processors there are, which are one core, and which memory is near: facts of /sys, and a choice of them.

Not here: quotas and memory (machine.py), keeping threads to what was chosen (worker/threads.py).
Door: Topology, read_topology, Placement, place, parse_cpus.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from msgspec import Struct

from quire.errors import ConfigError

AUTO, NONE = "auto", "nobind"
"""Values of --cpu-omp-threads-bind besides a list of processors."""


class Processor(Struct, frozen=True, array_like=True):
    """One processor by the kernel's number. ``core``: the lowest of those that share its core; ``node``: its memory."""

    cpu: int
    core: int
    node: int


class Topology(Struct, frozen=True):
    """The processors that this process may use; empty where /sys does not say. ``memory_nodes``: nodes with memory."""

    processors: tuple[Processor, ...] = ()
    memory_nodes: tuple[int, ...] = ()

    @property
    def num_cores(self) -> int:
        """Cores, whose siblings count once."""
        return len({one.core for one in self.processors})

    @property
    def nodes(self) -> dict[int, list[int]]:
        """For each node the processors to compute on: the first one allowed of each core."""
        first: dict[int, Processor] = {}
        for one in self.processors:
            first.setdefault(one.core, one)
        found: dict[int, list[int]] = {}
        for one in first.values():
            found.setdefault(one.node, []).append(one.cpu)
        return dict(sorted(found.items()))


class Placement(Struct, frozen=True):
    """Where the worker computes. ``cpus``: processors that its threads keep to, none: any; ``nodes``: where its memory
    should lie, none: wherever it is first written.
    """

    cpus: tuple[int, ...] = ()
    nodes: tuple[int, ...] = ()
    reason: str = ""


def read_topology(root: Path, allowed: Collection[int]) -> Topology:
    """Look at ``root``/sys for the processors of ``allowed``."""
    node_of: dict[int, int] = {}
    folder = root / "sys/devices/system/node"
    for node in folder.glob("node[0-9]*"):
        node_of |= dict.fromkeys(_listed(node / "cpulist"), int(node.name.removeprefix("node")))
    processors = []
    for cpu in sorted(allowed):
        siblings = _listed(root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        if not siblings:
            return Topology()
        processors.append(Processor(cpu, siblings[0], node_of.get(cpu, 0)))
    return Topology(tuple(processors), tuple(_listed(folder / "has_memory")))


def parse_cpus(text: str) -> list[int]:
    """The numbers of a list such as "0-3,8", in order.

    Raises: ValueError.
    """
    found: set[int] = set()
    for part in text.strip().split(","):
        match = re.fullmatch(r"\s*(\d{1,5})(?:-(\d{1,5}))?\s*", part)
        numbers = range(int(match[1]), int(match[2] or match[1]) + 1) if match else range(0)
        if not numbers:
            raise ValueError(f"{part!r} is no processor and no range of them")
        found |= set(numbers)
    return sorted(found)


def place(topology: Topology, num_threads: int, asked: str = AUTO) -> Placement:
    """Where so many threads compute. ``asked``: auto (on a machine of several nodes, as few of them as have enough
    cores), nobind, or a list of processors.

    Raises: ConfigError for a list that is none, or of processors that this process may not use.
    """
    if asked == NONE:
        return Placement(reason="asked for")
    if asked != AUTO:
        return _as_asked(topology, asked)
    nodes = topology.nodes
    if len(nodes) < 2:
        return Placement(reason="one node of memory: the kernel places threads well")
    chosen = _few_nodes(nodes, num_threads)
    cpus = sorted(_even(chosen, nodes, num_threads))
    if num_threads > len(cpus):  # more threads than cores were asked for: siblings too
        cpus = [one.cpu for one in topology.processors if one.node in chosen]
    reason = f"{num_threads} threads on {len(chosen)} of {len(nodes)} nodes of memory"
    return Placement(tuple(cpus), _with_memory(topology, chosen), reason)


def _as_asked(topology: Topology, asked: str) -> Placement:
    try:
        cpus = parse_cpus(asked)
    except ValueError as error:
        raise ConfigError(
            f"--cpu-omp-threads-bind {asked} is no list of processors ({error}); say auto, nobind or, for example, 0-7."
        ) from None
    node_of = {one.cpu: one.node for one in topology.processors}
    foreign = [cpu for cpu in cpus if cpu not in node_of]
    if foreign:
        there = ", ".join(str(cpu) for cpu in node_of) or "unknown: /sys does not say"
        raise ConfigError(
            f"--cpu-omp-threads-bind {asked} names processor {foreign[0]}, which this process may not use; it may use "
            f"these: {there}."
        )
    nodes = sorted({node_of[cpu] for cpu in cpus})
    return Placement(tuple(cpus), _with_memory(topology, nodes) if len(topology.nodes) > 1 else (), "asked for")


def _few_nodes(nodes: dict[int, list[int]], num_threads: int) -> list[int]:
    """The smallest node with enough cores; where none has, the largest ones until they have."""
    enough = [node for node, cpus in nodes.items() if len(cpus) >= num_threads]
    if enough:
        return [min(enough, key=lambda node: (len(nodes[node]), node))]
    chosen: list[int] = []
    for node in sorted(nodes, key=lambda node: (-len(nodes[node]), node)):
        if sum(len(nodes[one]) for one in chosen) >= num_threads:
            break
        chosen.append(node)
    return sorted(chosen)


def _even(chosen: list[int], nodes: dict[int, list[int]], count: int) -> list[int]:
    """So many cores of these nodes, from each in turn: their memories are read alike."""
    longest = max(len(nodes[node]) for node in chosen)
    turns = [nodes[node][turn] for turn in range(longest) for node in chosen if turn < len(nodes[node])]
    return turns[:count]


def _with_memory(topology: Topology, nodes: list[int]) -> tuple[int, ...]:
    return tuple(node for node in nodes if not topology.memory_nodes or node in topology.memory_nodes)


def _listed(path: Path) -> list[int]:
    try:
        text = path.read_text().strip()
        return parse_cpus(text) if text else []
    except (OSError, ValueError):
        return []
