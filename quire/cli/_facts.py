"""What there is on this machine, found without importing anything heavy.

Not here: judging it (doctor.py).
Door: Facts, find_facts.
"""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from msgspec import Struct

from quire.config.decide_threads import decide_threads
from quire.config.device import DeviceOptions
from quire.config.env import quiet_hub, read_env
from quire.config.ledger import Ledger
from quire.config.machine import read_machine
from quire.version import __version__

PACKAGES = (
    "torch",
    "safetensors",
    "tokenizers",
    "huggingface_hub",
    "jinja2",
    "msgspec",
    "starlette",
    "uvicorn",
    "prometheus_client",
    "numpy",
)
"""What Quire cannot do without."""

_EXTENSIONS = {
    "avx2": ("avx2",),
    "avx512": ("avx512f",),
    "vnni": ("avx512_vnni", "avx_vnni"),
    "bf16": ("avx512_bf16", "amx_bf16", "bf16"),
    "amx": ("amx_tile",),
    "neon": ("asimd",),
    "sve": ("sve",),
}
"""Names people use, and the kernel's words for them."""


class Facts(Struct, frozen=True):
    """A machine as it is. ``packages`` maps a name to its version, None where it is missing; ``kernels`` names the
    instructions that Quire's own kernels use here, empty where they were not built; ``nodes`` counts the cores of each
    node of memory; a worker would have ``num_threads``, kept to ``cpus`` (none: to no processors)."""

    quire: str
    python: str
    system: str
    machine: str
    packages: dict[str, str | None]
    processor: str
    extensions: tuple[str, ...]
    num_cores: int
    num_cores_seen: int
    total_bytes: int
    available_bytes: int
    memory_limited_by: str
    gpus: tuple[str, ...]
    hub_cache: str
    num_cached: int
    disk_bytes: int
    is_offline: bool
    compiler: str
    kernels: str
    quota: float = 0.0
    nodes: tuple[int, ...] = ()
    num_threads: int = 0
    threads_reason: str = ""
    cpus: tuple[int, ...] = ()
    placement_reason: str = ""


def find_facts() -> Facts:
    """Look at the machine. Costs a few file reads and at most one short command."""
    machine = read_machine()
    ledger = Ledger({})
    threads = decide_threads(DeviceOptions(), machine, read_env(), ledger)
    processor, extensions = _processor(Path("/proc/cpuinfo"))
    cache = _hub_cache()
    return Facts(
        quire=__version__,
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()}",
        machine=platform.machine(),
        packages={name: _version(name) for name in PACKAGES},
        processor=processor,
        extensions=extensions,
        num_cores=machine.num_cores,
        num_cores_seen=os.cpu_count() or 1,
        total_bytes=machine.total_bytes,
        available_bytes=machine.available_bytes,
        memory_limited_by=machine.limited_by,
        gpus=_gpus(),
        hub_cache=str(cache),
        num_cached=len(list(cache.glob("models--*"))),
        disk_bytes=_free_disk(cache),
        is_offline=read_env().is_offline,
        compiler=next((found for name in ("c++", "g++", "clang++") if (found := shutil.which(name))), ""),
        kernels=_kernels(),
        quota=machine.quota,
        nodes=tuple(len(cpus) for cpus in machine.topology.nodes.values()),
        num_threads=threads.number,
        threads_reason=ledger.decisions[0].reason,
        cpus=threads.placement.cpus,
        placement_reason=threads.placement.reason,
    )


def openmp_runtimes() -> tuple[bool, tuple[str, ...]]:
    """Whether torch and Quire's kernels share their threads, and the OpenMP runtimes that they bring. Takes seconds:
    torch is loaded, in a process of its own.
    """
    command = [sys.executable, "-m", "quire.worker.threads"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    except (OSError, subprocess.SubprocessError):
        return False, ()
    state, *paths = found.stdout.split()
    return state == "shared", tuple(paths)


def _kernels() -> str:
    flags = sys.getdlopenflags()
    # The kernels take OpenMP from torch, which is not loaded here; what is never called need not be found.
    sys.setdlopenflags(os.RTLD_LAZY)
    try:
        return str(importlib.import_module("quire._native").best_isa())
    except ImportError:
        return ""
    finally:
        sys.setdlopenflags(flags)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor(cpuinfo: Path) -> tuple[str, tuple[str, ...]]:
    model, words = platform.processor() or platform.machine(), set[str]()
    try:
        text = cpuinfo.read_text()
    except OSError:
        text = ""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            model = value.strip()
        elif name.strip() in ("flags", "Features"):
            words |= set(value.split())
    return model, tuple(name for name, kernel in _EXTENSIONS.items() if words & set(kernel))


def _gpus() -> tuple[str, ...]:
    command = shutil.which("nvidia-smi")
    if command is None:
        return ()
    try:
        found = subprocess.run(
            [command, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(line.strip() for line in found.stdout.splitlines() if line.strip()) if found.returncode == 0 else ()


def _hub_cache() -> Path:
    quiet_hub()
    try:
        from huggingface_hub.constants import HF_HUB_CACHE
    except ImportError:
        return Path("~/.cache/huggingface/hub").expanduser()
    return Path(HF_HUB_CACHE)


def _free_disk(folder: Path) -> int:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free
