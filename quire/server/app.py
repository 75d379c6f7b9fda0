"""The application: layers around the shelf of routes.

Not here: the process that listens (quire.assemble), what a route does (routes/).
Door: create_app.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, ExceptionHandler, Lifespan

from quire.config.decided import ServerConfig
from quire.engine.log_stats import StatsLine
from quire.server import shelf
from quire.server.access import Exchange, FaultBoundary, HostCheck, KeyCheck
from quire.server.front import Front, Service
from quire.server.shelf import Endpoint


def create_app(config: ServerConfig, front: Front) -> Starlette:
    """Everything that HTTP reaches. Metrics are fed from the engine's events from now on.

    Raises: ConfigError when two files of the shelf claim one route.
    """
    service = Service(config, front)
    endpoints = shelf.collect(config)
    routes = [Route(one.path, _endpoint(one, service), methods=list(one.methods)) for one in endpoints]
    for observe in (front.metrics.observe, front.admission.observe):
        if observe not in front.client.on_events:
            front.client.on_events.append(observe)
    handlers: dict[type[Exception] | int, ExceptionHandler] = {HTTPException: _raise}
    app = Starlette(
        routes=routes,
        middleware=_layers(config, front, endpoints),
        exception_handlers=handlers,
        lifespan=_lifespan(config, front, service),
    )
    app.router.redirect_slashes = False
    app.state.service = service
    app.state.endpoints = tuple(endpoints)
    return app


def _endpoint(endpoint: Endpoint, service: Service) -> Callable[[Request], Awaitable[ASGIApp]]:
    async def serve(request: Request) -> ASGIApp:
        return await endpoint.serve(request, service)

    return serve


async def _raise(request: Request, error: Exception) -> Response:
    """Every error is written in one place, by FaultBoundary."""
    raise error


def _layers(config: ServerConfig, front: Front, endpoints: list[Endpoint]) -> list[Middleware]:
    """From the outermost to the innermost. CORS stands outside of the faults, so that a page may read them, and of the
    keys, because a browser's preflight carries none and is answered right there.
    """
    cors = Middleware(
        CORSMiddleware,
        allow_origins=config.allowed_origins,
        allow_methods=config.allowed_methods,
        allow_headers=config.allowed_headers,
        allow_credentials=config.allow_credentials,
    )
    exchange = Middleware(
        Exchange,
        answered=front.metrics.answered,
        sends_request_id=config.sends_request_id,
        logs_access=config.logs_access,
    )
    open_paths = [endpoint.path for endpoint in endpoints if endpoint.is_open]
    return [
        exchange,
        *([cors] if config.allowed_origins else []),
        Middleware(FaultBoundary),
        Middleware(HostCheck, host=config.host, has_socket_file=config.uds is not None),
        Middleware(KeyCheck, keys=config.keys, open_paths=open_paths),
    ]


def _lifespan(config: ServerConfig, front: Front, service: Service) -> Lifespan[Starlette]:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        tasks: list[asyncio.Task[None]] = []
        if config.logs_stats and config.stats_interval_s > 0:
            line = StatsLine(front.client, front.metrics, config.stats_interval_s)
            tasks.append(asyncio.create_task(line.run(), name="stats line"))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            service.close()

    return lifespan
