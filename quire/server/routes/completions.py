"""POST /v1/completions: texts or token ids go on.

Not here: fields and their checks (schema/completion.py).
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
from quire.server.envelope import Envelope, answer_id, priority, timeout_s
from quire.server.explain import explain, wants_explanation
from quire.server.front import Service
from quire.server.generation import Generation, Pieces, Wish, admit, usage_of
from quire.server.logprobs import CompletionLogprobsBuilder, TokenNames, joined, prompt_logprobs
from quire.server.prompts import Prompt, ids_prompt, text_prompt
from quire.server.schema.completion import (
    CompletionChoice,
    CompletionChunk,
    CompletionChunkChoice,
    CompletionLogprobs,
    CompletionRequest,
    CompletionResponse,
    check_completion,
    split_prompts,
)
from quire.server.schema.sampling import sampling_params
from quire.server.schema.usage import Usage
from quire.server.shelf import Endpoint, Example
from quire.server.sse import EventStream, until_gone
from quire.text.stream import Piece

_encode = msgspec.json.Encoder().encode
_DEFAULT_MAX_TOKENS = 16


async def serve(request: Request, service: Service) -> ASGIApp:
    """Answer whole or as a stream."""
    asked = await read_record(request, CompletionRequest, service.config.max_body_bytes)
    check_completion(asked)
    service.check_model(asked.model, key_of(request))
    prompts = await _prompts(service, asked)
    wish = _wish(service, asked, request)
    generations = await admit(service, prompts, wish)
    answer = CompletionAnswer(
        service, asked, answer_id("cmpl", request, asked), generations, explains=wants_explanation(request)
    )
    if asked.stream:
        return EventStream(answer.events(), keep_alive_s=service.config.sse_keep_alive_s)
    whole = await until_gone(request.receive, answer.whole())
    return Response(_encode(whole), media_type="application/json")


async def _prompts(service: Service, asked: CompletionRequest) -> list[Prompt]:
    parts = split_prompts(asked.prompt)
    adds = asked.add_special_tokens is not False
    is_truncated = asked.truncate_prompt_tokens is not None
    prompts = []
    for i, part in enumerate(parts):
        param = "prompt" if len(parts) == 1 else f"prompt[{i}]"
        if isinstance(part, str):
            found = await text_prompt(service, part, add_special_tokens=adds, param=param, is_truncated=is_truncated)
        else:
            found = ids_prompt(service, part, param=param, is_truncated=is_truncated)
        prompts.append(found)
    return prompts


def _wish(service: Service, asked: CompletionRequest, request: Request) -> Wish:
    """An echo without new tokens draws one token that nobody is shown: its step computes the prompt's logprobs."""
    limit = asked.max_tokens
    wanted = asked.prompt_logprobs
    if asked.echo and asked.logprobs is not None:
        wanted = asked.logprobs
    params = sampling_params(
        asked,
        service.front.text.defaults,
        max_tokens=_DEFAULT_MAX_TOKENS if limit is None else limit or 1,
        logprobs=asked.logprobs,
        prompt_logprobs=wanted,
    )
    return Wish(
        key_of(request),
        params,
        priority(request, asked),
        timeout_s(request, asked),
        asked.cache_salt or "",
        clamps_max_tokens=limit is None,
        prompt_param="prompt",
        names={},
    )


class _Choice:
    """One sample of one prompt: what it has said so far."""

    def __init__(self, builder: CompletionLogprobsBuilder) -> None:
        self.builder = builder
        self.texts: list[str] = []
        self.token_ids: list[int] = []
        self.logprobs: CompletionLogprobs | None = None
        self.finish_reason: str | None = None
        self.stop_reason: int | str | None = None
        self.has_begun = False


