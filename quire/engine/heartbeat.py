"""Signs of life of an engine, in memory that it shares with its front.

A thread of the engine counts beats, so that a stopped or locked process shows; the loop notes each step's beginning and
end, so that a step that never ends shows too. How long a step may take follows from the steps before it.

Not here: what is done about a dead engine (supervisor.py).
Door: Heartbeat (the engine's side), Watch (the front's side).
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
import time
from collections.abc import Callable

_LAYOUT = struct.Struct("<QQQdd")
"""Beats, steps ended, tokens of the step under way (0: none is), seconds of the slowest token and the slowest step."""
_BEAT_S = 0.25

CHECK_S = 0.5
"""How often a front should look."""
MAX_MISSED = 7
"""Looks in a row that may find no new beat: 3.5 s."""
MIN_STEP_S = 5.0
"""No step is called stuck before."""
UNKNOWN_STEP_S = 300.0
"""How long the first step may take, when nothing is known about this model's speed."""
PATIENCE = 20.0
"""A step may take so many times what the slowest token before it took for each of its own, or of the slowest step."""


class Heartbeat:
    """Written by one process. ``end_step`` without ``begin_step`` before it is an error of ours."""

    def __init__(self, fd: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._memory = mmap.mmap(fd, _LAYOUT.size)
        self._clock = clock
        self._lock = threading.Lock()
        self._beats = self._steps = self._tokens = 0
        self._token_s = self._step_s = 0.0
        self._began_s = 0.0

    def start(self) -> None:
        """Beat from now on, in a thread of its own, until the process ends."""
        threading.Thread(target=self._beat_forever, name="heartbeat", daemon=True).start()

    def begin_step(self, num_tokens: int) -> None:
        """A step of so many tokens begins."""
        self._began_s = self._clock()
        with self._lock:
            self._tokens = max(1, num_tokens)
            self._write()

    def end_step(self) -> None:
        """The step has ended; its speed counts for the next ones."""
        seconds = self._clock() - self._began_s
        with self._lock:
            self._token_s = max(seconds / self._tokens, self._token_s)
            self._step_s = max(seconds, self._step_s)
            self._tokens = 0
            self._steps += 1
            self._write()

    def beat(self) -> None:
        """One sign of life."""
        with self._lock:
            self._beats += 1
            self._write()

    def _beat_forever(self) -> None:
        while True:
            self.beat()
            time.sleep(_BEAT_S)

    def _write(self) -> None:
        _LAYOUT.pack_into(self._memory, 0, self._beats, self._steps, self._tokens, self._token_s, self._step_s)


class Watch:
    """Reads one process's signs. Time is counted in looks, so that a front that was itself stopped raises no alarm."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("quire-heartbeat")
        os.ftruncate(self.fd, _LAYOUT.size)
        self._memory = mmap.mmap(self.fd, _LAYOUT.size)
        self._beats = self._steps = 0
        self._num_missed = self._num_stuck = 0

    def look(self) -> str | None:
        """To be called every ``CHECK_S``: what is wrong with the engine, or None."""
        beats, steps, tokens, token_s, step_s = _LAYOUT.unpack_from(self._memory, 0)
        self._num_missed = self._num_missed + 1 if beats == self._beats else 0
        self._num_stuck = self._num_stuck + 1 if tokens and steps == self._steps else 0
        self._beats, self._steps = beats, steps
        if self._num_missed > MAX_MISSED:
            return f"it has given no sign of life for {self._num_missed * CHECK_S:.1f} s"
        longest_s = max(MIN_STEP_S - CHECK_S, PATIENCE * max(token_s * tokens, step_s)) if step_s else UNKNOWN_STEP_S
        if self._num_stuck * CHECK_S > longest_s:
            return f"a step of {tokens} tokens has not ended after {self._num_stuck * CHECK_S:.1f} s"
        return None

    def close(self) -> None:
        """Give back the shared memory; a second call does nothing."""
        if not self._memory.closed:
            self._memory.close()
            os.close(self.fd)
