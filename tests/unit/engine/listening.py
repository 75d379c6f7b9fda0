"""A request's events as an iterator, for tests that follow one stream.

Not here: tests. Door: events_of.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from quire.core.events import Delta
from quire.core.request import Request
from quire.engine.client import EngineClient, Event
from quire.errors import QuireError


async def events_of(client: EngineClient, request: Request) -> AsyncGenerator[Event, None]:
    """The events until all samples have finished; what the listener is told as an error is raised. Closing withdraws
    the request.
    """
    told: asyncio.Queue[Event | QuireError] = asyncio.Queue()
    num_open = request.n
    client.submit(request, told.put_nowait)
    try:
        while num_open:
            event = await told.get()
            if isinstance(event, QuireError):
                raise event
            num_open -= isinstance(event, Delta) and event.finish is not None
            yield event
    finally:
        client.withdraw(request.id)
