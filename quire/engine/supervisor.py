"""The front's engine that does not die: processes come and go, requests go on.

Every unfinished request stands in the journal with what was told of it. When the engine's process ends, another is
started and gets the requests again, each with its own ids as a prefix; since noise is a function of seed, sample and
position, a stream notices nothing but a pause.

Not here: one process (process.py), one request (journal.py), who may run beside whom (quarantine.py).
Door: Supervisor.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable

from quire.config.decided import EngineConfig
from quire.core.command import Cancel, Command, Reply
from quire.core.events import EngineStats, Ready, StepEvents
from quire.core.ids import RequestId
from quire.core.request import Request
from quire.core.wire import Message
from quire.engine.client import Listener
from quire.engine.journal import Entry
from quire.engine.process import COMMAND, EngineProcess
from quire.engine.quarantine import Quarantine
from quire.errors import EngineDead, QuireError, SequenceFailed, ShuttingDown

logger = logging.getLogger(__name__)

MAX_CRASHES = 5
CRASH_WINDOW_S = 60.0
"""So many crashes in so many seconds open the circuit: everything is refused."""
REST_S = 30.0
"""How long an open circuit waits before it tries another engine."""
TRIAL_S = 20.0
"""How long the others wait at most while a suspect runs alone."""
_PAUSE_S = 0.2
"""Before the second restart in a row; each further one waits as long again."""


class Supervisor:
    """An EngineClient over a succession of engine processes. All calls belong to one event loop.

    Invariant: ``_entries`` holds exactly the requests whose listener has not been told their end.
    """

    def __init__(
        self,
        config: EngineConfig,
        command: tuple[str, ...] = COMMAND,
        *,
        clock: Callable[[], float] = time.monotonic,
        rest_s: float = REST_S,
        trial_s: float = TRIAL_S,
    ) -> None:
        self.on_events: list[Callable[[StepEvents], None]] = []
        self.num_restarts = 0
        self._config = config
        self._command = command
        self._clock = clock
        self._rest_s = rest_s
        self._trial_s = trial_s
        self._entries: dict[RequestId, Entry] = {}
        self._quarantine = Quarantine(trial_s, clock)
        self._replies: dict[int, asyncio.Future[Reply]] = {}
        self._numbers = itertools.count(1)
        self._stats = EngineStats(num_blocks=config.kv.num_blocks)
        self._crashes_s: deque[float] = deque(maxlen=MAX_CRASHES)
        self._process: EngineProcess | None = None
        """The present engine; None between two."""
        self._is_open = False
        self._task: asyncio.Task[None] | None = None

    @property
    def stats(self) -> EngineStats:
        """The engine as its last step told."""
        return self._stats

    @property
    def is_alive(self) -> bool:
        """Whether an engine is there to compute."""
        return self._process is not None

    async def start(self) -> Ready:
        """Start the first engine and wait until its model is loaded.

        Raises: CheckpointError with the engine's own words; EngineDead when it ended without any.
        """
        process = EngineProcess(self._config, self._command)
        try:
            ready = await process.start()
        except BaseException:
            # Nothing is under way in it, and while it loads it may not hear that it should end.
            process.kill()
            await process.stop()
            raise
        self._process = process
        self._task = asyncio.create_task(self._supervise(process), name="engine")
        return ready

    async def stop(self) -> None:
        """End the engine and whatever waits for it."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def submit(self, request: Request, listener: Listener) -> None:
        """See EngineClient.submit. A request waits while another engine is being started."""
        self._check_circuit()
        self._entries[request.id] = Entry(request, listener)
        if request.deadline_s:
            # The engine keeps deadlines too; here they hold while there is none.
            asyncio.get_running_loop().call_later(request.deadline_s - self._clock(), self._expire, request.id)
        self._send_admissible()

    def _expire(self, request_id: RequestId) -> None:
        entry = self._entries.get(request_id)  # A timer that held it would keep what has long ended.
        if entry is not None:
            if entry.is_sent and self._process is not None:
                self._process.send(Cancel(request_id, None))
            entry.expire()
            self._drop_finished(entry)

    def cancel(self, request_id: RequestId, index: int | None = None) -> None:
        """See EngineClient.cancel."""
        entry = self._entries.get(request_id)
        if entry is None:
            return
        entry.cancel(index)
        self._drop_finished(entry)
        if entry.is_sent and self._process is not None:
            self._process.send(Cancel(request_id, index))

    def withdraw(self, request_id: RequestId) -> None:
        """See EngineClient.withdraw."""
        entry = self._entries.pop(request_id, None)
        if entry is not None and not entry.is_finished and entry.is_sent and self._process is not None:
            self._process.send(Cancel(request_id))

    async def command(self, name: str, *arguments: str) -> str:
        """See EngineClient.command. Raises QuireError with the engine's words when the command failed."""
        if self._process is None:
            raise EngineDead("The engine is being started again; try in a moment.")
        number = next(self._numbers)
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._replies[number] = reply
        try:
            self._process.send(Command(number, name, arguments))
            answer = await reply
        finally:
            del self._replies[number]
        if answer.error:
            raise QuireError(answer.error)
        return answer.text

    async def _supervise(self, process: EngineProcess) -> None:
        """One engine after the other, until cancelled."""
        try:
            while True:
                watcher = asyncio.create_task(self._watch(process), name="heartbeat")
                try:
                    await self._attend(process)
                except EngineDead as error:
                    logger.error("%s %d unfinished requests will go on.", error, len(self._entries))
                finally:
                    watcher.cancel()
                await process.stop()
                self._lose_engine()
                process = await self._next_engine()
        finally:
            self._process = None
            await process.stop()
            self._fail_all(ShuttingDown("The server is shutting down."))

    async def _attend(self, process: EngineProcess) -> None:
        """Give the engine its requests and hand out what it says, until it ends."""
        self._process = process
        self._send_admissible()
        while True:
            for message in await process.receive():
                self._handle(message)
            self._send_admissible()

    async def _watch(self, process: EngineProcess) -> None:
        """Replace an engine that is there and does nothing."""
        trouble = await process.watch()
        logger.error("The engine hangs: %s. It is killed.", trouble)
        self._process = None
        process.kill()

    def _handle(self, message: Message) -> None:
        if isinstance(message, StepEvents):
            if message.stats is not None:
                self._stats = message.stats
            for scheduled in message.scheduled:
                if (entry := self._entries.get(scheduled.request_id)) is not None:
                    entry.take(scheduled)
            for delta in message.deltas:
                if (entry := self._entries.get(delta.request_id)) is not None:
                    entry.take(delta)
                    if delta.finish is not None:
                        self._drop_finished(entry)
            for observe in self.on_events:
                observe(message)
        elif isinstance(message, Reply):
            waiting = self._replies.get(message.number)
            if waiting is not None and not waiting.done():
                waiting.set_result(message)
        else:
            logger.error("The engine sent a %s, which is none of its messages.", type(message).__name__)

    def _drop_finished(self, entry: Entry) -> None:
        if entry.is_finished:
            self._entries.pop(entry.request.id, None)

    def _send_admissible(self) -> None:
        if self._process is None:
            return
        for entry in self._quarantine.admissible(self._entries.values()):
            self._process.send(entry.resumption())
            if self._quarantine.is_on_trial(entry):
                asyncio.get_running_loop().call_later(self._trial_s, self._send_admissible)

    def _lose_engine(self) -> None:
        """The engine has ended: blame, and tell those who cannot be helped."""
        self._process = None
        self._crashes_s.append(self._clock())
        guilty = self._quarantine.convict()
        for entry in list(self._entries.values()):
            entry.lose()
            self._drop_finished(entry)
        if guilty is not None:
            logger.error("Request %s ended three engines, the last one alone; it is refused.", guilty.request.id)
            reason = "This request ended the engine three times, the last time alone. Do not send it again."
            self._fail(guilty, SequenceFailed(reason))
        for waiting in self._replies.values():
            if not waiting.done():
                waiting.set_exception(EngineDead("The engine's process has ended; the command may not have been done."))

    async def _next_engine(self) -> EngineProcess:
        """Another engine, as soon as one can be had."""
        while True:
            await self._rest()
            process = EngineProcess(self._config, self._command)
            try:
                ready = await process.start()
            except QuireError as error:
                logger.error("Another engine could not be started: %s", error)
                self._crashes_s.append(self._clock())
                await process.stop()
                continue
            except BaseException:
                await process.stop()
                raise
            self.num_restarts += 1
            self._is_open = False
            logger.warning("Another engine is ready after %.1f s of loading.", ready.load_time_s)
            return process

    async def _rest(self) -> None:
        """Not at all after a first crash, a little after further ones, long when the circuit opens."""
        now_s = self._clock()
        num_recent = sum(now_s - crash_s < CRASH_WINDOW_S for crash_s in self._crashes_s)
        if num_recent < MAX_CRASHES:
            await asyncio.sleep(_PAUSE_S * (num_recent - 1))
            return
        self._is_open = True
        logger.critical(
            "%d engines ended within %.0f s; requests are refused for %.0f s.", num_recent, CRASH_WINDOW_S, self._rest_s
        )
        self._fail_all(_refusal())
        await asyncio.sleep(self._rest_s)
        self._crashes_s.clear()

    def _check_circuit(self) -> None:
        if self._is_open or self._task is None or self._task.done():
            raise _refusal()

    def _fail_all(self, error: QuireError) -> None:
        for entry in list(self._entries.values()):
            self._fail(entry, error)

    def _fail(self, entry: Entry, error: QuireError) -> None:
        if self._entries.pop(entry.request.id, None) is not None:
            entry.listener(error)


def _refusal() -> EngineDead:
    return EngineDead(
        f"The engine ended {MAX_CRASHES} times within {CRASH_WINDOW_S:.0f} s and rests; see the server's log."
    )
