"""GET /health, GET and POST /ping: whether the engine can still be talked to; GET /livez, /readyz: the same for
orchestrators, who restart what does not live and send nothing to what is not ready.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from quire.errors import EngineDead
from quire.server.front import Service
from quire.server.shelf import Endpoint, Example


async def serve(request: Request, service: Service) -> ASGIApp:
    """200 and nothing else, or EngineDead."""
    if not service.front.client.is_alive:
        raise EngineDead("The engine's process has ended.")
    return Response(b"", 200)


async def serve_living(request: Request, service: Service) -> ASGIApp:
    """200 whatever the engine does: restarting the front would lose what its streams are owed."""
    return Response(b"", 200)


endpoints = (
    Endpoint("/health", ("GET",), serve, "200 while the engine lives, 503 otherwise.", is_open=True),
    Endpoint("/ping", ("GET", "POST"), serve, "The same as /health.", is_open=True),
    Endpoint("/readyz", ("GET",), serve, "The same as /health.", is_open=True),
    Endpoint("/livez", ("GET",), serve_living, "200 while the server can answer at all.", is_open=True),
)

examples = (
    Example("GET", "/health", 200),
    Example("GET", "/ping", 200),
    Example("POST", "/ping", 200),
    Example("PUT", "/ping", 405),
    Example("GET", "/livez", 200),
    Example("GET", "/readyz", 200),
)
