"""The record of /tokenize: a text, or a conversation as chat takes it.

Not here: the answer (usage.py). Door: TokenizeRequest.
"""

from __future__ import annotations

from msgspec import Struct

from quire.errors import InvalidValue
from quire.server.schema.sampling import Unserved, refuse_unserved


class TokenizeRequest(Struct, kw_only=True):
    """Exactly one of ``prompt`` and ``messages`` is given. ``add_special_tokens``: true for a text, false for a
    conversation.
    """

    model: str | None = None
    prompt: str | None = None
    messages: list[dict[str, object]] | None = None
    tools: list[dict[str, object]] | None = None
    documents: list[dict[str, object]] | None = None
    add_special_tokens: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: dict[str, object] | None = None
    return_token_strs: bool | None = None

    chat_template: Unserved = None
    media_io_kwargs: Unserved = None
    mm_processor_kwargs: Unserved = None


UNSERVED: dict[str, tuple[object, ...]] = {"media_io_kwargs": ({},), "mm_processor_kwargs": ({},)}


def check_tokenize(request: TokenizeRequest) -> None:
    """Raise InvalidValue or NotSupported for what is wrong."""
    refuse_unserved(request, UNSERVED)
    if request.chat_template is not None:
        raise InvalidValue(
            "'chat_template' in a request is not accepted; templates come from the operator (--chat-template).",
            param="chat_template",
        )
    if (request.prompt is None) == (request.messages is None):
        raise InvalidValue("Give either 'prompt' or 'messages'.", param="prompt")
    if request.continue_final_message and request.add_generation_prompt:
        raise InvalidValue(
            "'continue_final_message' and 'add_generation_prompt' cannot both be true.", param="continue_final_message"
        )
