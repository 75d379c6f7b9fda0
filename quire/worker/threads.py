"""The threads that compute: how many, on which processors, and where the memory that they fill lies.

Not here: choosing (config/topology.py).
Door: settle_threads, shares_threads, main (``python -m quire.worker.threads``: what ``quire doctor`` asks).
"""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import sys
from pathlib import Path

import torch

from quire.config.decided import WorkerConfig
from quire.config.machine import read_machine
from quire.ops.native import find_native

logger = logging.getLogger(__name__)

_SET_MEMPOLICY = {"x86_64": 238, "aarch64": 237}
"""The system call's number."""
_PREFERRED, _INTERLEAVE = 1, 3
_MASK_BITS = 1024

_RUNTIMES = ("libgomp", "libomp", "libiomp")


def settle_threads(config: WorkerConfig) -> None:
    """Keep this thread, and all that it starts from now on, to the processors and the memory that were chosen; set the
    number of torch's threads for the whole process.

    Threads that the kernels start are made at their first work: nothing may have computed in parallel before.
    """
    if config.cpus:
        os.sched_setaffinity(0, config.cpus)
    if config.memory_nodes and not _prefer_memory(config.memory_nodes):
        logger.warning("The kernel does not let this process choose the nodes of its memory; steps may be slower.")
    torch.set_num_threads(config.num_threads or read_machine().num_cores)
    if not shares_threads():
        logger.warning(
            "Quire's kernels and torch do not share an OpenMP runtime (loaded: %s): each keeps its own threads, which "
            "costs milliseconds a step. Install torch from PyPI or from download.pytorch.org.",
            ", ".join(loaded_runtimes()) or "none",
        )


def shares_threads() -> bool:
    """Whether a number of threads that torch sets is the kernels' number too; True where there are no kernels."""
    extension = find_native()
    if extension is None:
        return True
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(before + 1)
        return bool(extension.num_threads() == before + 1)
    finally:
        torch.set_num_threads(before)


def loaded_runtimes(maps: Path = Path("/proc/self/maps")) -> list[str]:
    """The OpenMP runtimes in this process, by path."""
    paths = {line.split(None, 5)[5] for line in maps.read_text().splitlines() if len(line.split(None, 5)) == 6}
    return sorted(path for path in paths if Path(path).name.startswith(_RUNTIMES))


def _prefer_memory(nodes: tuple[int, ...]) -> bool:
    """Memory that is written first from now on lies on these nodes, page by page in turn, and elsewhere when they are
    full. (Bound to them, the process would be ended then.)
    """
    number = _SET_MEMPOLICY.get(platform.machine())
    if number is None or max(nodes) >= _MASK_BITS:
        return False
    mask = (ctypes.c_uint64 * (_MASK_BITS // 64))()
    for node in nodes:
        mask[node // 64] |= 1 << node % 64
    policy = _PREFERRED if len(nodes) == 1 else _INTERLEAVE
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.syscall(number, policy, ctypes.byref(mask), ctypes.c_ulong(_MASK_BITS + 1)) == 0)


def main() -> int:
    """Print "shared" or "apart", and the OpenMP runtimes that torch and the kernels brought."""
    print("shared" if shares_threads() else "apart", *loaded_runtimes())
    return 0


if __name__ == "__main__":
    sys.exit(main())
