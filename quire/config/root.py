"""The decided configuration as a whole, with a reason for each value. Only the composition root and the command line
see it.

Not here: who decides (resolve.py), the slices (decided.py).
Door: Decided.
"""

from __future__ import annotations

from msgspec import Struct

from quire.config.card import Card
from quire.config.decided import KVConfig, SchedulerConfig, ServerConfig, TextConfig, WorkerConfig
from quire.config.decision import Decision
from quire.config.fit import MemoryPlan


class Decided(Struct, frozen=True):
    """Everything that a run needs to know. ``notices``: one line each, to be told once."""

    card: Card
    kv: KVConfig
    scheduler: SchedulerConfig
    worker: WorkerConfig
    text: TextConfig
    server: ServerConfig | None
    plan: MemoryPlan
    decisions: tuple[Decision, ...] = ()
    notices: tuple[str, ...] = ()

    @property
    def reasons(self) -> dict[str, str]:
        """Why each value is what it is, by its name."""
        return {one.name: one.reason for one in self.decisions}
