"""GET /tokenizer_info, where the configuration asks for it: what the tokenizer's own files say."""

from __future__ import annotations

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from quire.config.decided import ServerConfig
from quire.server.front import Service
from quire.server.shelf import Endpoint, Example


class TokenizerFacts(Struct):
    """Special tokens by role, and what else a client needs to render and count by itself."""

    special_tokens: dict[str, str]
    extra_special_tokens: tuple[str, ...]
    num_tokens: int
    bos_token_id: int | None
    eos_token_id: int | None
    model_max_length: int | None
    chat_template: str | None


async def serve(request: Request, service: Service) -> ASGIApp:
    """The facts as JSON."""
    tokenizer, template = service.tokenizer, service.front.template
    facts = TokenizerFacts(
        tokenizer.config.special_tokens,
        tokenizer.config.extra_special_tokens,
        tokenizer.num_tokens,
        tokenizer.bos_token_id,
        tokenizer.eos_token_id,
        tokenizer.config.model_max_length,
        None if template is None else template.source,
    )
    return Response(msgspec.json.encode(facts), media_type="application/json")


def _is_on(config: ServerConfig) -> bool:
    return config.has_tokenizer_info


endpoints = (
    Endpoint(
        "/tokenizer_info", ("GET",), serve, "Special tokens and the chat template.", gives=TokenizerFacts, is_on=_is_on
    ),
)

examples = (Example("GET", "/tokenizer_info", 200),)
