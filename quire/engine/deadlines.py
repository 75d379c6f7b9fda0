"""Which unfinished requests have run out of the time that their clients gave them.

Not here: what ends them (loop.py in the engine, supervisor.py while there is none).
Door: Deadlines.
"""

from __future__ import annotations

import heapq

from quire.core.ids import RequestId
from quire.core.request import Request


class Deadlines:
    """Times are on the machine's monotonic clock. A request that ended meanwhile is told too, when its time comes."""

    __slots__ = ("_heap",)

    def __init__(self) -> None:
        self._heap: list[tuple[float, RequestId]] = []

    def add(self, request: Request) -> None:
        """Watch a request, if it has a deadline."""
        if request.deadline_s:
            heapq.heappush(self._heap, (request.deadline_s, request.id))

    def passed(self, now_s: float) -> list[RequestId]:
        """Those whose time is up, each once, the earliest first."""
        found = []
        while self._heap and self._heap[0][0] <= now_s:
            found.append(heapq.heappop(self._heap)[1])
        return found
