"""The row table: what the worker remembers of running sequences between steps.

Live state only. The tensors of one step are made from it (inputs.py) and never kept here.

Not here: logits and their columns (sampling/), the KV itself (blocks.py), which sequence gets a row (the scheduler).
Door: RowTable.
"""

# Shapes: S rows of the table, L longest sequence + 1, B blocks of the longest sequence, G KV groups. ``_host`` arrays
# are numpy.

from __future__ import annotations

import logging
from collections.abc import Sequence, Set
from typing import Protocol

import numpy as np
import numpy.typing as npt

from quire.config.decided import WorkerConfig
from quire.core.ids import BlockId, Row
from quire.core.request import Sampling
from quire.core.step import BlockCopy, Chunk, NewRow, RowResult, StepPlan
from quire.sampling.draw import Draw

logger = logging.getLogger(__name__)


class Columns(Protocol):
    """Whoever keeps columns of its own for the rows: the sampler."""

    def enter(self, new: NewRow) -> None: ...

    def leave(self, row: Row) -> None: ...


class Blocks(Protocol):
    """Whoever holds the content of blocks."""

    def copy(self, copies: Sequence[BlockCopy]) -> None: ...


class RowTable:
    """Token ids, block tables and sampling of every row.

    Of ``token_ids_host[row]`` only the first ``num_known_host[row]`` entries mean anything, of
    ``tables_host[group][row]`` the first ``num_blocks_host[group, row]``; the rest of a table is 0, which is a valid
    block id. A free row knows no token and holds no block.

    After a failure the same step may be applied again, whole or with fewer of its chunks, whether or not it was
    applied before: its removals, additions and copies, and each chunk's new blocks, still happen once. Step numbers of
    different plans that follow each other must differ.
    """

    def __init__(self, config: WorkerConfig, columns: Columns, blocks: Blocks) -> None:
        size, length = config.max_num_seqs, config.max_model_len
        max_blocks = -(-length // config.layout.block_size)
        num_groups = len(config.layout.groups)
        # Not filled: memory that no sequence reaches is never touched, so it costs nothing.
        self.token_ids_host: npt.NDArray[np.int32] = np.empty((size, length + 1), dtype=np.int32)
        self._row_hosts = list(self.token_ids_host)
        self.num_known_host: npt.NDArray[np.int64] = np.zeros(size, dtype=np.int64)
        self.tables_host: tuple[npt.NDArray[np.int32], ...] = tuple(
            np.zeros((size, max_blocks), dtype=np.int32) for _ in range(num_groups)
        )
        self.num_blocks_host: npt.NDArray[np.int64] = np.zeros((num_groups, size), dtype=np.int64)
        self._num_prompt: list[int] = [0] * size
        self._sampling: list[Sampling | None] = [None] * size
        self._sample_index: list[int] = [0] * size
        self._errors: dict[Row, str] = {}
        """Why the next draw of a row must fail."""
        self._num_blocks = config.num_blocks
        self._columns = columns
        self._blocks = blocks
        self._applied_step: int | None = None
        self._supplied: set[Row] = set()
        """Rows whose chunks of the applied step have their new blocks."""

    def apply(self, plan: StepPlan) -> None:
        """Bring the table up to date with a plan: removals, additions, copies of blocks, new blocks of chunks.

        Raises: ValueError, before anything was changed, for a plan that does not fit the table.
        """
        if plan.step != self._applied_step:
            self._check(plan)
            for row in plan.removed:
                self._remove(row)
            for new in plan.added:
                self._add(new)
            self._blocks.copy(plan.copies)
            self._applied_step = plan.step
            self._supplied.clear()
        else:
            self._check_chunks(plan, self._supplied)
        for chunk in plan.chunks:
            if chunk.row not in self._supplied:
                self._append_blocks(chunk)
                self._supplied.add(chunk.row)

    def advance(self, results: Sequence[RowResult]) -> None:
        """Append the tokens that were drawn; they are known from now on."""
        for result in results:
            for token_id in result.token_ids:
                self.token_ids_host[result.row, self.num_known_host[result.row]] = token_id
                self.num_known_host[result.row] += 1

    def draw(self, row: Row) -> Draw:
        """What the sampler must know of a row whose next token is drawn."""
        return Draw(
            row,
            self.sampling(row),
            self._sample_index[row],
            self._row_hosts[row],
            self.num_known_host.item(row),
            self._num_prompt[row],
            self._errors.get(row, ""),
        )

    def sampling(self, row: Row) -> Sampling:
        sampling = self._sampling[row]
        if sampling is None:
            raise ValueError(f"Row {row} is free.")
        return sampling

    def num_prompt_tokens(self, row: Row) -> int:
        return self._num_prompt[row]

    def _check(self, plan: StepPlan) -> None:
        size, length = self.token_ids_host.shape
        for new in plan.added:
            num_tokens = len(new.token_ids)
            if not (0 <= new.row < size and 0 < num_tokens < length):
                raise ValueError(f"Row {new.row} with {num_tokens} tokens fits no table of {size} x {length - 1}.")
        self._check_chunks(plan, frozenset(), {*plan.removed, *(new.row for new in plan.added)})
        self._check_ids([block for one in plan.copies for block in (one.source, one.target)])

    def _check_chunks(self, plan: StepPlan, supplied: Set[Row], left: Set[Row] = frozenset()) -> None:
        """``left``: rows that will hold no block when the chunks get theirs."""
        for chunk in plan.chunks:
            if chunk.row in supplied:
                continue
            for group, blocks in enumerate(chunk.new_blocks):
                if not blocks:
                    continue
                held = 0 if chunk.row in left else int(self.num_blocks_host[group, chunk.row])
                if held + len(blocks) > self.tables_host[group].shape[1]:
                    limit = self.tables_host[group].shape[1]
                    raise ValueError(f"Row {chunk.row} has {held} blocks; {len(blocks)} more exceed {limit}.")
                self._check_ids(blocks)

    def _check_ids(self, blocks: Sequence[BlockId]) -> None:
        if blocks and (min(blocks) < 0 or max(blocks) >= self._num_blocks):
            raise ValueError(f"Blocks {min(blocks)} to {max(blocks)} are not all in a pool of {self._num_blocks}.")

    def _add(self, new: NewRow) -> None:
        row = new.row
        self._remove(row)
        self.token_ids_host[row, : len(new.token_ids)] = new.token_ids
        self.num_known_host[row] = len(new.token_ids)
        self._num_prompt[row] = new.num_prompt_tokens
        self._sampling[row] = new.sampling
        self._sample_index[row] = new.sample_index
        try:
            self._columns.enter(new)
        except Exception as error:
            # Raised from here it would fail every row of the step, which needs this plan applied.
            logger.exception("Row %d could not be prepared for sampling; only its sequence ends.", row)
            self._errors[row] = f"The sequence could not be prepared for sampling ({type(error).__name__})."

    def _remove(self, row: Row) -> None:
        """Reset every field: nothing of the sequence may reach the row's next one."""
        self.num_known_host[row] = 0
        for table_host in self.tables_host:
            table_host[row] = 0
        self.num_blocks_host[:, row] = 0
        self._num_prompt[row] = 0
        self._sampling[row] = None
        self._sample_index[row] = 0
        self._errors.pop(row, None)
        self._columns.leave(row)

    def _append_blocks(self, chunk: Chunk) -> None:
        for group, blocks in enumerate(chunk.new_blocks):
            if blocks:
                held = self.num_blocks_host[group, chunk.row]
                self.tables_host[group][chunk.row, held : held + len(blocks)] = blocks
                self.num_blocks_host[group, chunk.row] = held + len(blocks)
