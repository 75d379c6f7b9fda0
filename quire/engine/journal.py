"""What the front keeps of a request so that another engine can go on with it: its ids in and its ids out so far.

Not here: when another engine is needed (supervisor.py).
Door: Entry.
"""

from __future__ import annotations

from msgspec.structs import replace

from quire.core.events import Delta, Scheduled
from quire.core.request import Request, Resumed
from quire.engine.client import Event, Listener


class Entry:
    """An unfinished request, and who listens to it.

    Invariant: ``_generated`` has exactly the samples that have not finished, with all tokens that were told of them.
    """

    __slots__ = ("_cancelled", "_generated", "is_begun", "is_sent", "listener", "num_crashes", "num_told", "request")

    def __init__(self, request: Request, listener: Listener) -> None:
        self.request = request
        self.listener = listener
        self.is_sent = False
        """Whether the present engine has it."""
        self.is_begun = False
        """Whether the present engine has given it a row."""
        self.num_crashes = 0
        """Engines that ended while they had begun with it."""
        self.num_told = 0
        """Tokens that the present engine has told."""
        self._generated: dict[int, list[int]] = {index: [] for index in range(request.n)}
        self._cancelled: set[int] = set()

    @property
    def is_finished(self) -> bool:
        """Whether every sample has ended."""
        return not self._generated

    def take(self, event: Event) -> None:
        """Note an event of the present engine and pass it on."""
        generated = self._generated.get(event.index)
        if generated is None:
            return
        if isinstance(event, Scheduled):
            self.is_begun = True
        else:
            self.num_told += len(event.token_ids)
            generated += event.token_ids
            if event.finish is not None:
                del self._generated[event.index]
        self.listener(event)

    def cancel(self, index: int | None) -> None:
        """Samples that no engine shall go on with; one that no engine has ends at once."""
        self._cancelled |= self._generated.keys() & ({index} if index is not None else self._generated.keys())
        if not self.is_sent:
            self._end_cancelled()

    def expire(self) -> None:
        """Its time is up: what is unfinished ends, whatever an engine does with it."""
        for index in sorted(self._generated):
            self.take(Delta(self.request.id, index, finish="timeout"))

    def lose(self) -> None:
        """The engine that had it is gone."""
        if self.is_begun:
            self.num_crashes += 1
        self.is_sent = self.is_begun = False
        self.num_told = 0
        self._end_cancelled()

    def resumption(self) -> Request:
        """The request as the next engine must get it: each unfinished sample with what was told of it."""
        self.is_sent = True
        samples = tuple(Resumed(index, tuple(token_ids)) for index, token_ids in self._generated.items())
        return replace(self.request, resumed=samples)

    def _end_cancelled(self) -> None:
        for index in sorted(self._cancelled & self._generated.keys()):
            self.take(Delta(self.request.id, index, finish="abort"))
