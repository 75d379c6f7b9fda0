"""GET /docs and /openapi.json: what the server serves, for people and for programs."""

from __future__ import annotations

import base64
import hashlib

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from quire.config.decided import ServerConfig
from quire.server.front import Service
from quire.server.openapi import DOCS_PAGE, openapi_document
from quire.server.shelf import Endpoint, Example


def _digest(start: str, end: str) -> str:
    """The page's own script or style as its policy names it."""
    inner = DOCS_PAGE.split(start, 1)[1].split(end, 1)[0]
    return f"'sha256-{base64.b64encode(hashlib.sha256(inner.encode()).digest()).decode()}'"


_POLICY = (
    f"default-src 'none'; connect-src 'self'; script-src {_digest('<script>', '</script>')}; "
    f"style-src {_digest('<style>', '</style>')}; base-uri 'none'; frame-ancestors 'none'"
)


async def serve_page(request: Request, service: Service) -> ASGIApp:
    """A page that needs nothing from elsewhere."""
    return Response(DOCS_PAGE, headers={"content-security-policy": _POLICY}, media_type="text/html")


async def serve_document(request: Request, service: Service) -> ASGIApp:
    """OpenAPI as JSON."""
    document = openapi_document(request.app.state.endpoints)
    return Response(msgspec.json.encode(document), media_type="application/json")


def _is_on(config: ServerConfig) -> bool:
    return config.has_docs


endpoints = (
    Endpoint("/docs", ("GET",), serve_page, "This page.", is_on=_is_on),
    Endpoint("/openapi.json", ("GET",), serve_document, "The OpenAPI document.", is_on=_is_on),
)

examples = (Example("GET", "/docs", 200), Example("GET", "/openapi.json", 200))
