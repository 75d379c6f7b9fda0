"""The engine's process: reads its configuration, loads the model, and serves the front over an inherited socket.

Started as ``python -m quire.engine.main SOCKET_FD HEARTBEAT_FD`` with the configuration as JSON on standard input. A
thread reads the socket; the main thread runs the loop, so that torch always computes in one and the same thread. When
the front goes away the process ends at once, also while it loads or computes.

Not here: the other end of the socket (process.py).
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import queue
import signal
import socket
import sys
import threading
from collections.abc import Callable

import msgspec
from setproctitle import setproctitle

from quire import plugins
from quire.config.decided import EngineConfig
from quire.core.command import Cancel, Command, Reply
from quire.core.events import StartFailed
from quire.core.request import Request
from quire.core.wire import Decoder, Message, WireError, encode, encode_events
from quire.engine.executor import Executor
from quire.engine.heartbeat import Heartbeat
from quire.engine.loop import EngineLoop
from quire.errors import QuireError
from quire.scheduler.scheduler import Scheduler

logger = logging.getLogger(__name__)

_RECEIVE_BYTES = 1 << 20


class Inbox:
    """Messages from the front, received by a thread of its own; ``on_gone`` is called in that thread when the front
    goes away.
    """

    def __init__(self, connection: socket.socket, on_gone: Callable[[], None]) -> None:
        self._connection = connection
        self._on_gone = on_gone
        self._messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        threading.Thread(target=self._receive, name="receive", daemon=True).start()

    def take(self, waits: bool) -> list[Message]:
        """What has arrived; with ``waits`` at least one message."""
        messages: list[Message] = []
        try:
            messages.append(self._messages.get(block=waits))
            while True:
                messages.append(self._messages.get_nowait())
        except queue.Empty:
            return messages

    def _receive(self) -> None:
        decoder = Decoder()
        try:
            while data := self._connection.recv(_RECEIVE_BYTES):
                for message in decoder.feed(data):
                    self._messages.put(message)
        except (OSError, WireError) as error:
            logger.error("The front's socket cannot be read any more: %s", error)
        finally:
            self._on_gone()


class Service:
    """Connects a loop to the front: requests in, events out."""

    def __init__(self, connection: socket.socket, inbox: Inbox, loop: EngineLoop) -> None:
        self._connection = connection
        self._inbox = inbox
        self._loop = loop

    def turn(self) -> None:
        """Handle what has arrived and compute one step; with nothing to compute, wait for a message first."""
        for message in self._inbox.take(waits=not self._loop.has_work):
            self._handle(message)
        if self._loop.has_work:
            for frame in encode_events(self._loop.step()):
                self._send(frame)

    def _handle(self, message: Message) -> None:
        if isinstance(message, Request):
            self._loop.add(message)
        elif isinstance(message, Cancel):
            self._loop.cancel(message.request_id, message.index)
        elif isinstance(message, Command):
            self._send(encode(self._answer(message)))
        else:
            raise WireError(f"A front does not send a {type(message).__name__}.")

    def _answer(self, command: Command) -> Reply:
        try:
            text = plugins.load("engine.commands", command.name).run(self._loop, *command.arguments)
            return Reply(command.number, text=text)
        except Exception as error:
            logger.exception("The command %r failed.", command.name)
            return Reply(command.number, error=f"The command {command.name!r} failed ({type(error).__name__}).")

    def _send(self, frame: bytes) -> None:
        # When the front is gone the inbox notices the same, and ends the process.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._connection.sendall(frame)


def main(arguments: list[str]) -> int:
    """Serve one front until it goes away; returns an exit code only when the engine cannot start."""
    setproctitle("quire engine")
    # These reach the front's whole process group; the front decides when this process ends.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    connection, heartbeat = socket.socket(fileno=int(arguments[0])), Heartbeat(int(arguments[1]))
    config = msgspec.json.decode(sys.stdin.buffer.read(), type=EngineConfig)
    logging.basicConfig(level=config.log_level.upper(), format="%(asctime)s %(levelname)s engine: %(message)s")
    inbox = Inbox(connection, on_gone=lambda: os._exit(0))
    try:
        executor: Executor = plugins.load("engine.executors", config.executor).Executor(config.worker)
        ready = executor.start()
    except (QuireError, MemoryError, OSError) as error:
        connection.sendall(encode(StartFailed(str(error) or type(error).__name__)))
        return 1
    heartbeat.start()
    connection.sendall(encode(ready))
    service = Service(connection, inbox, EngineLoop(Scheduler(config.scheduler, config.kv), executor, heartbeat))
    # What is there now stays: a full collection would walk over all of torch, and every stream would wait for it.
    gc.freeze()
    while True:
        service.turn()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
