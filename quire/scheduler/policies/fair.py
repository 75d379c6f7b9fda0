"""Each tenant its share of the tokens, by weight, as long as it wants it; within a tenant first come, first served.

The tenant that has been served least comes first: tokens computed for it, prompt and output alike, over its weight. One
that was away begins where the least served of the others stands, so that nobody saves up; while only one wants
anything, it gets everything.

Source: the virtual token counter (Sheng et al. 2024, Fairness in Serving Large Language Models).
"""

from __future__ import annotations

from quire.core.request import Request


def order(request: Request, arrival: int) -> tuple[int, ...]:
    """Smaller is served first within a tenant, and preempted last."""
    return (arrival,)


def displaces(waiting: Request, running: Request) -> bool:
    """Nobody gives way to one who came later: shares hold over time, not at every moment."""
    return False


class Shares:
    """What each tenant has had. Invariant: ``_num_requests`` has exactly the tenants with unfinished requests."""

    def __init__(self) -> None:
        self._had: dict[str, float] = {}
        self._num_requests: dict[str, int] = {}

    def came(self, request: Request) -> None:
        """A request of a tenant is there."""
        tenant, present = request.tenant, self._num_requests
        if tenant not in present:
            least = min((self._had[other] for other in present), default=0.0)
            self._had[tenant] = max(self._had.get(tenant, 0.0), least)
            present[tenant] = 0
        present[tenant] += 1

    def used(self, request: Request, num_tokens: int) -> None:
        """So many tokens were computed for it."""
        self._had[request.tenant] += num_tokens / request.weight

    def left(self, request: Request) -> None:
        """It has ended."""
        self._num_requests[request.tenant] -= 1
        if not self._num_requests[request.tenant]:
            del self._num_requests[request.tenant]
        if not self._num_requests:
            self._had.clear()

    def rank(self, tenant: str) -> float:
        """The smallest comes first."""
        return self._had[tenant]
