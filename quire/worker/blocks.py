"""The content of KV blocks: one pool of memory that serves every layer.

Not here: which block holds what (kvcache/), attention over blocks (attention/).
Door: KVBlocks.
"""

# Shapes: P planes of a block, N blocks, S tokens of a block, G KV heads, D stored width of a head.

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from quire.config.card import Card
from quire.config.decided import WorkerConfig
from quire.core.step import BlockCopy
from quire.layers.batch import KVLayer
from quire.ops.eight_bits import stored_dtype, stored_width
from quire.worker.memory import require_bytes


class KVBlocks:
    """A block is ``layers_per_block`` planes of keys and values; layer i of a group lives in plane i of the group's
    blocks.

    Memory starts as zeros: a slot that attention masks may be read, and must then be a number.
    """

    def __init__(self, config: WorkerConfig, card: Card) -> None:
        """Allocate the pool.

        Raises: DoesNotFit, with the numbers, when the device has not enough free memory for it.
        """
        layout = config.layout
        dtype: torch.dtype = getattr(torch, config.dtype) if config.kv_type is None else stored_dtype(config.kv_type)
        width = stored_width(card.head_size, dtype)
        shape = (layout.layers_per_block, config.num_blocks, layout.block_size, card.num_kv_heads, width)
        self.num_bytes = 2 * torch.Size(shape).numel() * dtype.itemsize
        require_bytes(self.num_bytes, config.device, f"{config.num_blocks} KV blocks")
        self._keys_PNSGD = _zeros(shape, dtype, config.device)
        self._values_PNSGD = _zeros(shape, dtype, config.device)
        planes = {layer: plane for group in layout.groups for plane, layer in enumerate(group.layers)}
        self.layers: tuple[KVLayer, ...] = tuple(
            KVLayer(self._keys_PNSGD[planes[layer]], self._values_PNSGD[planes[layer]]) for layer in range(len(planes))
        )
        """By the model's layer."""

    def copy(self, copies: Sequence[BlockCopy]) -> None:
        """Copy whole blocks, one after the other: a later copy sees what an earlier one wrote."""
        for block_copy in copies:
            for pool in (self._keys_PNSGD, self._values_PNSGD):
                pool[:, block_copy.target] = pool[:, block_copy.source]


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: str) -> torch.Tensor:
    """Zeros whose pages the system hands out when they are first written: a large pool costs no time at the start."""
    if device != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    num_bytes = torch.Size(shape).numel() * dtype.itemsize
    return torch.from_numpy(np.zeros(num_bytes, dtype=np.uint8)).view(dtype).view(shape)
