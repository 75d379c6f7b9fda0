"""The KV cache as the scheduler sees it: find a prefix, grow tables, fork them, note what was computed, give all back.

Not here: when any of it happens (scheduler/), tensors (worker/blocks.py).
Door: KVCache.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from quire.config.decided import KVConfig
from quire.config.kv_layout import tokens_for
from quire.core.ids import BlockId
from quire.core.step import BlockCopy
from quire.kvcache.groups import GroupReach
from quire.kvcache.pool import BlockPool
from quire.kvcache.prefix import PrefixCache, TokensBetween, extend_digests, root_digest
from quire.kvcache.tables import NO_BLOCK, BlockTables


class KVCache:
    """One pool for all groups and all sequences.

    A block's content is findable only once all its tokens were computed.
    """

    __slots__ = ("_caches", "_prefix", "_reaches", "block_size", "layout", "num_groups", "pool")

    def __init__(self, config: KVConfig) -> None:
        self.layout = config.layout
        self.block_size = config.layout.block_size
        self.num_groups = len(config.layout.groups)
        self._reaches = tuple(GroupReach(group.window, self.block_size) for group in config.layout.groups)
        self._caches = config.enable_prefix_caching
        self._prefix = PrefixCache(self.num_groups)
        self.pool = BlockPool(config.num_blocks, self._prefix.forget)

    def max_tokens(self, limit: int) -> int:
        """The longest sequence that the whole pool can hold, at most ``limit``."""
        return tokens_for(self.layout, self.pool.num_blocks, limit=limit)

    def new_tables(self, salt: str) -> BlockTables:
        return BlockTables.empty(self.num_groups, root_digest(salt) if self._caches else b"")

    # Before a sequence gets its row.

    def find(self, tables: BlockTables, tokens_between: TokensBetween, num_known: int) -> int:
        """How many first blocks of a sequence are cached, in all groups as far as they are read.

        The last known token is never part of a hit: it must be computed to have logits.
        """
        if not self._caches:
            return 0
        hit = (num_known - 1) // self.block_size
        extend_digests(tables.digests, tables.root, tokens_between, self.block_size, hit)
        while hit:
            before = hit
            for group, reach in enumerate(self._reaches):
                hit = reach.longest_hit(tables.digests, self._prefix.digests(group), hit)
            if hit == before:
                break
        return hit

    def num_idle(self, tables: BlockTables, hit: int) -> int:
        """How many blocks of a hit nobody holds now: attaching it makes so many fewer available."""
        return sum(1 for _, block in self._hit_blocks(tables, hit) if self.pool.holders(block) == 0)

    def _hit_blocks(self, tables: BlockTables, hit: int) -> Iterable[tuple[int, BlockId]]:
        for group, reach in enumerate(self._reaches):
            for number in range(reach.first_block(hit * self.block_size), hit):
                block = self._prefix.find(group, tables.digests[number])
                assert block is not None, "a hit's block is not in the cache"
                yield group, block

    def num_more(self, tables: BlockTables, hit: int, num_tokens: int) -> int:
        """Most blocks to take yet until a sequence with this hit, or with these tables when it has entries, has
        computed ``num_tokens``.
        """
        length = -(-num_tokens // self.block_size)
        if tables.length:
            lives = zip(self._reaches, tables.first_live, strict=True)
            return sum(reach.num_more(length, tables.length, first) for reach, first in lives)
        return sum(reach.num_more(length, hit, reach.first_block(hit * self.block_size)) for reach in self._reaches)

    def num_alone(self, tables: BlockTables) -> int:
        """Blocks that nobody but this sequence holds: releasing it makes so many more available."""
        holders = self.pool.holders
        return sum(
            holders(block) == 1
            for table, first in zip(tables.groups, tables.first_live, strict=True)
            for block in table[first:]
        )

    def attach(self, tables: BlockTables, hit: int) -> None:
        """Hold the blocks of a hit; the tables were empty."""
        for group, block in self._hit_blocks(tables, hit):
            self.pool.hold(block)
            tables.groups[group].append(block)
        for group, table in enumerate(tables.groups):
            tables.first_live[group] = hit - len(table)
            table[:0] = [NO_BLOCK] * (hit - len(table))
        tables.num_full = hit
        self._grown(tables, hit)

    def can_fork(self, source: BlockTables, num_tokens: int) -> bool:
        """Whether a sequence's tables still have all that a token at position ``num_tokens`` reads."""
        return source.capacity >= num_tokens and all(
            first <= reach.first_block(num_tokens)
            for reach, first in zip(self._reaches, source.first_live, strict=True)
        )

    def fork(self, source: BlockTables, target: BlockTables, num_tokens: int) -> list[BlockCopy]:
        """Give ``target``, which is empty, the first ``num_tokens`` tokens of ``source``: full blocks are shared, a
        partial one is copied.

        Raises: NoFreeBlock when the copies find no block; then nothing has changed.
        """
        num_shared, num_partial = divmod(num_tokens, self.block_size)
        fresh = self.pool.take(self.num_groups if num_partial else 0)
        copies = []
        for group, (reach, table) in enumerate(zip(self._reaches, source.groups, strict=True)):
            first = min(reach.first_block(num_tokens), num_shared)
            shared = table[first:num_shared]
            for block in shared:
                self.pool.hold(block)
            target.groups[group][:] = [NO_BLOCK] * first + shared
            target.first_live[group] = first
            if num_partial:
                target.groups[group].append(fresh[group])
                copies.append(BlockCopy(table[num_shared], fresh[group]))
        target.num_full = num_shared
        target.digests[:] = source.digests[:num_shared]
        self._grown(target, num_shared + (1 if num_partial else 0))
        return copies

    # While it runs.

    def fits(self, tables: BlockTables) -> int:
        """How many tokens in all these tables could hold if they got every available block."""
        return (tables.length + self.pool.num_available // self.num_groups) * self.block_size

    def grow(self, tables: BlockTables, num_tokens: int) -> None:
        """Make room for ``num_tokens`` tokens.

        Raises: NoFreeBlock when the pool has too few; then nothing has changed.
        """
        length = -(-num_tokens // self.block_size)
        more = length - tables.length
        if more <= 0:
            return
        fresh = self.pool.take(more * self.num_groups)
        for group, table in enumerate(tables.groups):
            table.extend(fresh[group * more : (group + 1) * more])
        self._grown(tables, length)

    def _grown(self, tables: BlockTables, length: int) -> None:
        tables.length = length
        tables.capacity = length * self.block_size

    def settle(self, tables: BlockTables, tokens_between: TokensBetween, num_computed: int) -> None:
        """The first ``num_computed`` tokens have their KV in place: full blocks become findable, what left a window is
        given back.

        Needed only when a block was filled, that is when ``num_computed // block_size`` has grown.
        """
        num_full = num_computed // self.block_size
        if self._caches:
            extend_digests(tables.digests, tables.root, tokens_between, self.block_size, num_full)
            for group, table in enumerate(tables.groups):
                for number in range(tables.num_full, num_full):
                    block = table[number]
                    if self._prefix.add(group, tables.digests[number], block):
                        self.pool.keep(block)
        tables.num_full = num_full
        for group, reach in enumerate(self._reaches):
            if reach.window is not None:
                self._leave(tables, group, reach.first_block(num_computed))

    def _leave(self, tables: BlockTables, group: int, first: int) -> None:
        table = tables.groups[group]
        for number in range(tables.first_live[group], first):
            self.pool.release(table[number])
            table[number] = NO_BLOCK
        tables.first_live[group] = max(first, tables.first_live[group])

    # At its end.

    def release(self, tables: BlockTables) -> None:
        """Give every block back; the last blocks first, so that a prefix outlives what follows it. The digests stay."""
        for number in range(tables.length - 1, -1, -1):
            for table in tables.groups:
                if table[number] != NO_BLOCK:
                    self.pool.release(table[number])
        for table in tables.groups:
            table.clear()
        tables.first_live = [0] * self.num_groups
        tables.num_full = tables.num_sent = 0
        self._grown(tables, 0)

    def forget(self, tables: BlockTables) -> None:
        """Nobody shall find these blocks any more: their content is in doubt. They stay held."""
        for table in tables.groups:
            for block in table:
                if block != NO_BLOCK:
                    self._prefix.forget(block)
                    self.pool.drop(block)

    def drop_idle(self) -> None:
        """Forget all cached content that nobody holds."""
        for block in self.pool.idle():
            self._prefix.forget(block)
            self.pool.drop(block)

    def check(self, held: Iterable[tuple[BlockTables, TokensBetween]]) -> None:
        """Raises AssertionError unless counts, states and contents agree with the tables of all sequences."""
        holders: Counter[BlockId] = Counter()
        for tables, tokens_between in held:
            for group, table in enumerate(tables.groups):
                assert len(table) == tables.length, "the tables of a sequence differ in length"
                first = tables.first_live[group]
                assert all(block == NO_BLOCK for block in table[:first]), "a block before the first live one is held"
                assert all(block != NO_BLOCK for block in table[first:]), "a live entry has no block"
                holders.update(table[first:])
                self._check_content(tables, tokens_between, group)
        self.pool.check(holders)
        self._prefix.check()
        for block in self.pool.idle():
            assert self._prefix.content(block) is not None, f"block {block} is idle without content"

    def check_length(self, tables: BlockTables, num_planned: int, num_computed: int) -> None:
        """Raises AssertionError unless the tables are as long as the planned tokens need, and give back what left a
        window.
        """
        assert tables.length == -(-num_planned // self.block_size), f"{tables.length} entries for {num_planned} tokens"
        assert tables.capacity == tables.length * self.block_size, "a capacity is wrong"
        assert tables.num_full == num_computed // self.block_size, "full blocks were not settled"
        for reach, first in zip(self._reaches, tables.first_live, strict=True):
            settled = tables.num_full * self.block_size
            assert reach.first_block(settled) <= first <= reach.first_block(num_computed), (
                "a window's blocks are held too long or too short"
            )

    def _check_content(self, tables: BlockTables, tokens_between: TokensBetween, group: int) -> None:
        true_digests: list[bytes] = []
        if self._caches:
            extend_digests(true_digests, tables.root, tokens_between, self.block_size, tables.num_full)
            assert true_digests == tables.digests[: tables.num_full], "a digest is not that of the sequence's tokens"
        for number in range(tables.first_live[group], tables.length):
            content = self._prefix.content(tables.groups[group][number])
            if content is not None:
                assert number < tables.num_full, "a block is findable before it was computed"
                assert content == (group, true_digests[number]), (
                    "a findable block holds other tokens than its digest says"
                )
