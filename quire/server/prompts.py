"""Prompts of requests as token ids, made off the event loop when they are long.

Not here: rendering and tokenising (text/prompt.py), which ids and lengths are allowed (text/validate.py).
Door: Prompt, text_prompt, ids_prompt, chat_prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quire.errors import InvalidValue, PromptTooLong
from quire.server.front import Service
from quire.server.schema.messages import check_tools, checked_messages


@dataclass(frozen=True, slots=True)
class Prompt:
    """Token ids, and the text they came of (None: they came as ids)."""

    ids: Sequence[int]
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a chat template is rendered with, as the client sent it. ``is_truncated``: the ids will be cut, so any
    length goes.
    """

    messages: Sequence[dict[str, object]]
    tools: Sequence[dict[str, object]] | None = None
    documents: Sequence[dict[str, object]] | None = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    add_special_tokens: bool = False
    variables: dict[str, object] | None = None
    is_truncated: bool = False


async def text_prompt(
    service: Service, text: str, *, add_special_tokens: bool, param: str = "prompt", is_truncated: bool = False
) -> Prompt:
    """A text as token ids; an empty one is the beginning-of-sequence token where there is one.

    Raises: PromptTooLong before anything is tokenised, InvalidValue for a text without tokens.
    """
    encoder, tokenizer = service.encoder, service.tokenizer

    def encoded() -> list[int]:
        return encoder.encode_text(text, add_special_tokens=add_special_tokens, is_truncated=is_truncated)

    ids = await service.off_loop(len(text), encoded)
    if not ids and text == "" and tokenizer.bos_token_id is not None:
        ids = [tokenizer.bos_token_id]
    if not ids:
        raise InvalidValue("The prompt has no tokens.", param=param)
    return Prompt(ids, text)


def ids_prompt(service: Service, ids: Sequence[int], *, param: str = "prompt", is_truncated: bool = False) -> Prompt:
    """Token ids as a prompt. Raises PromptTooLong before any of a hopeless number of them is looked at."""
    limit = service.front.text.max_model_len
    if len(ids) >= limit and not is_truncated:
        raise PromptTooLong(
            f"The prompt has {len(ids)} tokens; the context takes {limit}, one for the output. "
            f"Shorten it by {len(ids) - limit + 1} or raise --max-model-len.",
            param=param,
        )
    return Prompt(ids)


def _num_chars(value: object) -> int:
    """About how much text a JSON value holds."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return 16 + sum(map(_num_chars, value.values()))
    return 16 + sum(map(_num_chars, value)) if isinstance(value, list) else 4


async def chat_prompt(service: Service, conversation: Conversation) -> Prompt:
    """A conversation rendered by the model's template and tokenised.

    Raises: InvalidValue and NotSupported with the path of what is wrong; PromptTooLong.
    """
    encoder, template = service.encoder, service.template
    messages = checked_messages(conversation.messages, knows_developer="developer" in template.source)
    if conversation.tools is not None:
        check_tools(conversation.tools)
    num_chars = sum(_num_chars(value) for value in (messages, conversation.tools or [], conversation.documents or []))

    def encoded() -> Prompt:
        chat = encoder.encode_chat(
            messages,
            tools=conversation.tools,
            documents=conversation.documents,
            add_generation_prompt=conversation.add_generation_prompt,
            continue_final_message=conversation.continue_final_message,
            variables={**service.template_variables, **(conversation.variables or {})},
            add_special_tokens=conversation.add_special_tokens,
            is_truncated=conversation.is_truncated,
        )
        return Prompt(chat.ids, chat.text)

    prompt = await service.off_loop(num_chars, encoded)
    if not prompt.ids:
        raise InvalidValue("The conversation has no tokens.", param="messages")
    return prompt
