"""First come, first served."""

from __future__ import annotations

from quire.core.request import Request


def order(request: Request, arrival: int) -> tuple[int, ...]:
    """Smaller is served first and preempted last."""
    return (arrival,)


def displaces(waiting: Request, running: Request) -> bool:
    """Nobody gives way to one who came later."""
    return False
