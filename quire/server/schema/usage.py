"""Records that several dialects answer with.

Not here: requests. Door: Usage, ModelCard, ModelList, Fault.
"""

from __future__ import annotations

from msgspec import Struct, field


class PromptTokensDetails(Struct):
    """How many prompt tokens came from the prefix cache."""

    cached_tokens: int = 0


class Usage(Struct):
    """Tokens of one request, over all its prompts and samples."""

    prompt_tokens: int = 0
    total_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: PromptTokensDetails | None = None


class ModelPermission(Struct):
    """A fixed record that clients of the models list expect."""

    id: str
    created: int
    object: str = "model_permission"
    allow_create_engine: bool = False
    allow_sampling: bool = True
    allow_logprobs: bool = True
    allow_search_indices: bool = False
    allow_view: bool = True
    allow_fine_tuning: bool = False
    organization: str = "*"
    group: str | None = None
    is_blocking: bool = False


class ModelCard(Struct):
    """A name that the server answers to."""

    id: str
    created: int
    root: str
    max_model_len: int
    permission: list[ModelPermission]
    object: str = "model"
    owned_by: str = "quire"
    parent: str | None = None


class ModelList(Struct):
    """All names."""

    data: list[ModelCard]
    object: str = "list"


class FaultBody(Struct):
    """What went wrong. ``param`` names the field that is to blame, ``code`` is for programs."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class Fault(Struct):
    """The body of every answer that is not a success."""

    error: FaultBody


class Version(Struct):
    """Which Quire this is."""

    version: str


class Load(Struct):
    """How many generating requests are in flight."""

    server_load: int


class StreamOptions(Struct):
    """Whether a stream tells usage: once at the end, or with every chunk too."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class PromptLogprob(Struct):
    """One candidate at a position of the prompt."""

    logprob: float
    rank: int | None = None
    decoded_token: str | None = None


PromptLogprobs = list[dict[str, PromptLogprob] | None]


class Empty(Struct):
    """An answer without content."""


class Tokens(Struct):
    """Token ids of a text."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None


class Text(Struct):
    """The text of token ids."""

    prompt: str


class DetokenizeRequest(Struct, kw_only=True):
    """Token ids to be made into text."""

    model: str | None = None
    tokens: list[int] = field(default_factory=list)
