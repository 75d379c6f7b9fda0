"""With how many threads a short program runs: all, or one, whichever was faster of late.

Threads wait for one another after every call of a program. Where a server's front wants a core too, a step of a small
model waits for the thread that was pushed aside, and one thread alone is more than twice as fast (docs/log.md); on idle
cores it is not. What a step computes does not depend on it.

Not here: programs (program.py), how many threads there are (config/decide_threads.py).
Door: Pace.
"""

from __future__ import annotations

from statistics import median

SHORT_S = 0.004
"""A longer program gains by every thread, whoever else wants a core."""
TRIES = 5
"""Runs that a number of threads is judged by."""
PERIOD = 500
"""Runs after which the other number is tried again; twice as many each time that the same number is the faster."""
MAX_PERIOD = 64_000


class Pace:
    """Asked for a number of threads before each run of one program, and told the seconds after it."""

    __slots__ = ("_best", "_most", "_num_left", "_period", "_seconds", "_taken", "_tried")

    def __init__(self, num_threads: int) -> None:
        self._most = num_threads
        self._best = self._tried = num_threads
        self._taken: list[float] = []
        self._seconds: dict[int, float] = {}
        """What a run took, by number of threads."""
        self._period = PERIOD
        self._num_left = 0
        """Runs with the best number, before both are tried again."""

    @property
    def num_threads(self) -> int:
        """For the next run."""
        return self._best if self._num_left else self._tried

    def took(self, seconds: float) -> None:
        """The run is done."""
        if self._most == 1:
            return
        if self._num_left:
            self._num_left -= 1
            return
        self._taken.append(seconds)
        # On many cores one thread may take many times as long: once is enough to see that.
        is_hopeless = self._tried == 1 and seconds > 2 * self._seconds[self._most]
        if len(self._taken) < TRIES and not is_hopeless:
            return
        self._seconds[self._tried] = median(self._taken)
        self._taken.clear()
        if self._tried == self._most and self._seconds[self._most] < SHORT_S:
            self._tried = 1
            return
        self._settle()

    def _settle(self) -> None:
        best = min(self._seconds, key=self._seconds.__getitem__)
        self._period = min(2 * self._period, MAX_PERIOD) if best == self._best else PERIOD
        self._best = best
        self._seconds.clear()
        self._tried, self._num_left = self._most, self._period
