"""What a user may ask of one request, with the field's usual names. Nothing here has been checked yet.

Not here: the check (text/validate.py makes a core.request.Request of it), the HTTP dialects (server/schema).
Door: SamplingParams.
"""

from __future__ import annotations

from enum import IntEnum

from msgspec import Struct
from msgspec.structs import replace


class OutputKind(IntEnum):
    """What a stream of outputs carries: all text so far, only what is new, or one output at the end."""

    CUMULATIVE = 0
    DELTA = 1
    FINAL_ONLY = 2


class SamplingParams(Struct, kw_only=True):
    """How a request is continued. Every field is optional; ranges are checked when the request is made.

    ``temperature`` 0 is greedy. ``top_k`` 0 or -1 is off. ``max_tokens`` None: to the end of the context. ``logprobs``
    k gives the k most likely tokens beside the sampled one (-1: the whole vocabulary). ``seed`` None: one is drawn at
    admission; the tokens of a request are a pure function of its prompt, its parameters and its seed.
    ``logits_processors``: names ``module:function`` of the user's own functions, allowed only where the engine's
    configuration names them too (``--logits-processors``).
    """

    n: int = 1
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    max_tokens: int | None = 16
    min_tokens: int = 0
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    logprob_token_ids: list[int] | None = None
    detokenize: bool = True
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True
    include_stop_str_in_output: bool = False
    output_kind: OutputKind = OutputKind.CUMULATIVE
    logit_bias: dict[int, float] | None = None
    allowed_token_ids: list[int] | None = None
    bad_words: list[str] | None = None
    truncate_prompt_tokens: int | None = None
    """Keep only the last k tokens of the prompt; -1: as many as the context takes beside ``max_tokens``."""
    skip_reading_prefix_cache: bool | None = None
    logits_processors: list[str] | None = None

    def clone(self) -> SamplingParams:
        """A copy that can be changed without touching this one."""
        return replace(self)
