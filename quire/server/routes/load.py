"""GET /load, where the configuration asks for it: how many generating requests are in flight."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from quire.config.decided import ServerConfig
from quire.server.front import Service
from quire.server.schema.usage import Load
from quire.server.shelf import Endpoint, Example


async def serve(request: Request, service: Service) -> ASGIApp:
    """The number as JSON."""
    return Response(msgspec.json.encode(Load(service.num_in_flight)), media_type="application/json")


def _is_on(config: ServerConfig) -> bool:
    return config.tracks_load


endpoints = (Endpoint("/load", ("GET",), serve, "Generating requests in flight.", gives=Load, is_on=_is_on),)

examples = (Example("GET", "/load", 200),)
