"""The shape of a stage: one change of logits, and the columns it keeps for the rows that need it.

Not here: the stages (stages/), their order (sampler.py).
Door: Stage, Columns.
"""

# Shapes: R rows, V vocabulary.

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from torch import Tensor

from quire.core.ids import Row
from quire.core.step import NewRow
from quire.sampling.draw import Draw

Column = TypeVar("Column")


class Stage(Protocol):
    """A file on the shelf ``sampling/stages`` exports ``Stage``, a class that takes the WorkerConfig and is one of
    these.

    ``apply`` must treat every row by itself, so that a row's result never depends on the others, and may be called
    again for the same step.
    """

    def enter(self, new: NewRow) -> bool:
        """Keep what this row needs, forgetting what the row kept before; whether the stage will ever change its
        logits.
        """
        ...

    def leave(self, row: Row) -> None:
        """Forget the row."""
        ...

    def apply(self, logits_RV: Tensor, draws: Sequence[Draw]) -> None:
        """Change float32 logits in place; line i belongs to ``draws[i]``. What is wrong with one row goes to
        ``Draw.fail``.
        """
        ...


class Columns(Generic[Column]):
    """What one stage keeps, by row. A row without a column is one that the stage leaves alone."""

    def __init__(self) -> None:
        self._by_row: dict[Row, Column] = {}

    def put(self, row: Row, column: Column | None) -> bool:
        """Replace the row's column; None removes it. Whether there is one now."""
        if column is None:
            self.drop(row)
            return False
        self._by_row[row] = column
        return True

    def drop(self, row: Row) -> None:
        self._by_row.pop(row, None)

    def among(self, draws: Sequence[Draw]) -> Iterator[tuple[int, Draw, Column]]:
        """Those of the step's rows that have a column: line in the logits, draw, column."""
        if not self._by_row:
            return
        for line, draw in enumerate(draws):
            column = self._by_row.get(draw.row)
            if column is not None:
                yield line, draw, column
