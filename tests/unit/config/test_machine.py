from __future__ import annotations

from pathlib import Path

import pytest

from quire.config.env import quiet_hub, read_env
from quire.config.machine import read_machine
from quire.errors import ConfigError

MIB = 2**20


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


MEMINFO = {"proc/meminfo": "MemTotal: 8192 kB\nMemFree: 100 kB\nMemAvailable: 4096 kB\n"}


def test_without_cgroups_the_kernel_says_what_is_available(tmp_path: Path) -> None:
    machine = read_machine(tree(tmp_path, MEMINFO))
    assert (machine.total_bytes, machine.available_bytes) == (8 * MIB, 4 * MIB)
    assert machine.limited_by == "free memory" and machine.num_cores >= 1


def test_a_cgroup_of_version_2_bounds_memory_and_cores(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/box"
    files = {
        "proc/self/cgroup": "0::/box/inner\n",
        f"{group}/memory.max": str(3 * MIB),
        f"{group}/memory.current": str(2 * MIB),
        f"{group}/memory.stat": f"anon 5\ninactive_file {MIB}\n",
        f"{group}/cpu.max": "100000 100000",
        f"{group}/inner/memory.max": "max",
        f"{group}/inner/memory.current": "7",
    }
    machine = read_machine(tree(tmp_path, MEMINFO | files))
    assert machine.available_bytes == 2 * MIB and machine.limited_by == "the cgroup's limit" and machine.num_cores == 1


def test_a_cgroup_of_version_1_bounds_them_too(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "5:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": str(2 * MIB),
        "sys/fs/cgroup/memory/memory.usage_in_bytes": str(MIB),
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
    }
    machine = read_machine(tree(tmp_path, MEMINFO | files))
    assert machine.available_bytes == MIB and machine.num_cores == 1


def test_an_unlimited_cgroup_bounds_nothing(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "5:memory:/\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "1",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
    }
    assert read_machine(tree(tmp_path, MEMINFO | files)).available_bytes == 4 * MIB


def test_a_cgroup_over_its_limit_leaves_nothing_rather_than_less(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/\n",
        "sys/fs/cgroup/memory.max": "10",
        "sys/fs/cgroup/memory.current": "50",
    }
    assert read_machine(tree(tmp_path, MEMINFO | files)).available_bytes == 0


def test_a_machine_that_says_nothing_has_no_memory(tmp_path: Path) -> None:
    assert read_machine(tmp_path).available_bytes == 0


def test_the_environment_is_three_names() -> None:
    env = read_env({"QUIRE_API_KEY": "a, b", "OMP_NUM_THREADS": "3,1", "HF_HUB_OFFLINE": "1"})
    assert (env.api_keys, env.num_threads, env.is_offline) == (("a", "b"), 3, True)
    empty = read_env({})
    assert (empty.api_keys, empty.num_threads, empty.is_offline) == ((), 0, False)


@pytest.mark.parametrize("threads", ["0", "-1", "many"])
def test_threads_that_are_no_number_are_refused(threads: str) -> None:
    with pytest.raises(ConfigError, match="OMP_NUM_THREADS"):
        read_env({"OMP_NUM_THREADS": threads})


def test_the_hub_is_told_to_report_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "0")
    quiet_hub()
    assert os.environ["HF_HUB_DISABLE_TELEMETRY"] == "1"
