"""Event streams, sent as ASGI messages without anything in between, and the watch over the client while it waits.

An event is encoded once, by who makes it, and sent as it is. The answer begins with the first event, so that a failure
before it still has a status of its own; a failure after it becomes an error event. Every stream ends in ``[DONE]``.

Not here: what an event says (routes/). Door: EventStream, until_gone, event.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Coroutine
from typing import TypeVar

from starlette.types import Receive, Scope, Send

from quire.errors import QuireError
from quire.server.faults import ClientGone, fault_bytes, fault_of

logger = logging.getLogger(__name__)

DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]

T = TypeVar("T")


def event(payload: bytes) -> bytes:
    """A JSON document as an event. JSON has no raw newline, so that nothing a model says can break the framing."""
    return b"data: " + payload + b"\n\n"


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def until_gone(receive: Receive, work: Coroutine[object, object, T]) -> T:
    """What ``work`` gives, unless the client goes first: then it is cancelled.

    Raises: ClientGone. The body must have been read before.
    """
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientGone
    finally:
        for task in (working, watching):
            task.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


class EventStream:
    """A response whose body is the events of a generator (each time one or several), which is closed at once when the
    client goes. Events that come while a slow client does not read are sent together.

    ``keep_alive_s``: after this long without an event a comment is sent (and begins the answer if need be); 0: never.
    """

    def __init__(self, events: AsyncGenerator[bytes, None], *, keep_alive_s: float = 0) -> None:
        self._events = events
        self._keep_alive_s = keep_alive_s
        self._turn = asyncio.Lock()
        self._has_started = False
        self._num_sent = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        work = self._run_with_comments(send) if self._keep_alive_s > 0 else self._run(send)
        try:
            await until_gone(receive, work)
        except (ClientGone, OSError):
            if not self._has_started:
                raise ClientGone from None

    async def _run(self, send: Send) -> None:
        async with contextlib.aclosing(self._events) as events:
            try:
                pass_on = self._send if self._keep_alive_s > 0 else self._pass_on
                async for some in events:
                    await pass_on(send, some)
            except (OSError, asyncio.CancelledError):
                raise
            except Exception as error:
                if not self._has_started:
                    raise
                await self._send(send, event(fault_bytes(self._told(error))))
        async with self._turn:
            await self._start(send)
            await send({"type": "http.response.body", "body": DONE, "more_body": False})

    async def _run_with_comments(self, send: Send) -> None:
        comments = asyncio.ensure_future(self._comment(send))
        try:
            await self._run(send)
        finally:
            comments.cancel()
            await asyncio.gather(comments, return_exceptions=True)

    async def _comment(self, send: Send) -> None:
        while True:
            num_sent = self._num_sent
            await asyncio.sleep(self._keep_alive_s)
            if self._num_sent == num_sent:
                await self._send(send, KEEP_ALIVE)

    async def _send(self, send: Send, some: bytes) -> None:
        """Events or a comment: one after the other, whoever sends them."""
        async with self._turn:
            await self._pass_on(send, some)

    async def _pass_on(self, send: Send, some: bytes) -> None:
        if not self._has_started:
            await self._start(send)
        self._num_sent += 1
        await send({"type": "http.response.body", "body": some, "more_body": True})

    async def _start(self, send: Send) -> None:
        if not self._has_started:
            self._has_started = True
            await send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})

    @staticmethod
    def _told(error: Exception) -> QuireError:
        if not isinstance(error, QuireError):
            logger.error("A stream failed", exc_info=error)
        return fault_of(error)
