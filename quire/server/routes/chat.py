"""POST /v1/chat/completions: a conversation goes on.

Not here: fields and their checks (schema/chat.py, schema/messages.py), rendering (text/template.py).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

import msgspec
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from quire.core.outputs import PositionLogprobs
from quire.server.access import key_of
from quire.server.body import read_record
from quire.server.envelope import Envelope, answer_id, member, priority, timeout_s
from quire.server.explain import explain, wants_explanation
from quire.server.front import Service
from quire.server.generation import Generation, Pieces, Wish, admit, usage_of
from quire.server.logprobs import TokenNames, chat_logprobs, prompt_logprobs
from quire.server.prompts import Conversation, chat_prompt
from quire.server.schema.chat import (
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatDelta,
    ChatLogprobs,
    ChatMessage,
    ChatRequest,
    ChatResponse,
    check_chat,
)
from quire.server.schema.messages import checked_messages
from quire.server.schema.sampling import sampling_params
from quire.server.shelf import Endpoint, Example
from quire.server.sse import EventStream, until_gone
from quire.text.messages import readable_messages
from quire.text.stream import Piece

_encode = msgspec.json.Encoder().encode


async def serve(request: Request, service: Service) -> ASGIApp:
    """Answer whole or as a stream."""
    asked = await read_record(request, ChatRequest, service.config.max_body_bytes)
    check_chat(asked)
    service.check_model(asked.model, key_of(request))
    prompt = await chat_prompt(service, _conversation(asked))
    wish = _wish(service, asked, request)
    [generation] = await admit(service, [prompt], wish)
    answer = ChatAnswer(
        service, asked, answer_id("chatcmpl", request, asked), generation, explains=wants_explanation(request)
    )
    if asked.stream:
        return EventStream(answer.events(), keep_alive_s=service.config.sse_keep_alive_s)
    whole = await until_gone(request.receive, answer.whole())
    return Response(_encode(whole), media_type="application/json")


def _adds_generation_prompt(asked: ChatRequest) -> bool:
    if asked.add_generation_prompt is not None:
        return asked.add_generation_prompt
    return not asked.continue_final_message


def _conversation(asked: ChatRequest) -> Conversation:
    variables = dict(asked.chat_template_kwargs or {})
    if asked.reasoning_effort is not None:
        variables.setdefault("reasoning_effort", asked.reasoning_effort)
        variables.setdefault("enable_thinking", asked.reasoning_effort != "none")
    return Conversation(
        asked.messages,
        tools=asked.tools,
        documents=asked.documents,
        add_generation_prompt=_adds_generation_prompt(asked),
        continue_final_message=bool(asked.continue_final_message),
        add_special_tokens=bool(asked.add_special_tokens),
        variables=variables,
        is_truncated=asked.truncate_prompt_tokens is not None,
    )


def _wish(service: Service, asked: ChatRequest, request: Request) -> Wish:
    defaults = service.front.text.defaults
    limit = asked.max_completion_tokens if asked.max_completion_tokens is not None else asked.max_tokens
    names = {"logprobs": "top_logprobs"}
    if asked.max_completion_tokens is not None:
        names["max_tokens"] = "max_completion_tokens"
    params = sampling_params(
        asked,
        defaults,
        max_tokens=defaults.max_tokens if limit is None else limit,
        logprobs=_num_logprobs(asked),
        prompt_logprobs=asked.prompt_logprobs,
    )
    return Wish(
        key_of(request),
        params,
        priority(request, asked),
        timeout_s(request, asked),
        asked.cache_salt or "",
        clamps_max_tokens=limit is None,
        prompt_param="messages",
        names=names,
    )


def _num_logprobs(asked: ChatRequest) -> int | None:
    """None where ids of the client's own say which logprobs are meant."""
    if not asked.logprobs or (asked.logprob_token_ids and not asked.top_logprobs):
        return None
    return asked.top_logprobs or 0


