"""What this machine lets the process use: memory and cores, cgroup limits included.

Not here: what fits (fit.py), which processors share a core (topology.py), what is wrong with a machine (cli/doctor.py).
Door: Machine, read_machine.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from msgspec import Struct

from quire.config.topology import Topology, read_topology

_UNLIMITED = 1 << 60
"""cgroup v1 writes a number near 2^63 for "no limit"."""


class Machine(Struct, frozen=True):
    """Memory in bytes; ``num_cores``: cores that affinity and the cgroup's quota leave, siblings once, at least 1."""

    total_bytes: int
    available_bytes: int
    num_cores: int
    limited_by: str = "free memory"
    """What bounds ``available_bytes``: free memory, or a cgroup."""
    quota: float = 0.0
    """Processors' worth of time that cgroups allow; 0: no bound."""
    topology: Topology = Topology()


def read_machine(root: Path = Path("/"), allowed: Collection[int] | None = None) -> Machine:
    """Look at the machine once. ``root``: where /proc and /sys are; ``allowed``: the processors of this process."""
    meminfo = _meminfo(root / "proc/meminfo")
    total = meminfo.get("MemTotal", 0)
    free = meminfo.get("MemAvailable", meminfo.get("MemFree", 0))
    allowed = os.sched_getaffinity(0) if allowed is None else allowed
    topology = read_topology(root, allowed)
    limited_by = "free memory"
    for folder in _cgroups(root, "memory"):
        room = _room(folder)
        if room is not None and room < free:
            free, limited_by = room, "the cgroup's limit"
    quotas = [quota for folder in _cgroups(root, "cpu") if (quota := _quota(folder)) is not None]
    cores = min([topology.num_cores or len(allowed), *map(int, quotas)])
    return Machine(total, max(0, free), max(1, cores), limited_by, min(quotas, default=0.0), topology)


def _meminfo(path: Path) -> dict[str, int]:
    found = {}
    for line in _read(path).splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if words and words[0].isdecimal():
            found[name] = int(words[0]) * 1024
    return found


def _cgroups(root: Path, controller: str) -> list[Path]:
    """The folders of this process's cgroup and of those around it, for one controller, of version 1 or 2."""
    folders = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2) if line.count(":") >= 2 else ("", "", "")
        if controllers == "":
            mount = root / "sys/fs/cgroup"
        elif controller in controllers.split(","):
            mount = root / "sys/fs/cgroup" / controller
        else:
            continue
        # Inside a container the path is often one of the host: then only the mount's own folder exists.
        here = mount / path.strip("/")
        while here != mount and mount in here.parents:
            folders.append(here)
            here = here.parent
        folders.append(mount)
    return [folder for folder in folders if folder.is_dir()]


def _room(folder: Path) -> int | None:
    for limit_file, usage_file, cache_field in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        limit, usage = _read(folder / limit_file).strip(), _read(folder / usage_file).strip()
        if limit.isdecimal() and usage.isdecimal() and int(limit) < _UNLIMITED:
            # File cache that nobody uses is given back when somebody needs memory.
            stat = dict(line.split(" ", 1) for line in _read(folder / "memory.stat").splitlines() if " " in line)
            cached = stat.get(cache_field, "0").strip()
            return int(limit) - int(usage) + (int(cached) if cached.isdecimal() else 0)
    return None


def _quota(folder: Path) -> float | None:
    words = _read(folder / "cpu.max").split()
    if len(words) != 2:
        words = [_read(folder / "cpu.cfs_quota_us").strip(), _read(folder / "cpu.cfs_period_us").strip()]
    if all(word.isdecimal() and int(word) > 0 for word in words):
        return int(words[0]) / int(words[1])
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
