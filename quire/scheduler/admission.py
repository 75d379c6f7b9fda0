"""Whether the first of the waiting sequences can be let in, and how it starts: from a hit, from a sibling's blocks, or
from nothing.

Not here: the order of waiting (waiting.py), tokens of the step (budget.py).
Door: Admission, Place.
"""

from __future__ import annotations

from collections.abc import Sequence as Ordered
from dataclasses import dataclass

from quire.core.events import Scheduled
from quire.core.step import BlockCopy
from quire.kvcache import KVCache
from quire.scheduler.policy import Policy
from quire.scheduler.rows import Rows
from quire.scheduler.sequence import Family, Sequence


@dataclass(frozen=True, slots=True)
class Place:
    """How a waiting sequence can start: ``source`` is the sibling to fork; without one, ``hit`` blocks come from the
    prefix cache.
    """

    hit: int = 0
    num_queried: int = 0
    source: Sequence | None = None
    num_shared: int = 0
    victims: tuple[Sequence, ...] = ()
    """Running sequences to preempt first, last in the order first."""


class Admission:
    """Lets a sequence in only if all it knows fits beside what the running ones still need, so that nobody is preempted
    for it at once.
    """

    __slots__ = ("_kv", "_policy", "_rows")

    def __init__(self, kv: KVCache, rows: Rows, policy: Policy) -> None:
        self._kv = kv
        self._rows = rows
        self._policy = policy

    def promised(self, running: Ordered[Sequence]) -> int:
        """Blocks that running sequences are yet to take: for their known tokens, and one more of each group."""
        total = self._kv.num_groups * len(running)
        for sequence in running:
            tables = sequence.tables
            if sequence.num_known > tables.capacity:
                total += self._kv.num_more(tables, 0, sequence.num_known)
        return total

    def find(self, family: Family, sequence: Sequence, running: Ordered[Sequence], promised: int) -> Place | None:
        """A place for the sequence, or None while it must wait. ``promised`` is of the running ones."""
        displaceable = self._displaceable(sequence, running)
        if not self._rows.num_free and not displaceable:
            return None
        start = self._start(family, sequence)
        have = start.num_shared // self._kv.block_size if start.source else start.hit
        needed = self._kv.num_more(sequence.tables, have, sequence.num_known)
        if start.source is None:
            needed += self._kv.num_idle(sequence.tables, start.hit)
        available = self._kv.pool.num_available - promised - needed - self._kv.num_groups
        victims: list[Sequence] = []
        for victim in (*displaceable, None):
            has_row = self._rows.num_free + len(victims) > 0
            is_alone = self._rows.num_taken == len(victims)
            if has_row and (available >= 0 or is_alone):
                return Place(start.hit, start.num_queried, start.source, start.num_shared, tuple(victims))
            if victim is None or victim is start.source:
                return None
            victims.append(victim)
            available += self._kv.num_alone(victim.tables) + self.promised([victim])
        return None

    def _start(self, family: Family, sequence: Sequence) -> Place:
        """Whose KV can stand for the sequence's own: the prefix cache's, or a sibling's if that saves more."""
        if not sequence.reads_cache():
            return Place()
        hit = num_queried = 0
        if sequence.request.reads_prefix_cache:
            num_queried = sequence.num_known
            hit = self._kv.find(sequence.tables, sequence.tokens_between, num_queried)
        num_shared = family.num_shared
        if hit * self._kv.block_size < num_shared:
            source = family.source(sequence)
            if source is not None and self._kv.can_fork(source.tables, num_shared):
                return Place(0, num_queried, source, num_shared)
        return Place(hit, num_queried)

    def _displaceable(self, sequence: Sequence, running: Ordered[Sequence]) -> list[Sequence]:
        """Running sequences that must give way to this one, last in the order first.

        One that need not ends the search.
        """
        found = []
        for other in reversed(running):
            if not self._policy.displaces(sequence.request, other.request):
                break
            if not other.num_in_flight:
                found.append(other)
        return found

    def let_in(self, sequence: Sequence, place: Place) -> tuple[Scheduled, list[BlockCopy]]:
        """Give a sequence its row and what it need not compute."""
        self._rows.take(sequence)
        copies: list[BlockCopy] = []
        if place.source is not None:
            copies = self._kv.fork(place.source.tables, sequence.tables, place.num_shared)
            sequence.num_planned = sequence.num_computed = place.num_shared
        else:
            self._kv.attach(sequence.tables, place.hit)
            sequence.num_planned = sequence.num_computed = place.hit * self._kv.block_size
        is_first, sequence.was_scheduled = not sequence.was_scheduled, True
        return Scheduled(sequence.request.id, sequence.index, place.hit * self._kv.block_size, is_first), copies
