"""GET /metrics: the numbers of engine/metrics.py as Prometheus reads them."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from quire.engine.metrics import CONTENT_TYPE
from quire.server.front import Service
from quire.server.shelf import Endpoint, Example


async def serve(request: Request, service: Service) -> ASGIApp:
    """All series in the text format."""
    return Response(service.front.metrics.render(), headers={"content-type": CONTENT_TYPE})


endpoints = (Endpoint("/metrics", ("GET",), serve, "Metrics in Prometheus' text format.", is_open=True),)

examples = (Example("GET", "/metrics", 200),)
