"""Rows of the worker's table: who has which, and which the worker must clear.

Not here: what a row contains (worker/rows.py).
Door: Rows.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from quire.core.ids import Row
from quire.scheduler.sequence import Sequence


class Rows:
    """Each row is free or belongs to one sequence.

    The lowest free row is given first, so that busy rows stay together.
    """

    __slots__ = ("_free", "_removed", "_sequences")

    def __init__(self, num_rows: int) -> None:
        self._free = [Row(number) for number in range(num_rows)]
        heapify(self._free)
        self._sequences: list[Sequence | None] = [None] * num_rows
        self._removed: list[Row] = []

    @property
    def num_free(self) -> int:
        return len(self._free)

    @property
    def num_taken(self) -> int:
        return len(self._sequences) - len(self._free)

    def taken(self) -> list[Sequence]:
        """Sequences that have a row, lowest row first."""
        return [sequence for sequence in self._sequences if sequence is not None]

    @property
    def has_removed(self) -> bool:
        """Whether the worker must still be told of rows given back."""
        return bool(self._removed)

    def __getitem__(self, row: Row) -> Sequence | None:
        return self._sequences[row]

    def take(self, sequence: Sequence) -> None:
        """The lowest free row; there must be one."""
        sequence.row = row = heappop(self._free)
        self._sequences[row] = sequence

    def give_back(self, sequence: Sequence, *, is_known: bool) -> None:
        """``is_known``: whether the worker has the row, so that it must hear of its removal."""
        row, sequence.row = sequence.row, None
        assert row is not None and self._sequences[row] is sequence, (
            "a row is given back by a sequence that does not have it"
        )
        self._sequences[row] = None
        heappush(self._free, row)
        if is_known:
            self._removed.append(row)

    def take_removed(self) -> list[Row]:
        """Rows given back since the last plan."""
        removed, self._removed = self._removed, []
        return removed

    def check(self, holders: list[Sequence]) -> None:
        """Raises AssertionError unless exactly these sequences have rows, each its own."""
        rows = [sequence.row for sequence in holders]
        assert len(set(rows)) == len(rows) and None not in rows, "two sequences share a row"
        for sequence in holders:
            assert sequence.row is not None and self._sequences[sequence.row] is sequence, (
                "a row belongs to another sequence"
            )
        assert len(self._free) == len(set(self._free)) == len(self._sequences) - len(holders), (
            "rows are lost or given twice"
        )
        assert all(self._sequences[row] is None for row in self._free), "a row is free and taken"
