"""Block tables of a sequence."""

from __future__ import annotations

from quire.core.ids import BlockId
from quire.kvcache.tables import NO_BLOCK, BlockTables


def test_only_new_entries_are_sent_and_one_without_block_is_some_valid_id() -> None:
    tables = BlockTables.empty(2, b"")
    tables.groups = [[BlockId(4), BlockId(5)], [NO_BLOCK, BlockId(6)]]
    tables.first_live = [0, 1]
    tables.length = 2
    assert tables.unsent() == ((4, 5), (0, 6))
    assert tables.unsent() == tables.no_news == ((), ())
