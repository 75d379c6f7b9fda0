"""What a front needs of an engine, wherever it runs.

Not here: an engine in processes of its own (supervisor.py).
Door: EngineClient, Event.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Protocol

from quire.core.events import Delta, EngineStats, Scheduled, StepEvents
from quire.core.ids import RequestId
from quire.core.request import Request

Event = Delta | Scheduled


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

    def submit(self, request: Request) -> AsyncGenerator[Event, None]:
        """The request's events until all its samples have finished. Closing the iterator cancels what has not.

        Raises: EngineDead when no engine can be had; SequenceFailed when the request is what ends engines.
        """
        ...

    def cancel(self, request_id: RequestId, index: int | None = None) -> None:
        """Stop a request, or one of its samples, which then finishes with ``abort``. Unknown ids are ignored."""
        ...

    async def command(self, name: str, *arguments: str) -> str:
        """Run a command of the shelf engine/commands and give its answer."""
        ...
