"""Sequences that wait for a row: each tenant's in the policy's order, the tenants by what they have had.

Not here: who may leave (scheduler.py).
Door: WaitingQueue.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from operator import attrgetter

from quire.scheduler.sequence import Sequence

by_order = attrgetter("order")


class WaitingQueue:
    """Lists sorted by ``Sequence.order``, which no two sequences share: one, or with ``rank`` one for each tenant that
    has something to wait for.
    """

    __slots__ = ("_lists", "_rank")

    def __init__(self, rank: Callable[[str], float] | None = None) -> None:
        self._rank = rank
        self._lists: dict[str, list[Sequence]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._lists.values()))

    def __iter__(self) -> Iterator[Sequence]:
        return iter(sorted((sequence for one in self._lists.values() for sequence in one), key=by_order))

    def add(self, sequence: Sequence) -> None:
        insort(self._lists.setdefault(self._tenant(sequence), []), sequence, key=by_order)

    def first(self) -> Sequence:
        """Of the tenant that has had least."""
        rank = self._rank
        if rank is None:
            return self._lists[""][0]
        return min((rank(tenant), one[0].order, one[0]) for tenant, one in self._lists.items())[2]

    def remove(self, sequence: Sequence) -> None:
        """Raises: ValueError when it does not wait."""
        tenant = self._tenant(sequence)
        one = self._lists.get(tenant, [])
        place = bisect_left(one, sequence.order, key=by_order)
        if place == len(one) or one[place] is not sequence:
            raise ValueError(f"Sequence {sequence.index} of request {sequence.request.id} does not wait.")
        del one[place]
        if not one:
            del self._lists[tenant]

    def _tenant(self, sequence: Sequence) -> str:
        return "" if self._rank is None else sequence.request.tenant
