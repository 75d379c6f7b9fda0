"""The block tables of one sequence: which blocks hold its tokens, for each KV group.

Not here: taking and giving back (cache.py), reference counts (pool.py).
Door: BlockTables, NO_BLOCK.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from quire.core.ids import BlockId

NO_BLOCK = BlockId(-1)
"""Stands in a table where a block left the window or was never needed."""


@dataclass(slots=True, eq=False)
class BlockTables:
    """All tables have ``length`` entries; entry i of a table is for tokens i * block size on. Entries before
    ``first_live`` are NO_BLOCK.

    ``num_full``: how many first entries are full of computed tokens and were offered to the prefix cache. ``num_sent``:
    how many the worker knows. ``digests``: contents of the first full blocks; it may be longer than ``num_full``, as
    tokens are known before they are computed.
    """

    groups: list[list[BlockId]]
    first_live: list[int]
    root: bytes
    no_news: tuple[tuple[BlockId, ...], ...]
    """What unsent() gives when there is nothing to send: shared, because most rows of most steps have no news."""
    digests: list[bytes] = field(default_factory=list)
    length: int = 0
    capacity: int = 0
    """Tokens that fit in the entries there are."""
    num_full: int = 0
    num_sent: int = 0

    @classmethod
    def empty(cls, num_groups: int, root: bytes) -> BlockTables:
        return cls([[] for _ in range(num_groups)], [0] * num_groups, root, ((),) * num_groups)

    def unsent(self) -> tuple[tuple[BlockId, ...], ...]:
        """Entries the worker does not know yet, for each group, and count them as sent.

        An entry without block becomes block 0, never read.
        """
        first = self.num_sent
        self.num_sent = self.length
        return tuple(tuple(max(block, BlockId(0)) for block in table[first:]) for table in self.groups)
