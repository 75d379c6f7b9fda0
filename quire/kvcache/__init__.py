"""Accounting of KV blocks: who holds which, which content may be found again. No tensor is touched here.

Door: KVCache, BlockTables.
"""

from quire.kvcache.cache import KVCache
from quire.kvcache.tables import BlockTables

__all__ = ["BlockTables", "KVCache"]
