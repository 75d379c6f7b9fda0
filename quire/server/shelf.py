"""What a file on the shelf ``routes`` exports, and how app.py collects it.

A file exports ``endpoints`` (a tuple of Endpoint) and ``examples`` (a tuple of Example, at least one that succeeds and
one that does not where the endpoint can fail).

Not here: the endpoints. Door: Endpoint, Example, collect.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType

from starlette.requests import Request
from starlette.types import ASGIApp

from quire import plugins
from quire.config.decided import ServerConfig
from quire.errors import ConfigError
from quire.server.front import Service

SHELF = "server.routes"

Serve = Callable[[Request, Service], Awaitable[ASGIApp]]


def _always(config: ServerConfig) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A route. ``takes`` and ``gives`` are the records of its JSON bodies, for the OpenAPI document;
    ``streams`` is the record of its events.

    ``is_open``: served without a key. ``is_on``: whether this configuration has it at all.
    """

    path: str
    methods: tuple[str, ...]
    serve: Serve
    summary: str
    takes: type | None = None
    gives: type | None = None
    streams: type | None = None
    is_open: bool = False
    is_on: Callable[[ServerConfig], bool] = _always


@dataclass(frozen=True, slots=True)
class Example:
    """A request and the status that it must be answered with."""

    method: str
    path: str
    status: int
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict)


@cache
def _modules() -> tuple[tuple[str, ModuleType], ...]:
    return tuple((name, plugins.load(SHELF, name)) for name in plugins.names(SHELF))


def collect(config: ServerConfig) -> list[Endpoint]:
    """Every endpoint of the shelf that this configuration has, in the order of its files.

    Raises: ConfigError when two files claim the same method of the same path.
    """
    endpoints: list[Endpoint] = []
    claimed: set[tuple[str, str]] = set()
    for name, module in _modules():
        for endpoint in module.endpoints:
            if not endpoint.is_on(config):
                continue
            for method in endpoint.methods:
                if (method, endpoint.path) in claimed:
                    raise ConfigError(f"Two files of the shelf {SHELF} serve {method} {endpoint.path}; one is {name}.")
                claimed.add((method, endpoint.path))
            endpoints.append(endpoint)
    return endpoints
