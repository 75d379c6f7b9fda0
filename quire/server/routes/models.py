"""GET /v1/models and /v1/models/{model}: which names are served."""

from __future__ import annotations

import hashlib

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from quire.server.access import key_of
from quire.server.front import Service
from quire.server.schema.usage import ModelCard, ModelList, ModelPermission
from quire.server.shelf import Endpoint, Example


def _card(service: Service, name: str) -> ModelCard:
    permission = ModelPermission(f"modelperm-{hashlib.sha256(name.encode()).hexdigest()[:32]}", service.created_s)
    return ModelCard(name, service.created_s, service.config.model_root, service.config.max_model_len, [permission])


async def serve_list(request: Request, service: Service) -> ASGIApp:
    """Every name that the key may use."""
    cards = [_card(service, name) for name in service.models_for(key_of(request))]
    return Response(msgspec.json.encode(ModelList(cards)), media_type="application/json")


async def serve_one(request: Request, service: Service) -> ASGIApp:
    """One name, which may hold slashes."""
    name: str = request.path_params["model"]
    service.check_model(name, key_of(request))
    return Response(msgspec.json.encode(_card(service, name)), media_type="application/json")


endpoints = (
    Endpoint("/v1/models", ("GET",), serve_list, "The models served.", gives=ModelList),
    Endpoint("/v1/models/{model:path}", ("GET",), serve_one, "One model.", gives=ModelCard),
)

examples = (
    Example("GET", "/v1/models", 200),
    Example("GET", "/v1/models/{served}", 200),
    Example("GET", "/v1/models/nobody/at/all", 404),
    Example("POST", "/v1/models", 405),
)
