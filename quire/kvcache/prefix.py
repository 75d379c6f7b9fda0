"""Which block has which content: digests of full blocks, chained from the first block on.

A digest covers everything that decides a block's KV: the salt, all token ids before it and its own. Two blocks of equal
digest and group are interchangeable.

Not here: who holds a block (pool.py), which hits a window needs (groups.py).
Door: PrefixCache, root_digest, extend_digests.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Container, Sequence
from hashlib import sha256

from quire.core.ids import BlockId

TokensBetween = Callable[[int, int], Sequence[int]]
"""Token ids ``first`` to ``last`` (excluded) of a sequence."""


def root_digest(salt: str) -> bytes:
    """What stands for the parent of a first block: requests of different salts never share a block."""
    return sha256(b"quire kv 1\x00" + salt.encode("utf-8", "surrogatepass")).digest()


def extend_digests(
    digests: list[bytes], root: bytes, tokens_between: TokensBetween, block_size: int, num_blocks: int
) -> None:
    """Append the digests of blocks ``len(digests)`` to ``num_blocks``; those that are there are not computed again."""
    if len(digests) >= num_blocks:
        return
    first = len(digests) * block_size
    content = array("I", tokens_between(first, num_blocks * block_size)).tobytes()
    width = len(content) // (num_blocks - len(digests))
    digest = digests[-1] if digests else root
    for offset in range(0, len(content), width):
        digest = sha256(digest + content[offset : offset + width]).digest()
        digests.append(digest)


class PrefixCache:
    """Finds the block of a digest, for each KV group.

    A block stands for at most one digest, a digest of a group for at most one block.
    """

    __slots__ = ("_blocks", "_contents")

    def __init__(self, num_groups: int) -> None:
        self._blocks: tuple[dict[bytes, BlockId], ...] = tuple({} for _ in range(num_groups))
        self._contents: dict[BlockId, tuple[int, bytes]] = {}

    def __len__(self) -> int:
        return len(self._contents)

    def find(self, group: int, digest: bytes) -> BlockId | None:
        return self._blocks[group].get(digest)

    def digests(self, group: int) -> Container[bytes]:
        """All that find() finds in a group."""
        return self._blocks[group]

    def add(self, group: int, digest: bytes, block: BlockId) -> bool:
        """Whether the block now stands for the digest; False when another one does already."""
        blocks = self._blocks[group]
        if digest in blocks:
            return False
        blocks[digest] = block
        self._contents[block] = (group, digest)
        return True

    def forget(self, block: BlockId) -> None:
        """The block's content is gone; nothing happens if it stood for none."""
        content = self._contents.pop(block, None)
        if content is not None:
            group, digest = content
            del self._blocks[group][digest]

    def content(self, block: BlockId) -> tuple[int, bytes] | None:
        """Group and digest that a block stands for."""
        return self._contents.get(block)

    def check(self) -> None:
        """Raises AssertionError unless both directions agree."""
        assert sum(map(len, self._blocks)) == len(self._contents), (
            "the prefix cache has digests without block or blocks without digest"
        )
        for block, (group, digest) in self._contents.items():
            assert self._blocks[group].get(digest) == block, f"block {block} is not the one its digest finds"
