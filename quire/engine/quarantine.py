"""Which unfinished requests an engine may have: all, or one suspect alone.

A request that an engine had begun with when it ended is blamed. Blamed twice, it is a suspect: the next engine gets it
alone until it has told some tokens or some time has passed, and if that engine ends before, the request is what ended
it.

Not here: engines (supervisor.py).
Door: Quarantine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from quire.engine.journal import Entry

MAX_CRASHES = 2
"""From so many crashes on a request is a suspect."""
TRIAL_TOKENS = 8
"""A suspect that tells so many tokens alone is no longer one."""


class Quarantine:
    """Invariant: while somebody is on trial, no other request that was not sent before is sent."""

    def __init__(self, trial_s: float, clock: Callable[[], float]) -> None:
        self._trial_s = trial_s
        self._clock = clock
        self._on_trial: Entry | None = None
        self._began_s = 0.0

    def admissible(self, entries: Iterable[Entry]) -> list[Entry]:
        """Those of the entries that may be sent now."""
        if self._is_under_way():
            return []
        self._on_trial = None
        unsent = [entry for entry in entries if not entry.is_sent and not entry.is_finished]
        suspect = next((entry for entry in unsent if entry.num_crashes >= MAX_CRASHES), None)
        if suspect is None:
            return unsent
        self._on_trial = suspect
        self._began_s = self._clock()
        return [suspect]

    def is_on_trial(self, entry: Entry) -> bool:
        """Whether this is the suspect that the others wait for."""
        return entry is self._on_trial

    def convict(self) -> Entry | None:
        """The engine has ended: whoever was on trial and had begun is guilty."""
        guilty = self._on_trial if self._is_under_way() and self._on_trial and self._on_trial.is_begun else None
        self._on_trial = None
        return guilty

    def _is_under_way(self) -> bool:
        entry = self._on_trial
        if entry is None or entry.is_finished:
            return False
        if entry.num_told < TRIAL_TOKENS and self._clock() - self._began_s < self._trial_s:
            return True
        entry.num_crashes = 0
        return False
