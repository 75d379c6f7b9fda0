"""What a front needs of an engine, wherever it runs.

Not here: an engine in processes of its own (supervisor.py).
Door: EngineClient, Event, Listener.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from quire.core.events import Delta, EngineStats, Scheduled, StepEvents
from quire.core.ids import RequestId
from quire.core.request import Request
from quire.errors import QuireError

Event = Delta | Scheduled
Listener = Callable[[Event | QuireError], None]
"""Is called between two turns of the event loop, so it must be quick, and must not raise."""


class EngineClient(Protocol):
    """All calls belong to one event loop."""

    on_events: list[Callable[[StepEvents], None]]
    """Told of every step, in its order."""

    num_restarts: int
    """Engines that were started because another had ended."""

    @property
    def stats(self) -> EngineStats: ...

    @property
    def is_alive(self) -> bool:
        """Whether an engine is there to compute."""
        ...

    def submit(self, request: Request, listener: Listener) -> None:
        """Have a request computed. The listener is told every event until all samples have finished, or the error
        that ends them: EngineDead when no engine can be had, SequenceFailed when the request is what ends engines.

        Raises: EngineDead when it is known now that no engine can be had; then the listener is told nothing.
        """
        ...

    def withdraw(self, request_id: RequestId) -> None:
        """Cancel what has not finished, and tell its listener nothing more. Unknown ids are ignored."""
        ...

    def cancel(self, request_id: RequestId, index: int | None = None) -> None:
        """Stop a request, or one of its samples, which then finishes with ``abort``. Unknown ids are ignored."""
        ...

    async def command(self, name: str, *arguments: str) -> str:
        """Run a command of the shelf engine/commands and give its answer."""
        ...
