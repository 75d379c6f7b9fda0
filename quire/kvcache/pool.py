"""Blocks and how often each is held: free ones, held ones, and idle ones (cached content that nobody holds).

Not here: which sequence holds which block (tables.py), what a block contains (prefix.py).
Door: BlockPool, NoFreeBlock.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping

from quire.core.ids import BlockId


class NoFreeBlock(Exception):
    """Fewer blocks are free or idle than were asked for; nothing was taken."""


class BlockPool:
    """Every block is in exactly one state: free, idle (kept for its content, held by nobody), or held (once or more
    often).

    Idle blocks are given away, the one that became idle first before the others, when no block is free; ``on_evict``
    hears of it first.
    """

    __slots__ = ("_free", "_holders", "_idle", "_is_kept", "_on_evict", "num_blocks")

    def __init__(self, num_blocks: int, on_evict: Callable[[BlockId], None]) -> None:
        self.num_blocks = num_blocks
        self._on_evict = on_evict
        self._free: list[BlockId] = [BlockId(number) for number in range(num_blocks - 1, -1, -1)]
        self._idle: OrderedDict[BlockId, None] = OrderedDict()
        self._holders = [0] * num_blocks
        self._is_kept = [False] * num_blocks

    @property
    def num_available(self) -> int:
        """Blocks that take() can give: free and idle."""
        return len(self._free) + len(self._idle)

    @property
    def num_held(self) -> int:
        return self.num_blocks - len(self._free) - len(self._idle)

    def holders(self, block: BlockId) -> int:
        return self._holders[block]

    def take(self, count: int) -> list[BlockId]:
        """Blocks whose content nobody wants any more, each held once.

        Raises: NoFreeBlock when there are not that many.
        """
        if count > self.num_available:
            raise NoFreeBlock(f"{count} blocks are wanted, {self.num_available} of {self.num_blocks} are free.")
        taken = []
        for _ in range(count):
            block = self._free.pop() if self._free else self._evict()
            self._holders[block] = 1
            taken.append(block)
        return taken

    def _evict(self) -> BlockId:
        block, _ = self._idle.popitem(last=False)
        self._on_evict(block)
        self._is_kept[block] = False
        return block

    def hold(self, block: BlockId) -> None:
        """One more holder of a block that is held or idle."""
        if self._holders[block] == 0:
            del self._idle[block]
        self._holders[block] += 1

    def release(self, block: BlockId) -> None:
        """One holder less; the last one leaves the block idle if its content is kept, else free."""
        count = self._holders[block] - 1
        assert count >= 0, f"block {block} is released but nobody holds it"
        self._holders[block] = count
        if count == 0:
            if self._is_kept[block]:
                self._idle[block] = None
            else:
                self._free.append(block)

    def keep(self, block: BlockId) -> None:
        """The content of a held block is worth finding again."""
        assert self._holders[block] > 0, f"block {block} is to be kept but nobody holds it"
        self._is_kept[block] = True

    def drop(self, block: BlockId) -> None:
        """The content of a block is worth nothing any more; an idle block becomes free."""
        self._is_kept[block] = False
        if block in self._idle:
            del self._idle[block]
            self._free.append(block)

    def idle(self) -> list[BlockId]:
        """Idle blocks, the next to be evicted first."""
        return list(self._idle)

    def check(self, holders: Mapping[BlockId, int]) -> None:
        """Raises AssertionError unless ``holders`` (block -> how many tables have it) is what the pool counts and each
        block has one state.
        """
        free = set(self._free)
        assert len(free) == len(self._free), "a block is free twice"
        assert not free & self._idle.keys(), "a block is both free and idle"
        num_held = 0
        for number, count in enumerate(self._holders):
            block = BlockId(number)
            wanted = holders.get(block, 0)
            assert count == wanted, f"block {block} counts {count} holders but {wanted} tables have it"
            if count:
                num_held += 1
                assert block not in free and block not in self._idle, f"block {block} is held and available"
            else:
                assert block in (self._idle if self._is_kept[block] else free), f"block {block} is in the wrong place"
        assert len(free) + len(self._idle) + num_held == self.num_blocks, "free + idle + held differs from the total"
