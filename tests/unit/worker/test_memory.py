"""Memory for weights: aligned, of the shape asked for, on huge pages where there are any."""

from __future__ import annotations

import mmap
import re
from pathlib import Path

import pytest
import torch

from quire.worker.memory import empty


@pytest.mark.parametrize("shape", [(3, 5), (1024, 4096), (7,)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_memory_begins_at_a_cache_line_and_has_the_shape_and_type_asked_for(
    shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    made = empty(shape, dtype, "cpu")
    assert tuple(made.shape) == shape and made.dtype == dtype and made.is_contiguous()
    assert made.data_ptr() % 64 == 0
    made.fill_(1)
    assert bool((made == 1).all())


def test_a_large_tensor_is_advised_to_lie_on_huge_pages() -> None:
    enabled = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not hasattr(mmap, "MADV_HUGEPAGE") or not enabled.exists() or "[never]" in enabled.read_text():
        pytest.skip("this system has no transparent huge pages")
    made = empty((16 * 2**20,), torch.uint8, "cpu")
    address = made.data_ptr() + made.numel() // 2
    assert "hg" in _flags_of_mapping(address)


def _flags_of_mapping(address: int) -> list[str]:
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        bounds = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line)
        if bounds:
            inside = int(bounds[1], 16) <= address < int(bounds[2], 16)
        elif inside and line.startswith("VmFlags:"):
            return line.split()[1:]
    return []
