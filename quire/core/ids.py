"""Ids as types of their own, so that mixing them up is a type error.

Not here: who hands them out (the scheduler gives rows, the block pool gives block ids, the front gives request ids).
"""

from typing import NewType

RequestId = NewType("RequestId", str)
"""Names a request between front and engine. Made by the front, never by a client."""

Row = NewType("Row", int)
"""Fixed index of a running sequence in the worker's row table: 0 <= row < max_num_seqs."""

BlockId = NewType("BlockId", int)
"""Index of one block of KV in the pool."""