class _Sample:
    """What one sample has said so far."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.token_ids: list[int] = []
        self.positions: list[PositionLogprobs] = []
        self.finish_reason: str | None = None
        self.stop_reason: int | str | None = None

    def add(self, piece: Piece) -> None:
        self.texts.append(piece.text)
        self.token_ids += piece.token_ids
        self.positions += piece.logprobs or []
        if piece.finish_reason is not None:
            self.finish_reason, self.stop_reason = piece.finish_reason, piece.stop_reason


class ChatAnswer:
    """The answer to one chat request, whole or as events; exactly one of the two is asked for."""

    def __init__(
        self, service: Service, asked: ChatRequest, answer: str, generation: Generation, *, explains: bool
    ) -> None:
        self._explains = explains
        self._service = service
        self._asked = asked
        self._generation = generation
        self._num_told = 0
        self._envelope = Envelope(service, asked, answer, "chat.completion.chunk")
        by_id = bool(asked.return_tokens_as_token_ids) or service.config.returns_tokens_as_token_ids
        self._names = TokenNames(service.front.tokenizer, by_id=by_id)
        shows_all = asked.top_logprobs == -1 or asked.logprob_token_ids is not None
        self._limit = None if shows_all else asked.top_logprobs or 0
        [last] = readable_messages(checked_messages(asked.messages[-1:], knows_developer=True), content_format="string")
        self._role = service.config.response_role if _adds_generation_prompt(asked) else str(last["role"])
        self._echoed = str(last["content"]) if asked.echo and last["role"] == self._role else ""

    async def whole(self) -> ChatResponse:
        """The answer when every sample has ended."""
        samples = [_Sample() for _ in range(self._generation.request.n)]
        with Pieces([self._generation]) as batches:
            async for batch in batches:
                for _, piece in batch:
                    samples[piece.index].add(piece)
        positions = self._generation.prompt_logprobs if self._asked.prompt_logprobs is not None else None
        return ChatResponse(
            id=self._envelope.id,
            created=self._envelope.created,
            model=self._envelope.model,
            choices=[self._choice(index, sample) for index, sample in enumerate(samples)],
            system_fingerprint=self._service.fingerprint,
            usage=usage_of(self._service, [self._generation]),
            prompt_logprobs=prompt_logprobs(positions, self._names),
            prompt_token_ids=list(self._generation.request.prompt_ids) if self._asked.return_token_ids else None,
            prompt_text=self._generation.prompt.text if self._asked.return_prompt_text else None,
            quire=explain(self._service, self._asked, [self._generation]) if self._explains else UNSET,
        )

    def _choice(self, index: int, sample: _Sample) -> ChatChoice:
        return ChatChoice(
            index=index,
            message=ChatMessage(role=self._role, content=self._echoed + "".join(sample.texts)),
            logprobs=self._logprobs(sample.token_ids, sample.positions),
            finish_reason=sample.finish_reason,
            stop_reason=sample.stop_reason,
            token_ids=sample.token_ids if self._asked.return_token_ids else None,
        )

    def _logprobs(self, token_ids: list[int], positions: list[PositionLogprobs] | None) -> ChatLogprobs | None:
        if not self._asked.logprobs:
            return None
        return chat_logprobs(token_ids, positions or [], self._names, self._limit)

    async def events(self) -> AsyncGenerator[bytes, None]:
        """The answer as events, the first when the engine's first token is there."""
        opening = True
        with Pieces([self._generation]) as batches:
            async for batch in batches:
                chunks = b"".join([self._chunk(piece) for _, piece in batch])
                if opening:
                    opening = False
                    chunks = self._opening() + chunks
                if chunks:
                    yield chunks
        if self._envelope.tells_usage:
            yield self._envelope.usage_chunk(usage_of(self._service, [self._generation]))
        if self._explains:
            yield self._envelope.explanation(explain(self._service, self._asked, [self._generation]))

    def _opening(self) -> bytes:
        """For each sample an event with the role, and one with the echoed text if there is any."""
        extra = b""
        if self._asked.return_token_ids:
            extra += member("prompt_token_ids", list(self._generation.request.prompt_ids))
        if self._asked.return_prompt_text:
            extra += member("prompt_text", self._generation.prompt.text)
        usage = usage_of(self._service, [self._generation], 0) if self._envelope.tells_usage_always else None
        events = []
        for index in range(self._generation.request.n):
            choice = _encode(ChatChunkChoice(index=index, delta=ChatDelta(role=self._role, content="")))
            events.append(self._envelope.chunk(choice, extra=extra, usage=usage))
            if self._echoed:
                choice = _encode(ChatChunkChoice(index=index, delta=ChatDelta(content=self._echoed)))
                events.append(self._envelope.chunk(choice, usage=usage))
        return b"".join(events)

    def _chunk(self, piece: Piece) -> bytes:
        """The event of a piece; nothing while something is held back."""
        asked, is_last = self._asked, piece.finish_reason is not None
        self._num_told += len(piece.token_ids)
        if not (piece.text or is_last or asked.return_token_ids or (asked.logprobs and piece.token_ids)):
            return b""
        if is_last or asked.return_token_ids or asked.logprobs:
            choice = ChatChunkChoice(
                index=piece.index,
                delta=ChatDelta(content=piece.text) if piece.text else ChatDelta(),
                logprobs=self._logprobs(list(piece.token_ids), piece.logprobs),
                finish_reason=piece.finish_reason,
            )
            if is_last:
                choice.stop_reason = piece.stop_reason
            if asked.return_token_ids:
                choice.token_ids = list(piece.token_ids)
            encoded = _encode(choice)
        else:
            encoded = (
                b'{"index":%d,"delta":{"content":%b},"logprobs":null,"finish_reason":null}'
                % (piece.index, _encode(piece.text))
            )  # fmt: skip
        usage = None
        if self._envelope.tells_usage_always:
            usage = usage_of(self._service, [self._generation], self._num_told)
        return self._envelope.chunk(encoded, usage=usage, is_last=is_last)


endpoints = (
    Endpoint(
        "/v1/chat/completions",
        ("POST",),
        serve,
        "Continue a conversation; with 'stream' as server-sent events of chat.completion.chunk objects.",
        takes=ChatRequest,
        gives=ChatResponse,
        streams=ChatChunk,
    ),
)

_ASK: dict[str, object] = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}

examples = (
    Example("POST", "/v1/chat/completions", 200, _ASK),
    Example("POST", "/v1/chat/completions", 200, {**_ASK, "stream": True, "stream_options": {"include_usage": True}}),
    Example("POST", "/v1/chat/completions", 200, {**_ASK, "n": 2, "logprobs": True, "top_logprobs": 2}),
    Example("POST", "/v1/chat/completions", 200, _ASK, headers={"x-quire-explain": "true"}),
    Example("POST", "/v1/chat/completions", 400, {"messages": []}),
    Example("POST", "/v1/chat/completions", 400, {**_ASK, "temperature": "hot"}),
    Example("POST", "/v1/chat/completions", 404, {**_ASK, "model": "nobody"}),
    Example("GET", "/v1/chat/completions", 405),
)
