"""GET /version: which Quire this is."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from quire.server.front import Service
from quire.server.schema.usage import Version
from quire.server.shelf import Endpoint, Example
from quire.version import __version__


async def serve(request: Request, service: Service) -> ASGIApp:
    """The version as JSON."""
    return Response(msgspec.json.encode(Version(__version__)), media_type="application/json")


endpoints = (Endpoint("/version", ("GET",), serve, "The version of the server.", gives=Version),)

examples = (Example("GET", "/version", 200),)