class CompletionAnswer:
    """The answer to one completion request, whole or as events; exactly one of the two is asked for."""

    def __init__(
        self,
        service: Service,
        asked: CompletionRequest,
        answer: str,
        generations: list[Generation],
        *,
        explains: bool,
    ) -> None:
        self._explains = explains
        self._service = service
        self._asked = asked
        self._generations = generations
        self._envelope = Envelope(service, asked, answer, "text_completion")
        by_id = bool(asked.return_tokens_as_token_ids) or service.config.returns_tokens_as_token_ids
        self._names = TokenNames(service.front.tokenizer, by_id=by_id)
        self._is_only_echo = asked.max_tokens == 0
        self._num_told = 0
        self._n = generations[0].request.n
        self._has_logprobs = asked.logprobs is not None or bool(asked.logprob_token_ids)
        self._tells_only_text = not (self._has_logprobs or asked.return_token_ids or self._is_only_echo)
        shows_all = asked.logprobs == -1 or asked.logprob_token_ids is not None
        limit = None if shows_all else asked.logprobs
        self._choices = [
            _Choice(CompletionLogprobsBuilder(self._names, limit)) for _ in range(len(generations) * self._n)
        ]

    async def whole(self) -> CompletionResponse:
        """The answer when every sample has ended."""
        if self._needs_engine:
            with Pieces(self._generations) as batches:
                async for batch in batches:
                    for place, piece in batch:
                        self._take(place, piece)
        for index, choice in enumerate(self._choices):
            if not choice.has_begun:
                self._open(index)
            choice.finish_reason = choice.finish_reason or "length"
        return CompletionResponse(
            id=self._envelope.id,
            created=self._envelope.created,
            model=self._envelope.model,
            choices=[self._whole_choice(index) for index in range(len(self._choices))],
            system_fingerprint=self._service.fingerprint,
            usage=usage_of(self._service, self._generations, self._num_shown),
            quire=explain(self._service, self._asked, self._generations) if self._explains else UNSET,
        )

    @property
    def _num_shown(self) -> int | None:
        return 0 if self._is_only_echo else None

    @property
    def _needs_engine(self) -> bool:
        """An echo alone is answered without it, unless logprobs are wanted."""
        return not self._is_only_echo or self._asked.logprobs is not None or self._asked.prompt_logprobs is not None

    def _open(self, index: int) -> None:
        """Begin a choice: with the prompt's text and logprobs where it is echoed."""
        choice, generation = self._choices[index], self._generations[index // self._n]
        choice.has_begun = True
        if not self._asked.echo:
            return
        ids = list(generation.request.prompt_ids)
        choice.texts.append(self._echoed(generation))
        if self._asked.return_token_ids:
            choice.token_ids += ids
        if self._asked.logprobs is not None:
            positions: list[PositionLogprobs | None] = list(generation.prompt_logprobs or [])
            choice.logprobs = choice.builder.part(ids, positions)

    def _echoed(self, generation: Generation) -> str:
        text = generation.prompt.text
        if text is not None and len(generation.prompt.ids) == len(generation.request.prompt_ids):
            return text
        tokenizer = self._service.front.tokenizer
        return "" if tokenizer is None else tokenizer.decode(generation.request.prompt_ids, skip_special_tokens=False)

    def _take(self, place: int, piece: Piece) -> None:
        """Add a piece to its choice."""
        index = place * self._n + piece.index
        choice = self._choices[index]
        if not choice.has_begun:
            self._open(index)
        if piece.finish_reason is not None:
            choice.finish_reason, choice.stop_reason = piece.finish_reason, piece.stop_reason
        if self._is_only_echo:
            if piece.finish_reason in ("stop", "length"):
                choice.finish_reason, choice.stop_reason = "length", None
            return
        choice.texts.append(piece.text)
        if self._asked.return_token_ids:
            choice.token_ids += piece.token_ids
        if self._has_logprobs:
            choice.logprobs = joined(choice.logprobs, choice.builder.part(piece.token_ids, piece.logprobs or []))

    def _whole_choice(self, index: int) -> CompletionChoice:
        choice, generation = self._choices[index], self._generations[index // self._n]
        wants_prompt = self._asked.prompt_logprobs is not None
        return CompletionChoice(
            index=index,
            text="".join(choice.texts),
            logprobs=choice.logprobs,
            finish_reason=choice.finish_reason,
            stop_reason=choice.stop_reason,
            token_ids=choice.token_ids if self._asked.return_token_ids else None,
            prompt_logprobs=prompt_logprobs(generation.prompt_logprobs, self._names) if wants_prompt else None,
            prompt_token_ids=list(generation.request.prompt_ids) if self._asked.return_token_ids else None,
        )

    async def events(self) -> AsyncGenerator[bytes, None]:
        """The answer as events."""
        if self._needs_engine:
            with Pieces(self._generations) as batches:
                async for batch in batches:
                    if chunks := b"".join([self._chunk(place, piece) for place, piece in batch]):
                        yield chunks
        else:
            for index in range(len(self._choices)):
                self._open(index)
                self._choices[index].finish_reason = "length"
                yield self._event(index, is_first=True, is_last=True)
        if self._envelope.tells_usage:
            yield self._envelope.usage_chunk(usage_of(self._service, self._generations, self._num_shown))
        if self._explains:
            yield self._envelope.explanation(explain(self._service, self._asked, self._generations))

    def _chunk(self, place: int, piece: Piece) -> bytes:
        """The event of a piece; nothing while something is held back."""
        index = place * self._n + piece.index
        self._num_told += len(piece.token_ids)
        is_first, is_last = not self._choices[index].has_begun, piece.finish_reason is not None
        if self._tells_only_text and not is_first and not is_last:
            return self._text_event(index, piece.text) if piece.text else b""
        self._take(place, piece)
        choice, asked = self._choices[index], self._asked
        says = (
            any(choice.texts)
            or choice.logprobs is not None
            or (asked.return_token_ids and (choice.token_ids or is_first))
        )
        if not says and not is_last:
            choice.texts.clear()
            return b""
        return self._event(index, is_first=is_first, is_last=is_last)

    def _text_event(self, index: int, text: str) -> bytes:
        """The event that _event makes of a choice that has nothing but text to tell."""
        encoded = (
            b'{"index":%d,"text":%b,"logprobs":null,"finish_reason":null,"stop_reason":null}' % (index, _encode(text))
        )  # fmt: skip
        return self._envelope.chunk(encoded, usage=self._usage_so_far())

    def _usage_so_far(self) -> Usage | None:
        if not self._envelope.tells_usage_always:
            return None
        return usage_of(self._service, self._generations, 0 if self._is_only_echo else self._num_told)

    def _event(self, index: int, *, is_first: bool, is_last: bool) -> bytes:
        """What is new of a choice, which then is forgotten."""
        choice, generation = self._choices[index], self._generations[index // self._n]
        shown = CompletionChunkChoice(
            index=index,
            text="".join(choice.texts),
            logprobs=choice.logprobs,
            finish_reason=choice.finish_reason if is_last else None,
            stop_reason=choice.stop_reason if is_last else None,
        )
        if self._asked.return_token_ids:
            shown.token_ids = choice.token_ids
            if is_first:
                shown.prompt_token_ids = list(generation.request.prompt_ids)
        event = self._envelope.chunk(_encode(shown), usage=self._usage_so_far(), is_last=is_last)
        choice.texts, choice.token_ids, choice.logprobs = [], [], None
        return event


endpoints = (
    Endpoint(
        "/v1/completions",
        ("POST",),
        serve,
        "Continue texts or token ids; with 'stream' as server-sent events.",
        takes=CompletionRequest,
        gives=CompletionResponse,
        streams=CompletionChunk,
    ),
)

_ASK: dict[str, object] = {"prompt": "Once upon", "max_tokens": 4}

examples = (
    Example("POST", "/v1/completions", 200, _ASK),
    Example("POST", "/v1/completions", 200, {"prompt": ["One", "Two"], "max_tokens": 2, "n": 2, "stream": True}),
    Example("POST", "/v1/completions", 200, {"prompt": [5, 6, 7], "max_tokens": 2, "echo": True, "logprobs": 1}),
    Example("POST", "/v1/completions", 200, {"prompt": "Echo", "max_tokens": 0, "echo": True}),
    Example("POST", "/v1/completions", 400, {"prompt": []}),
    Example("POST", "/v1/completions", 400, {**_ASK, "suffix": "end"}),
    Example("POST", "/v1/completions", 400, {**_ASK, "max_tokens": 0}),
    Example("POST", "/v1/completions", 404, {**_ASK, "model": "nobody"}),
)
