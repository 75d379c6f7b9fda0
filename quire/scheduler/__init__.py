"""Which sequence computes what in the next step, and what its result means. Pure: no clock, no IO, no chance, no
tensor.

Door: Scheduler, Planned.
"""

from quire.scheduler.draft import Planned
from quire.scheduler.scheduler import Scheduler

__all__ = ["Planned", "Scheduler"]
