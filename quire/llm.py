"""The library without a server: everything in the caller's process.

Not here: HTTP (server/), the loop itself (engine/loop.py), how the parts are put together (assemble.py).
Door: LLM.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Iterable, Mapping, Sequence

from tqdm import tqdm

from quire.assemble import offline
from quire.core.events import StepEvents
from quire.core.ids import RequestId
from quire.core.outputs import RequestOutput
from quire.core.params import SamplingParams
from quire.errors import EngineDead, InvalidValue
from quire.text.prompt import PromptEncoder, parse_prompt, read_chat_template
from quire.text.stream import RequestStream
from quire.text.template import ChatTemplate
from quire.text.tokenizer import Tokenizer
from quire.text.validate import default_params

logger = logging.getLogger(__name__)

Prompt = str | Sequence[int] | Mapping[str, object]
"""A text, token ids, or an object with ``prompt`` or ``prompt_token_ids`` and an optional ``cache_salt``."""

Message = Mapping[str, object]
Conversation = Sequence[Message]


class LLM:
    """A model, loaded and ready to continue prompts.

    ``model`` is a folder, a hub id, or ``folio``, the model that ships with the package. ``options`` are the engine's,
    spelled as on the command line with underscores (``max_model_len=4096``, ``dtype="float32"``).

    Not safe for use from several threads.

    Raises: ConfigError for an option that cannot be had, CheckpointError for a model that cannot be loaded.
    """

    def __init__(self, model: str = "folio", **options: object) -> None:
        self._parts = offline(model, options)
        self._numbers = itertools.count()
        self._is_closed = False

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        use_tqdm: bool = True,
        priority: Sequence[int] | None = None,
    ) -> list[RequestOutput]:
        """Continue prompts; the outputs come in the order of the prompts.

        A prompt is a text, a list of token ids, or a dict ``{"prompt": ...}`` or ``{"prompt_token_ids": ...}`` with an
        optional ``cache_salt``. ``sampling_params`` None: the model's own defaults. A sequence that fails has the
        finish reason ``error``; the others go on.

        Raises: InvalidValue or PromptTooLong before anything is computed.
        """
        asked = [parse_prompt(prompt) for prompt in _as_prompts(prompts)]
        all_params = self._spread(sampling_params, len(asked))
        priorities = _spread_priority(priority, len(asked))
        streams = []
        for parts, params, rank in zip(asked, all_params, priorities, strict=True):
            ids: Sequence[int] | None = parts.ids
            if ids is None:
                is_truncated = params.truncate_prompt_tokens is not None
                ids = self._encoder.encode_text(parts.text or "", is_truncated=is_truncated)
            streams.append(self._admit(ids, parts.text, params, rank, parts.cache_salt))
        return self._run(streams, use_tqdm)

    def chat(
        self,
        messages: Conversation | Sequence[Conversation],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        use_tqdm: bool = True,
        *,
        priority: Sequence[int] | None = None,
        chat_template: str | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        tools: Sequence[Mapping[str, object]] | None = None,
        chat_template_kwargs: Mapping[str, object] | None = None,
    ) -> list[RequestOutput]:
        """Answer one conversation, or several; a message is ``{"role": ..., "content": ...}``.

        ``chat_template``: a template or the path of one, instead of the model's.

        Raises: InvalidValue when the model has no chat template or the template refuses the messages.
        """
        conversations = _as_conversations(messages)
        all_params = self._spread(sampling_params, len(conversations), default_max_tokens=None)
        priorities = _spread_priority(priority, len(conversations))
        template = self._template(chat_template)
        streams = []
        for conversation, params, rank in zip(conversations, all_params, priorities, strict=True):
            chat = self._encoder.encode_chat(
                [dict(message) for message in conversation],
                tools=tools,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=continue_final_message,
                variables=chat_template_kwargs,
                template=template,
                is_truncated=params.truncate_prompt_tokens is not None,
            )
            streams.append(self._admit(chat.ids, chat.text, params, rank, ""))
        return self._run(streams, use_tqdm)

    def get_tokenizer(self) -> Tokenizer:
        """The model's tokenizer.

        Raises: InvalidValue when the model was loaded with ``skip_tokenizer_init``.
        """
        if self._parts.text.tokenizer is None:
            raise InvalidValue("This model was loaded without a tokenizer (skip_tokenizer_init).")
        return self._parts.text.tokenizer

    def get_default_sampling_params(self) -> SamplingParams:
        """The model's own defaults, which ``sampling_params=None`` stands for."""
        return default_params(self._parts.text.config)

    def reset_prefix_cache(self) -> bool:
        """Forget every cached block; True when nothing was left."""
        return self._parts.loop.scheduler.reset_prefix_cache()

    def close(self) -> None:
        """Give back weights and KV. What is asked afterwards is refused."""
        self._is_closed = True
        self._parts.executor.stop()

    @property
    def _encoder(self) -> PromptEncoder:
        if self._parts.text.encoder is None:
            raise InvalidValue("Without a tokenizer (skip_tokenizer_init) prompts are token ids.", param="prompt")
        return self._parts.text.encoder

    def _template(self, chat_template: str | None) -> ChatTemplate | None:
        if chat_template is None:
            return None
        return ChatTemplate(read_chat_template(chat_template), self.get_tokenizer().config.special_tokens)

    def _spread(
        self, params: SamplingParams | Sequence[SamplingParams] | None, count: int, default_max_tokens: int | None = 16
    ) -> Sequence[SamplingParams]:
        """One set of parameters for each prompt."""
        if params is None:
            params = self.get_default_sampling_params()
            if self._parts.text.config.defaults.max_tokens is None:
                params.max_tokens = default_max_tokens
        if isinstance(params, SamplingParams):
            return [params] * count
        if len(params) != count:
            raise InvalidValue(f"{count} prompts and {len(params)} sampling_params: give one each, or one for all.")
        return params

    def _admit(
        self, ids: Sequence[int], text: str | None, params: SamplingParams, priority: int, cache_salt: str
    ) -> RequestStream:
        if self._is_closed:
            raise EngineDead("This LLM was closed; make another.")
        admitted = self._parts.text.validator.admit(
            RequestId(str(next(self._numbers))),
            ids,
            params,
            priority=priority,
            cache_salt=cache_salt,
            clamps_max_tokens=True,
        )
        return RequestStream(admitted, text, self._parts.text.tokenizer, arrival_time=time.monotonic())

    def _run(self, streams: Sequence[RequestStream], use_tqdm: bool) -> list[RequestOutput]:
        """Step until all have finished. If anything interrupts it, nothing is left behind in the engine."""
        loop = self._parts.loop
        open_streams = {stream.request.id: stream for stream in streams}
        try:
            for stream in streams:
                loop.add(stream.request)
            is_quiet = None if use_tqdm else True  # None: quiet where there is no terminal.
            with tqdm(total=len(streams), desc="Prompts", unit="prompt", disable=is_quiet) as progress:
                while open_streams:
                    progress.update(self._feed(open_streams, loop.step()))
        finally:
            for request_id in open_streams:
                loop.cancel(request_id)
            while loop.has_work:
                loop.step()
        return [stream.output() for stream in streams]

    def _feed(self, open_streams: dict[RequestId, RequestStream], events: StepEvents) -> int:
        """Hand out what a step told; returns how many requests have finished."""
        for event in events.scheduled:
            if (stream := open_streams.get(event.request_id)) is not None:
                stream.scheduled(event)
        num_finished = 0
        for delta in events.deltas:
            stream = open_streams.get(delta.request_id)
            if stream is None:
                continue
            piece = stream.feed(delta, events.at_s)
            if piece is not None and piece.stopped_by_text:
                self._parts.loop.cancel(delta.request_id, delta.index)
            if piece is not None and piece.error:
                logger.error("Request %s, sample %d failed: %s", delta.request_id, delta.index, piece.error)
            if stream.finished:
                del open_streams[delta.request_id]
                num_finished += 1
        return num_finished


