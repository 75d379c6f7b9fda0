"""The smaller ``priority`` first; among equals, first come, first served."""

from __future__ import annotations

from quire.core.request import Request


def order(request: Request, arrival: int) -> tuple[int, ...]:
    """Smaller is served first and preempted last."""
    return (request.priority, arrival)


def displaces(waiting: Request, running: Request) -> bool:
    """A running request gives way to a strictly more urgent one."""
    return waiting.priority < running.priority
