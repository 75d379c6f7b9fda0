"""GET /health, GET and POST /ping: whether the engine can still be talked to."""

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


endpoints = (
    Endpoint("/health", ("GET",), serve, "200 while the engine lives, 503 otherwise.", is_open=True),
    Endpoint("/ping", ("GET", "POST"), serve, "The same as /health.", is_open=True),
)

examples = (
    Example("GET", "/health", 200),
    Example("GET", "/ping", 200),
    Example("POST", "/ping", 200),
    Example("PUT", "/ping", 405),
)
