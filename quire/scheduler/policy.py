"""A policy taken from its shelf.

Not here: the policies (policies/).
Door: Policy, Shares, load_policy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from quire import plugins
from quire.core.request import Request
from quire.errors import ConfigError


class Shares(Protocol):
    """What tenants have had of one engine."""

    def came(self, request: Request) -> None: ...
    def used(self, request: Request, num_tokens: int) -> None: ...
    def left(self, request: Request) -> None: ...
    def rank(self, tenant: str) -> float:
        """Of a tenant whose request came and has not left; the smallest is served first."""
        ...


@dataclass(frozen=True, slots=True)
class Policy:
    """The questions that a policy answers; see policies/. ``shares``: None where tenants are all one."""

    order: Callable[[Request, int], tuple[int, ...]]
    displaces: Callable[[Request, Request], bool]
    shares: Callable[[], Shares] | None = None


def load_policy(name: str) -> Policy:
    """Raises: ConfigError when the shelf has no such policy or it lacks a function."""
    module = plugins.load("scheduler.policies", name)
    try:
        return Policy(module.order, module.displaces, getattr(module, "Shares", None))
    except AttributeError as error:
        raise ConfigError(f"The scheduling policy {name!r} must define order() and displaces(): {error}.") from None
