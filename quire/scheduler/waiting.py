"""Sequences that wait for a row, in the policy's order.

Not here: who may leave (scheduler.py).
Door: WaitingQueue.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from operator import attrgetter

from quire.scheduler.sequence import Sequence

by_order = attrgetter("order")


class WaitingQueue:
    """Sorted by ``Sequence.order``, which no two sequences share."""

    __slots__ = ("_sequences",)

    def __init__(self) -> None:
        self._sequences: list[Sequence] = []

    def __len__(self) -> int:
        return len(self._sequences)

    def __iter__(self) -> Iterator[Sequence]:
        return iter(self._sequences)

    def add(self, sequence: Sequence) -> None:
        insort(self._sequences, sequence, key=by_order)

    def first(self) -> Sequence:
        return self._sequences[0]

    def remove(self, sequence: Sequence) -> None:
        """Raises: ValueError when it does not wait."""
        place = bisect_left(self._sequences, sequence.order, key=by_order)
        if place == len(self._sequences) or self._sequences[place] is not sequence:
            raise ValueError(f"Sequence {sequence.index} of request {sequence.request.id} does not wait.")
        del self._sequences[place]
