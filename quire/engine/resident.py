"""Resident memory of this process, read from the kernel.

Not here: how much memory there is (config/machine.py).
Door: resident_bytes.
"""

from __future__ import annotations

import os
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_STATM = Path("/proc/self/statm")


def resident_bytes() -> int:
    """Bytes of memory that this process holds; 0 where the kernel does not say."""
    try:
        return int(_STATM.read_text().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0
