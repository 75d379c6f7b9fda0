"""The front's handle on an engine that runs in a process of its own.

Not here: the process itself (main.py), text, HTTP.
Door: EngineClient (what a server needs), ProcessClient (the engine in a child process).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import socket
import sys
from collections.abc import AsyncGenerator, Callable
from typing import Protocol

import msgspec

from quire.config.decided import EngineConfig
from quire.core.command import Cancel, Command, Reply
from quire.core.events import Delta, EngineStats, Ready, Scheduled, StartFailed, StepEvents
from quire.core.ids import RequestId
from quire.core.request import Request
from quire.core.wire import Decoder, Message, WireError, encode
from quire.errors import CheckpointError, EngineDead, QuireError

logger = logging.getLogger(__name__)

_RECEIVE_BYTES = 1 << 20
_SOCKET_BUFFER_BYTES = 4 << 20
_STOP_GRACE_S = 5.0
_COMMAND = (sys.executable, "-m", "quire.engine.main")

Event = Delta | Scheduled


class EngineClient(Protocol):
    """What a front needs of an engine. All calls belong to one event loop."""

    on_events: list[Callable[[StepEvents], None]]

    @property
    def stats(self) -> EngineStats: ...

    @property
    def is_alive(self) -> bool: ...

    def submit(self, request: Request) -> AsyncGenerator[Event, None]:
        """The request's events until all its samples have finished. Closing the iterator cancels what has not.

        Raises: EngineDead when the engine ends before the request does.
        """

    def cancel(self, request_id: RequestId, index: int | None = None) -> None:
        """Stop a request, or one of its samples, which then finishes with ``abort``."""

    async def command(self, name: str, *arguments: str) -> str:
        """Run a command of the shelf engine/commands and give its answer."""


class ProcessClient:
    """An engine in a child process, reached over a socket pair that nobody else can open.

    Invariant: ``_inboxes`` holds exactly the requests whose iterator is alive and not at its end.
    """

    def __init__(self, config: EngineConfig, command: tuple[str, ...] = _COMMAND) -> None:
        self.on_events: list[Callable[[StepEvents], None]] = []
        self.on_death: list[Callable[[], None]] = []
        self._config = config
        self._command = command
        self._inboxes: dict[RequestId, asyncio.Queue[Event | None]] = {}
        self._replies: dict[int, asyncio.Future[Reply]] = {}
        self._numbers = itertools.count(1)
        self._stats = EngineStats(num_blocks=config.kv.num_blocks)
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._receiver: asyncio.Task[None] | None = None
        self._is_stopping = False

    @property
    def stats(self) -> EngineStats:
        """The engine as its last step told."""
        return self._stats

    @property
    def is_alive(self) -> bool:
        """Whether the engine's process can still be talked to."""
        return self._receiver is not None and not self._receiver.done()

    async def start(self) -> Ready:
        """Start the process and wait until its model is loaded.

        Raises: CheckpointError with the engine's own words; EngineDead when it ended without any.
        """
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER_BYTES)
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                str(theirs.fileno()),
                stdin=asyncio.subprocess.PIPE,
                pass_fds=(theirs.fileno(),),
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        reader, self._writer = await asyncio.open_connection(sock=ours)
        await self._send_config(self._process)
        decoder = Decoder()
        first, rest = await self._first_message(reader, decoder)
        if isinstance(first, StartFailed):
            raise CheckpointError(first.message)
        if not isinstance(first, Ready):
            raise EngineDead(f"The engine's process ended while loading (exit code {await self._process.wait()}).")
        self._receiver = asyncio.create_task(self._receive(reader, decoder, rest), name="engine events")
        return first

    async def stop(self) -> None:
        """End the process: politely by closing its socket, and by force when it does not listen."""
        self._is_stopping = True
        if self._writer is not None:
            self._writer.close()
        if self._process is not None:
            try:
                await asyncio.wait_for(self._process.wait(), _STOP_GRACE_S)
            except TimeoutError:
                logger.warning("The engine did not end within %.0f s and is killed.", _STOP_GRACE_S)
                self._process.kill()
                await self._process.wait()
        if self._receiver is not None:
            await asyncio.wait([self._receiver])
        if self._writer is not None:
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()

    async def submit(self, request: Request) -> AsyncGenerator[Event, None]:
        """See EngineClient.submit."""
        inbox: asyncio.Queue[Event | None] = asyncio.Queue()
        self._inboxes[request.id] = inbox
        num_unfinished = request.n
        try:
            self._send(request)
            while num_unfinished:
                event = await inbox.get()
                if event is None:
                    raise _dead()
                if isinstance(event, Delta) and event.finish is not None:
                    num_unfinished -= 1
                yield event
        finally:
            del self._inboxes[request.id]
            if num_unfinished and self.is_alive:
                self.cancel(request.id)

    def cancel(self, request_id: RequestId, index: int | None = None) -> None:
        """See EngineClient.cancel."""
        if self.is_alive:
            self._send(Cancel(request_id, index))

    async def command(self, name: str, *arguments: str) -> str:
        """See EngineClient.command. Raises QuireError with the engine's words when the command failed."""
        number = next(self._numbers)
        self._replies[number] = asyncio.get_running_loop().create_future()
        try:
            self._send(Command(number, name, arguments))
            reply = await self._replies[number]
        finally:
            del self._replies[number]
        if reply.error:
            raise QuireError(reply.error)
        return reply.text

    def _send(self, message: Message) -> None:
        if not self.is_alive or self._writer is None:
            raise _dead()
        self._writer.write(encode(message))

    async def _send_config(self, process: asyncio.subprocess.Process) -> None:
        pipe = process.stdin
        if pipe is None:
            raise RuntimeError("The engine's process was started without a pipe for its configuration.")
        pipe.write(msgspec.json.encode(self._config))
        pipe.close()
        await pipe.wait_closed()

    @staticmethod
    async def _first_message(reader: asyncio.StreamReader, decoder: Decoder) -> tuple[Message | None, list[Message]]:
        while data := await reader.read(_RECEIVE_BYTES):
            if messages := decoder.feed(data):
                return messages[0], messages[1:]
        return None, []

    async def _receive(self, reader: asyncio.StreamReader, decoder: Decoder, messages: list[Message]) -> None:
        """Hand out what the engine sends until its end; then wake everybody who waits."""
        try:
            while True:
                for message in messages:
                    self._handle(message)
                data = await reader.read(_RECEIVE_BYTES)
                if not data:
                    break
                messages = decoder.feed(data)
        except (OSError, WireError) as error:
            logger.error("The engine's socket cannot be read any more: %s", error)
        finally:
            self._end_everything()

    def _handle(self, message: Message) -> None:
        if isinstance(message, StepEvents):
            if message.stats is not None:
                self._stats = message.stats
            events: tuple[Event, ...] = (*message.scheduled, *message.deltas)
            for event in events:
                if (inbox := self._inboxes.get(event.request_id)) is not None:
                    inbox.put_nowait(event)
            for observe in self.on_events:
                observe(message)
        elif isinstance(message, Reply):
            if (waiting := self._replies.get(message.number)) is not None and not waiting.done():
                waiting.set_result(message)
        else:
            raise WireError(f"An engine does not send a {type(message).__name__}.")

    def _end_everything(self) -> None:
        for inbox in self._inboxes.values():
            inbox.put_nowait(None)
        for waiting in self._replies.values():
            if not waiting.done():
                waiting.set_exception(_dead())
        if not self._is_stopping:
            logger.critical("The engine's process has ended.")
            for notify in self.on_death:
                notify()


def _dead() -> EngineDead:
    return EngineDead("The engine's process has ended; this request cannot be continued.")
