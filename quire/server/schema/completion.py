"""The text dialect: /v1/completions.

Not here: fields shared with chat (sampling.py).
Door: CompletionRequest, CompletionResponse, CompletionChunk.
"""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType

from quire.errors import InvalidValue
from quire.server.schema.explained import Explained
from quire.server.schema.sampling import GenerationFields, Unserved, check_generation, refuse_unserved
from quire.server.schema.usage import PromptLogprobs, Usage

MAX_PROMPTS = 1024


class CompletionRequest(GenerationFields, kw_only=True):
    """One or many prompts to be continued. ``prompt``: a text, a list of texts, token ids, or a list of lists of
    token ids.
    """

    prompt: str | list[str | int | list[int]]
    echo: bool | None = None
    logprobs: int | None = None
    suffix: Unserved = None


UNSERVED: dict[str, tuple[object, ...]] = {"suffix": ("",)}


def check_completion(request: CompletionRequest) -> None:
    """Everything about a completion request but its prompts. Raises InvalidValue and NotSupported."""
    refuse_unserved(request, UNSERVED)
    check_generation(request)
    if request.max_tokens == 0 and not request.echo:
        raise InvalidValue("'max_tokens' must be at least 1 unless 'echo' is true.", param="max_tokens")
    if request.max_tokens == 0 and request.min_tokens:
        raise InvalidValue("'min_tokens' must not exceed 'max_tokens', which is 0.", param="min_tokens")


def split_prompts(prompt: str | list[str | int | list[int]]) -> list[str | list[int]]:
    """The prompts of a request, each a text or token ids.

    Raises: InvalidValue for an empty list, a mixed one, or more than MAX_PROMPTS.
    """
    if isinstance(prompt, str):
        return [prompt]
    if not prompt:
        raise InvalidValue("'prompt' must not be an empty list.", param="prompt")
    kind = type(prompt[0])
    if any(type(part) is not kind for part in prompt):
        raise InvalidValue(
            "'prompt' must hold texts, token ids, or lists of token ids, and not a mixture.", param="prompt"
        )
    if kind is int:
        return [[part for part in prompt if isinstance(part, int)]]
    if len(prompt) > MAX_PROMPTS:
        raise InvalidValue(f"'prompt' has {len(prompt)} entries; at most {MAX_PROMPTS} are allowed.", param="prompt")
    for i, part in enumerate(prompt):
        if part == []:
            raise InvalidValue("A list of token ids must not be empty.", param=f"prompt[{i}]")
    return [part for part in prompt if not isinstance(part, int)]


class CompletionLogprobs(Struct):
    """One entry a token in each list; the first token of an echoed prompt has no logprob."""

    text_offset: list[int]
    token_logprobs: list[float | None]
    tokens: list[str]
    top_logprobs: list[dict[str, float] | None]


class CompletionChoice(Struct, kw_only=True):
    """One sample of one prompt; ``index`` counts prompt by prompt."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    token_ids: list[int] | None = None
    prompt_logprobs: PromptLogprobs | None = None
    prompt_token_ids: list[int] | None = None


class CompletionResponse(Struct, kw_only=True):
    """A whole answer."""

    id: str
    object: str = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    service_tier: str | None = None
    system_fingerprint: str | None = None
    usage: Usage
    kv_transfer_params: None = None
    quire: list[Explained] | UnsetType = UNSET
    """For a client that sent the header x-quire-explain."""


class CompletionChunkChoice(Struct, kw_only=True):
    """What is new of one sample."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    token_ids: list[int] | UnsetType = UNSET
    prompt_token_ids: list[int] | UnsetType = UNSET
    prompt_logprobs: PromptLogprobs | UnsetType = UNSET


class CompletionChunk(Struct, kw_only=True):
    """One event of a stream."""

    id: str
    object: str = "text_completion"
    created: int
    model: str
    choices: list[CompletionChunkChoice]
    system_fingerprint: str | UnsetType = UNSET
    usage: Usage | UnsetType = UNSET
    quire: list[Explained] | UnsetType = UNSET
