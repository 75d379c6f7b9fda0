"""One engine process, from its start to its end: spawned over a socket pair that nobody else can open.

Not here: what happens when it ends (supervisor.py), its inside (main.py).
Door: EngineProcess.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys

import msgspec

from quire.config.decided import EngineConfig
from quire.core.events import Ready, StartFailed
from quire.core.wire import Decoder, Message, WireError, encode
from quire.engine.heartbeat import CHECK_S, Watch
from quire.errors import CheckpointError, EngineDead

logger = logging.getLogger(__name__)

COMMAND = (sys.executable, "-m", "quire.engine.main")
"""Runs an engine; the numbers of the inherited socket and heartbeat are added to it."""

_RECEIVE_BYTES = 1 << 20
_SOCKET_BUFFER_BYTES = 4 << 20
_STOP_GRACE_S = 5.0


class EngineProcess:
    """A process that is used once: ``start``, then ``receive`` until it is over, then ``stop``."""

    def __init__(self, config: EngineConfig, command: tuple[str, ...] = COMMAND) -> None:
        self._config = config
        self._command = command
        self._decoder = Decoder()
        self._received: list[Message] = []
        self._watch = Watch()
        self._is_killed = False
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

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
                str(self._watch.fd),
                stdin=asyncio.subprocess.PIPE,
                pass_fds=(theirs.fileno(), self._watch.fd),
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        self._reader, self._writer = await asyncio.open_connection(sock=ours)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # It ended already: the next lines find out.
            await self._send_config(self._process)
        while not self._received:
            self._received = await self._read()
        first = self._received.pop(0)
        if isinstance(first, StartFailed):
            raise CheckpointError(first.message)
        if not isinstance(first, Ready):
            raise WireError(f"An engine does not begin with a {type(first).__name__}.")
        return first

    async def receive(self) -> list[Message]:
        """The next messages, at least one.

        Raises: EngineDead at the end, whatever ended it.
        """
        while not self._received:
            self._received = await self._read()
        messages, self._received = self._received, []
        return messages

    def send(self, message: Message) -> None:
        """Write without waiting; what is sent to a process that has ended is lost, and ``receive`` says so."""
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(encode(message))

    async def watch(self) -> str:
        """Wait until the running engine shows no more life; returns what is wrong with it."""
        while (trouble := self._watch.look()) is None:
            await asyncio.sleep(CHECK_S)
        return trouble

    def kill(self) -> None:
        """End it without asking; ``receive`` raises soon after."""
        self._is_killed = True
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def stop(self) -> None:
        """End it politely by closing its socket, and by force when it does not listen. Nothing of it is left.

        A second call does nothing.
        """
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()
        if self._process is not None:
            try:
                await asyncio.wait_for(self._process.wait(), _STOP_GRACE_S)
            except TimeoutError:
                logger.warning("The engine did not end within %.0f s and is killed.", _STOP_GRACE_S)
                self.kill()
                await self._process.wait()
        self._watch.close()

    async def _send_config(self, process: asyncio.subprocess.Process) -> None:
        pipe = process.stdin
        if pipe is None:
            raise RuntimeError("The engine's process was started without a pipe for its configuration.")
        pipe.write(msgspec.json.encode(self._config))
        pipe.close()
        await pipe.wait_closed()

    async def _read(self) -> list[Message]:
        if self._reader is None or self._process is None:
            raise RuntimeError("The engine's process was not started.")
        try:
            data = await self._reader.read(_RECEIVE_BYTES)
            if data:
                return self._decoder.feed(data)
        except (OSError, WireError) as error:
            logger.error("The engine's socket cannot be read any more: %s", error)
            self.kill()
        raise EngineDead(f"The engine's process has ended ({_account(await self._process.wait(), self._is_killed)}).")


def _account(code: int, is_ours: bool) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"exit code {code}"
    hint = "; a machine that runs out of memory ends processes so" if code == -signal.SIGKILL and not is_ours else ""
    return f"signal {-code}{hint}"
