from __future__ import annotations

from pathlib import Path

import pytest

from quire.config.decide_threads import decide_threads
from quire.config.device import DeviceOptions
from quire.config.env import Env
from quire.config.ledger import Ledger
from quire.config.machine import Machine, read_machine
from quire.config.topology import Placement, Topology, parse_cpus, place, read_topology
from quire.errors import ConfigError


def machine(root: Path, nodes: list[int], *, siblings: int = 2, allowed: list[int] | None = None) -> Machine:
    """Nodes of so many cores; processor c and its sibling c + number of cores, as Linux counts them."""
    num_cores = sum(nodes)
    first = 0
    for node, count in enumerate(nodes):
        cpus = [core + level * num_cores for level in range(siblings) for core in range(first, first + count)]
        first += count
        folder = root / f"sys/devices/system/node/node{node}"
        folder.mkdir(parents=True)
        (folder / "cpulist").write_text(",".join(map(str, cpus)) + "\n")
        for cpu in cpus:
            folder = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
            folder.mkdir(parents=True)
            listed = ",".join(str(cpu % num_cores + level * num_cores) for level in range(siblings))
            (folder / "thread_siblings_list").write_text(listed + "\n")
    (root / "sys/devices/system/node/has_memory").write_text(f"0-{len(nodes) - 1}\n")
    return read_machine(root, range(num_cores * siblings) if allowed is None else allowed)


def test_siblings_count_once(tmp_path: Path) -> None:
    found = machine(tmp_path, [4])
    assert (found.num_cores, len(found.topology.processors), found.topology.nodes) == (4, 8, {0: [0, 1, 2, 3]})


def test_affinity_counts_cores_and_not_processors(tmp_path: Path) -> None:
    found = machine(tmp_path, [4], allowed=[1, 5, 6, 3])
    assert found.num_cores == 3 and found.topology.nodes == {0: [1, 3, 6]}


def test_a_quota_leaves_fewer_threads_than_cores_and_never_none(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text("250000 100000")
    found = machine(tmp_path, [4])
    assert (found.num_cores, found.quota) == (2, 2.5)
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text("50000 100000")
    assert read_machine(tmp_path, range(8)).num_cores == 1


def test_where_the_kernel_does_not_say_each_processor_is_a_core(tmp_path: Path) -> None:
    found = read_machine(tmp_path, [0, 1, 2])
    assert found.num_cores == 3 and found.topology == Topology()
    assert place(found.topology, 3).cpus == ()


def test_one_node_is_left_to_the_kernel(tmp_path: Path) -> None:
    assert place(machine(tmp_path, [8]).topology, 4) == Placement(
        reason="one node of memory: the kernel places threads well"
    )


@pytest.mark.parametrize(
    ("num_threads", "cpus", "nodes"),
    [
        (2, (0, 1), (0,)),  # the smallest that has enough
        (4, (2, 3, 4, 5), (1,)),
        (3, (2, 3, 4), (1,)),
        (6, (2, 3, 4, 6, 7, 8), (1, 2)),  # from both alike
        (10, (0, 1, 2, 3, 4, 5, 6, 7, 8, 9), (0, 1, 2)),
        (13, tuple(range(20)), (0, 1, 2)),  # more than cores: siblings too
    ],
)
def test_threads_take_as_few_nodes_as_have_enough_cores(
    tmp_path: Path, num_threads: int, cpus: tuple[int, ...], nodes: tuple[int, ...]
) -> None:
    placement = place(machine(tmp_path, [2, 4, 4]).topology, num_threads)
    assert (placement.cpus, placement.nodes) == (cpus, nodes)


def test_a_node_without_memory_gets_none(tmp_path: Path) -> None:
    machine(tmp_path, [2, 2])
    (tmp_path / "sys/devices/system/node/has_memory").write_text("0\n")
    assert place(read_topology(tmp_path, range(8)), 4).nodes == (0,)


def test_processors_can_be_named_or_left_free(tmp_path: Path) -> None:
    topology = machine(tmp_path, [2, 2]).topology
    assert place(topology, 9, "2-3,7") == Placement((2, 3, 7), (1,), "asked for")
    assert place(topology, 2, "nobind") == Placement((), (), "asked for")
    single = machine(tmp_path / "single", [4]).topology
    assert place(single, 2, "1,2") == Placement((1, 2), (), "asked for")


@pytest.mark.parametrize(("asked", "said"), [("0-9", "names processor 8"), ("x", "no list"), ("3-", "no list")])
def test_processors_that_cannot_be_had_are_refused_with_those_that_can(tmp_path: Path, asked: str, said: str) -> None:
    topology = machine(tmp_path, [2, 2]).topology
    with pytest.raises(ConfigError, match=said):
        place(topology, 2, asked)


def test_lists_of_processors_are_read_as_the_kernel_writes_them() -> None:
    assert parse_cpus("0-2,5, 7") == [0, 1, 2, 5, 7]
    for text in ("", "a", "1,,2", "-1", "0-99999999", "5-3"):
        with pytest.raises(ValueError, match="is no processor"):
            parse_cpus(text)


def threads(found: Machine, env_threads: int = 0, **options: object) -> tuple[int, tuple[int, ...], str]:
    ledger = Ledger({})
    decided = decide_threads(DeviceOptions(**options), found, Env(num_threads=env_threads), ledger)  # type: ignore[arg-type]
    reason = next(one.reason for one in ledger.decisions if one.name == "num_threads")
    return decided.number, decided.placement.cpus, reason


def test_the_number_of_threads_says_where_it_comes_from(tmp_path: Path) -> None:
    found = machine(tmp_path, [2, 2])
    assert threads(found) == (4, (0, 1, 2, 3), "cores of the 8 processors that this process may use")
    assert threads(found, 1) == (1, (0,), "OMP_NUM_THREADS")
    assert threads(found, num_threads=2) == (2, (0, 1), "asked for")
    assert threads(found, cpu_omp_threads_bind="0,4,5")[:2] == (3, (0, 4, 5))
    assert threads(found, cpu_omp_threads_bind="0,4,5", num_threads=1)[:2] == (1, (0, 4, 5))
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("4:cpu:/\n")
    (tmp_path / "sys/fs/cgroup/cpu").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/cpu/cpu.cfs_quota_us").write_text("300000")
    (tmp_path / "sys/fs/cgroup/cpu/cpu.cfs_period_us").write_text("100000")
    assert threads(read_machine(tmp_path, range(8)))[::2] == (3, "the quota of 3 processors")