def _as_prompts(prompts: Prompt | Sequence[Prompt]) -> Iterable[object]:
    """A list of integers is one prompt; a list of anything else is several."""
    if isinstance(prompts, str | Mapping):
        return [prompts]
    if not isinstance(prompts, Sequence):
        raise InvalidValue(
            f"prompts must be a text, token ids, a dict, or a list of these, got {type(prompts).__name__}.",
            param="prompt",
        )
    if prompts and all(isinstance(item, int) for item in prompts):
        return [list(prompts)]
    return prompts


def _as_conversations(messages: Conversation | Sequence[Conversation]) -> Sequence[Conversation]:
    """A list of messages is one conversation; a list of lists is several.

    Raises: InvalidValue for anything else.
    """
    if _is_conversation(messages):
        return [messages]  # type: ignore[list-item]  # it was looked at just now
    if _is_list(messages) and all(_is_conversation(one) for one in messages):
        return messages  # type: ignore[return-value]  # likewise
    raise InvalidValue(
        'messages must be a list of messages such as {"role": "user", "content": "Hello"}, or a list of such lists.',
        param="messages",
    )


def _is_conversation(value: object) -> bool:
    return isinstance(value, Sequence) and len(value) > 0 and all(isinstance(one, Mapping) for one in value)


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _spread_priority(priority: Sequence[int] | None, count: int) -> Sequence[int]:
    if priority is None:
        return [0] * count
    if len(priority) != count:
        raise InvalidValue(f"{count} prompts and {len(priority)} priorities: give one each.", param="priority")
    return priority
