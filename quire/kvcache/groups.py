"""What a KV group needs of a sequence's past: all of it, or a window.

Not here: which layers form a group (config/kv_layout.py).
Door: GroupReach.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

from quire.config.kv_layout import window_blocks


@dataclass(frozen=True, slots=True)
class GroupReach:
    """How far back the tokens of a group read. ``window`` counts tokens, the reading one included; None: all."""

    window: int | None
    block_size: int

    def first_block(self, num_computed: int) -> int:
        """The first block that the token at position ``num_computed``, or a later one, can read; all before it are of
        no use.
        """
        if self.window is None:
            return 0
        return max(0, (num_computed - self.window + 1) // self.block_size)

    def num_more(self, length: int, have: int, first: int) -> int:
        """Most blocks to take yet until a table of ``have`` entries, live from ``first`` on, has ``length`` entries.

        A window gives blocks back on its way, so that it never holds more than ``window_blocks`` of them.
        """
        more = length - have
        if self.window is None or more <= 0:
            return max(0, more)
        return min(more, max(1, window_blocks(self.window, self.block_size) - (have - first)))

    def longest_hit(self, digests: Sequence[bytes], cached: Container[bytes], limit: int) -> int:
        """The largest number of first blocks, at most ``limit``, that are cached as far as the next token reads them.

        ``digests`` are those of the sequence's blocks, ``cached`` those the group can find. A window needs only the
        blocks inside it.
        """
        if self.window is None:
            for number in range(limit):
                if digests[number] not in cached:
                    return number
            return limit
        hit = number = limit
        while number > self.first_block(hit * self.block_size):
            number -= 1
            if digests[number] not in cached:
                hit = number
        return hit
