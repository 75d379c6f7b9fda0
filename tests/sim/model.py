"""The simulated model: what a token's KV is and what the next token is, as functions of what they read.

Not here: where it is read from (worker.py: through block tables; reference.py: from plain lists).
"""

from __future__ import annotations

from collections.abc import Sequence

NUM_TOKENS = 24
EOS, STOP = 0, 1
"""Tokens that end a sequence; the first always (unless it is ignored), the second where the client named it."""


kv_value = hash
"""KV of a token in one group, of (KV of the token before it, KV of the farthest token it reads, its id, its position,
salt, group).
"""


def first_reads(window: int | None, max_len: int) -> list[int]:
    """For each position the farthest one that its token reads for its own KV; itself: it reads none.

    A full group reads half way back.
    """
    return [position >> 1 if window is None else max(0, position - window + 1) for position in range(max_len + 1)]


def next_token(read: Sequence[tuple[int, ...]], index: int, masked: Sequence[int]) -> int:
    """The token after a history. ``read``: for each group the values of all tokens that the last one reads, itself
    included.

    ``masked``: tokens that must not come now; the ends are 0 and 1, so that two more is none.
    """
    token = hash((*read, index)) % NUM_TOKENS
    return token + 2 if token in masked else token
