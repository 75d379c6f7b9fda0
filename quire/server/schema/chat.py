"""The chat dialect: /v1/chat/completions.

Not here: the messages inside a request (messages.py), fields shared with completions (sampling.py).
Door: ChatRequest, ChatResponse, ChatChunk.
"""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType, json

from quire.errors import InvalidValue, NotSupported
from quire.server.schema.explained import Explained
from quire.server.schema.sampling import GenerationFields, Unserved, check_generation, refuse_unserved
from quire.server.schema.usage import PromptLogprobs, Usage

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_MAX_METADATA = 16
_MAX_METADATA_CHARS = 512


class ChatRequest(GenerationFields, kw_only=True):
    """A conversation to be continued. Objects inside ``messages`` and ``tools`` are checked by messages.py."""

    messages: list[dict[str, object]]
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[dict[str, object]] | None = None
    tool_choice: str | dict[str, object] | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    metadata: dict[str, object] | None = None
    echo: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    documents: list[dict[str, object]] | None = None
    chat_template_kwargs: dict[str, object] | None = None
    return_prompt_text: bool | None = None

    chat_template: Unserved = None
    include_reasoning: Unserved = None
    functions: Unserved = None
    function_call: Unserved = None
    audio: Unserved = None
    modalities: Unserved = None
    prediction: Unserved = None
    web_search_options: Unserved = None
    service_tier: Unserved = None
    store: Unserved = None
    verbosity: Unserved = None
    moderation: Unserved = None
    return_mm_kwargs: Unserved = None


UNSERVED: dict[str, tuple[object, ...]] = {
    "include_reasoning": (True,),
    "functions": ([],),
    "function_call": ("none",),
    "audio": (),
    "modalities": (["text"],),
    "prediction": (),
    "web_search_options": (),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "verbosity": ("medium",),
    "moderation": (),
    "return_mm_kwargs": (False,),
}


def check_chat(request: ChatRequest) -> None:
    """Everything about a chat request but its messages and tools. Raises InvalidValue and NotSupported."""
    if request.chat_template is not None:
        raise InvalidValue(
            "'chat_template' in a request is not accepted; templates come from the operator (--chat-template).",
            param="chat_template",
        )
    refuse_unserved(request, UNSERVED)
    check_generation(request)
    if request.top_logprobs and not request.logprobs:
        raise InvalidValue("'top_logprobs' needs 'logprobs': true.", param="top_logprobs")
    if request.logprob_token_ids and not request.logprobs:
        raise InvalidValue("'logprob_token_ids' needs 'logprobs': true.", param="logprob_token_ids")
    if request.reasoning_effort is not None and request.reasoning_effort not in EFFORTS:
        raise InvalidValue(f"'reasoning_effort' must be one of {', '.join(EFFORTS)}.", param="reasoning_effort")
    if request.continue_final_message and request.add_generation_prompt:
        raise InvalidValue(
            "'continue_final_message' and 'add_generation_prompt' cannot both be true.", param="continue_final_message"
        )
    if request.metadata is not None and (
        len(request.metadata) > _MAX_METADATA
        or any(len(json.encode(pair)) > _MAX_METADATA_CHARS for pair in request.metadata.items())
    ):
        raise InvalidValue(
            f"'metadata' holds at most {_MAX_METADATA} pairs of at most {_MAX_METADATA_CHARS} characters.",
            param="metadata",
        )
    _check_tool_choice(request)


def _check_tool_choice(request: ChatRequest) -> None:
    if request.tools is not None and not request.tools:
        raise InvalidValue("'tools' must not be an empty array. Leave the field out.", param="tools")
    choice = request.tool_choice
    if isinstance(choice, str) and choice not in ("none", "auto", "required"):
        raise InvalidValue("'tool_choice' must be 'none', 'auto', 'required' or an object.", param="tool_choice")
    if choice == "none" or (choice is None and request.tools is None):
        return
    if request.tools is None and choice != "auto":
        raise InvalidValue("'tool_choice' needs 'tools'.", param="tool_choice")
    if request.tools is not None:
        raise NotSupported(
            "Tool calls are not supported by this server. With 'tool_choice': 'none' the tools are shown to the model, "
            "but its answer is plain text.",
            param="tool_choice",
        )


class TopLogprob(Struct):
    """A candidate: ``bytes`` are exact even where the text is not whole."""

    token: str
    logprob: float
    bytes: list[int] | None = None


class TokenLogprob(Struct):
    """The token that was drawn and the most likely ones."""

    token: str
    logprob: float
    bytes: list[int] | None
    top_logprobs: list[TopLogprob]


class ChatLogprobs(Struct):
    """One entry a token."""

    content: list[TokenLogprob]


class ChatMessage(Struct, kw_only=True):
    """What the model said."""

    role: str
    content: str | None = None
    refusal: str | None = None
    annotations: list[str] | None = None
    audio: str | None = None
    function_call: str | None = None
    reasoning: str | None = None


class ChatChoice(Struct, kw_only=True):
    """One sample."""

    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    token_ids: list[int] | None = None


class ChatResponse(Struct, kw_only=True):
    """A whole answer."""

    id: str
    object: str = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    service_tier: str | None = None
    system_fingerprint: str | None = None
    usage: Usage
    prompt_logprobs: PromptLogprobs | None = None
    prompt_token_ids: list[int] | None = None
    prompt_text: str | None = None
    kv_transfer_params: None = None
    quire: list[Explained] | UnsetType = UNSET
    """For a client that sent the header x-quire-explain."""


class ChatDelta(Struct, kw_only=True):
    """What is new. Unset fields are left out."""

    role: str | UnsetType = UNSET
    content: str | UnsetType = UNSET


class ChatChunkChoice(Struct, kw_only=True):
    """What is new of one sample."""

    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None = None
    finish_reason: str | None = None
    stop_reason: int | str | UnsetType | None = UNSET
    token_ids: list[int] | UnsetType = UNSET


class ChatChunk(Struct, kw_only=True):
    """One event of a stream."""

    id: str
    object: str = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChatChunkChoice]
    system_fingerprint: str | UnsetType = UNSET
    usage: Usage | UnsetType = UNSET
    prompt_token_ids: list[int] | UnsetType = UNSET
    prompt_text: str | UnsetType = UNSET
    prompt_logprobs: PromptLogprobs | UnsetType = UNSET
    quire: list[Explained] | UnsetType = UNSET
