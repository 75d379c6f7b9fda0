"""POST /tokenize: the token ids of a text or of a rendered conversation."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from quire.server.access import key_of
from quire.server.body import read_record
from quire.server.front import Service
from quire.server.prompts import Conversation, chat_prompt
from quire.server.schema.tokenize import TokenizeRequest, check_tokenize
from quire.server.schema.usage import Tokens
from quire.server.shelf import Endpoint, Example


async def serve(request: Request, service: Service) -> ASGIApp:
    """Ids, their number, and their names where wanted."""
    asked = await read_record(request, TokenizeRequest, service.config.max_body_bytes)
    check_tokenize(asked)
    service.check_model(asked.model, key_of(request))
    tokenizer = service.tokenizer
    ids = await _ids(service, asked)
    names = None
    if asked.return_token_strs:
        names = await service.off_loop(4 * len(ids), lambda: [tokenizer.token(token_id) for token_id in ids])
    answer = Tokens(len(ids), service.config.max_model_len, ids, names)
    return Response(msgspec.json.encode(answer), media_type="application/json")


async def _ids(service: Service, asked: TokenizeRequest) -> list[int]:
    tokenizer = service.tokenizer
    if asked.messages is None:
        text, adds = asked.prompt or "", asked.add_special_tokens is not False
        return await service.off_loop(len(text), lambda: tokenizer.encode(text, add_special_tokens=adds))
    adds_prompt = asked.add_generation_prompt
    conversation = Conversation(
        asked.messages,
        tools=asked.tools,
        documents=asked.documents,
        add_generation_prompt=not asked.continue_final_message if adds_prompt is None else adds_prompt,
        continue_final_message=bool(asked.continue_final_message),
        add_special_tokens=bool(asked.add_special_tokens),
        variables=asked.chat_template_kwargs,
        is_truncated=True,
    )
    return list((await chat_prompt(service, conversation)).ids)


endpoints = (
    Endpoint(
        "/tokenize", ("POST",), serve, "Token ids of a text or a conversation.", takes=TokenizeRequest, gives=Tokens
    ),
)

examples = (
    Example("POST", "/tokenize", 200, {"prompt": "Hello", "return_token_strs": True}),
    Example("POST", "/tokenize", 200, {"messages": [{"role": "user", "content": "Hello"}]}),
    Example("POST", "/tokenize", 400, {}),
    Example("POST", "/tokenize", 400, {"messages": [{"role": "king", "content": "Hello"}]}),
)
