"""POST /detokenize: token ids as text."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from quire.errors import InvalidValue
from quire.server.access import key_of
from quire.server.body import read_record
from quire.server.front import Service
from quire.server.schema.usage import DetokenizeRequest, Text
from quire.server.shelf import Endpoint, Example

MAX_TOKENS = 1_000_000


async def serve(request: Request, service: Service) -> ASGIApp:
    """The text, special tokens included."""
    asked = await read_record(request, DetokenizeRequest, service.config.max_body_bytes)
    service.check_model(asked.model, key_of(request))
    ids, vocab_size = asked.tokens, service.front.text.vocab_size
    if len(ids) > MAX_TOKENS:
        raise InvalidValue(f"'tokens' has {len(ids)} ids; at most {MAX_TOKENS} are allowed.", param="tokens")
    if ids and not (min(ids) >= 0 and max(ids) < vocab_size):
        raise InvalidValue(f"Every id in 'tokens' must be at least 0 and below {vocab_size}.", param="tokens")
    tokenizer = service.tokenizer
    text = await service.off_loop(4 * len(ids), lambda: tokenizer.decode(ids, skip_special_tokens=False))
    return Response(msgspec.json.encode(Text(text)), media_type="application/json")


endpoints = (Endpoint("/detokenize", ("POST",), serve, "Token ids as text.", takes=DetokenizeRequest, gives=Text),)

examples = (
    Example("POST", "/detokenize", 200, {"tokens": [5, 6]}),
    Example("POST", "/detokenize", 400, {"tokens": [-1]}),
    Example("POST", "/detokenize", 400, {"tokens": [1.0]}),
)
