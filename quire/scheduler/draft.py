"""A step while it is being decided: what is in it can be taken out again until it becomes a plan.

Not here: the decisions (scheduler.py).
Door: Draft, Planned.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from quire.core.events import Preempted, Scheduled
from quire.core.ids import Row
from quire.core.step import BlockCopy, Chunk, NewRow, StepPlan
from quire.scheduler.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan and what deciding it did to sequences: who got a row, who lost it."""

    plan: StepPlan
    scheduled: tuple[Scheduled, ...] = ()
    preempted: tuple[Preempted, ...] = ()


class Draft:
    """Invariant: ``budget`` plus the tokens of all chunks is the step's budget."""

    __slots__ = ("_admitted", "_chunks", "_copies", "_preempted", "_withdrawn", "budget", "is_short_of_blocks")

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.is_short_of_blocks = False
        """Somebody was preempted or left out for lack of blocks: nobody new is let in."""
        self._chunks: dict[Sequence, int] = {}
        self._admitted: dict[Sequence, Scheduled] = {}
        self._copies: dict[Sequence, list[BlockCopy]] = {}
        self._preempted: list[Preempted] = []
        self._withdrawn: set[Sequence] = set()

    @property
    def num_chunks(self) -> int:
        return len(self._chunks)

    def compute(self, sequence: Sequence, num_tokens: int) -> None:
        self._chunks[sequence] = num_tokens
        self.budget -= num_tokens

    def admit(self, sequence: Sequence, scheduled: Scheduled, copies: list[BlockCopy]) -> None:
        self._admitted[sequence] = scheduled
        if copies:
            self._copies[sequence] = copies

    def withdraw(self, sequence: Sequence) -> Scheduled | None:
        """Take a sequence out, as it is preempted.

        Returns its admission if that was of this step, so that nobody has heard of it.
        """
        self._withdrawn.add(sequence)
        self.budget += self._chunks.pop(sequence, 0)
        self._copies.pop(sequence, None)
        admission = self._admitted.pop(sequence, None)
        if admission is None:
            self._preempted.append(Preempted(sequence.request.id, sequence.index))
        return admission

    def has_withdrawn(self, sequence: Sequence) -> bool:
        """Whether the sequence lost its row in this step: it cannot have one again before the next."""
        return sequence in self._withdrawn

    def finish(self, step: int, removed: Iterable[Row]) -> Planned:
        """Make it final: chunks count as planned and in flight from here on."""
        chunks = []
        for sequence, num_tokens in self._chunks.items():
            row, start, tables = sequence.row, sequence.num_planned, sequence.tables
            assert row is not None
            sequence.num_planned = end = start + num_tokens
            sequence.num_in_flight += 1
            chunks.append(
                Chunk(
                    row,
                    start,
                    num_tokens,
                    tables.no_news if tables.num_sent == tables.length else tables.unsent(),
                    end == sequence.num_known,
                    sequence.prompt_logprobs is not None and start < len(sequence.request.prompt_ids) - 1,
                )
            )
        plan = StepPlan(
            step=step,
            removed=tuple(removed),
            added=self._new_rows(),
            copies=tuple(copy for copies in self._copies.values() for copy in copies),
            chunks=tuple(chunks),
        )
        return Planned(plan, tuple(self._admitted.values()), tuple(self._preempted))

    def _new_rows(self) -> tuple[NewRow, ...]:
        return tuple(sequence.new_row() for sequence in self._admitted)
