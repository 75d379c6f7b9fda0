"""What a device has left, asked before something large is allocated.

Operating systems promise memory that they do not have and end the process when it is used; so it is counted first.

Not here: how memory is shared out (config/fit.py), the machine's limits (config/machine.py).
Door: available_bytes, require_bytes, empty.
"""

from __future__ import annotations

import numpy as np
import torch

from quire.config.machine import read_machine
from quire.errors import DoesNotFit

_LINE = 64
"""Bytes of a cache line, from whose start vectors are read whole."""


def available_bytes(device: str) -> int:
    """Free memory of the host, cgroup limits included, or of an accelerator."""
    if torch.device(device).type == "cpu":
        return read_machine().available_bytes
    return int(torch.accelerator.get_memory_info(torch.device(device))[0])


def require_bytes(num_bytes: int, device: str, purpose: str) -> None:
    """Refuse an allocation that cannot be had.

    Raises: DoesNotFit, with the numbers.
    """
    available = available_bytes(device)
    if num_bytes > available:
        raise DoesNotFit(
            f"{purpose} need {num_bytes / 2**30:.2f} GiB on {device}; {available / 2**30:.2f} GiB are free. "
            "Lower --max-model-len, --max-num-seqs or --gpu-memory-utilization, or free memory."
        )


def empty(shape: tuple[int, ...], dtype: torch.dtype, device: str) -> torch.Tensor:
    """A tensor with nothing in it yet; a large one on a CPU lies on huge pages where the system has them.

    Every step reads all weights, and a processor's prefetching stops at a page's end: a step of one to eight rows is 6
    to 9 % faster with pages of 2 MiB (docs/log.md). numpy asks the system for them; torch does not.
    """
    if torch.device(device).type != "cpu":
        return torch.empty(shape, dtype=dtype, device=device)
    num_bytes = torch.Size(shape).numel() * dtype.itemsize
    memory = torch.from_numpy(np.empty(num_bytes + _LINE, dtype=np.uint8))
    start = -memory.data_ptr() % _LINE
    return memory[start : start + num_bytes].view(dtype).view(shape)
