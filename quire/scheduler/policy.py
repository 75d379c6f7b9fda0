"""A policy taken from its shelf.

Not here: the policies (policies/).
Door: Policy, load_policy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from quire import plugins
from quire.core.request import Request
from quire.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Policy:
    """The two questions that a policy answers; see policies/."""

    order: Callable[[Request, int], tuple[int, ...]]
    displaces: Callable[[Request, Request], bool]


def load_policy(name: str) -> Policy:
    """Raises: ConfigError when the shelf has no such policy or it lacks a function."""
    module = plugins.load("scheduler.policies", name)
    try:
        return Policy(order=module.order, displaces=module.displaces)
    except AttributeError as error:
        raise ConfigError(f"The scheduling policy {name!r} must define order() and displaces(): {error}.") from None
