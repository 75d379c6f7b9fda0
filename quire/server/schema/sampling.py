"""Fields that chat and completions share, and what becomes of them.

A field that clients of this API may know but that Quire does not serve is declared too, in ``UNSERVED`` with the
values that change nothing; any other value is refused. A field that nobody declared is let pass, as the API's clients
expect.

Not here: ranges (text/validate.py), the dialects (chat.py, completion.py).
Door: GenerationFields, sampling_params, refuse_unserved.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta, Struct

from quire.config.decided import GenerationDefaults
from quire.core.params import OutputKind, SamplingParams
from quire.errors import InvalidValue, NotSupported
from quire.server.schema.usage import StreamOptions

Unserved = Annotated[object, Meta(description="Not served: only values that change nothing are accepted.")]
MAX_STOPS = 4
MAX_USER_CHARS = 1024
REQUEST_ID = re.compile(r"[!-~]{1,128}")


class GenerationFields(Struct, kw_only=True):
    """How to continue, in the words of the API. None: not said."""

    model: str | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: dict[int, float] | None = None
    max_tokens: int | None = None
    n: int | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    min_tokens: int | None = None
    user: str | None = None
    include_stop_str_in_output: bool | None = None
    ignore_eos: bool | None = None
    skip_special_tokens: bool | None = None
    spaces_between_special_tokens: bool | None = None
    truncate_prompt_tokens: int | None = None
    prompt_logprobs: int | None = None
    logprob_token_ids: list[int] | None = None
    allowed_token_ids: list[int] | None = None
    bad_words: list[str] | None = None
    add_special_tokens: bool | None = None
    priority: int | None = None
    request_id: str | None = None
    timeout: float | None = None
    """Seconds from now after which the request ends, whatever it has said, with the reason ``timeout``."""
    cache_salt: str | None = None
    return_token_ids: bool | None = None
    return_tokens_as_token_ids: bool | None = None

    use_beam_search: Unserved = None
    best_of: Unserved = None
    length_penalty: Unserved = None
    early_stopping: Unserved = None
    watermarking: Unserved = None
    response_format: Unserved = None
    structured_outputs: Unserved = None
    guided_json: Unserved = None
    guided_regex: Unserved = None
    guided_choice: Unserved = None
    guided_grammar: Unserved = None
    guided_decoding_backend: Unserved = None
    guided_whitespace_pattern: Unserved = None
    thinking_token_budget: Unserved = None
    prompt_embeds: Unserved = None
    truncation_side: Unserved = None
    stream_interval: Unserved = None
    routed_experts_prompt_start: Unserved = None
    return_token_offsets: Unserved = None
    repetition_detection: Unserved = None
    kv_transfer_params: Unserved = None
    ec_transfer_params: Unserved = None
    vllm_xargs: Unserved = None
    mm_payload: Unserved = None
    mm_processor_kwargs: Unserved = None
    media_io_kwargs: Unserved = None
    logits_processors: Unserved = None
    session_id: Unserved = None


UNSERVED: dict[str, tuple[object, ...]] = {
    "use_beam_search": (False,),
    "best_of": (1,),
    "length_penalty": (1, 1.0),
    "early_stopping": (False,),
    "watermarking": (False,),
    "response_format": ({"type": "text"},),
    "structured_outputs": (),
    "guided_json": (),
    "guided_regex": (),
    "guided_choice": (),
    "guided_grammar": (),
    "guided_decoding_backend": (),
    "guided_whitespace_pattern": (),
    "thinking_token_budget": (),
    "prompt_embeds": (),
    "truncation_side": ("left",),
    "stream_interval": (1,),
    "routed_experts_prompt_start": (0,),
    "return_token_offsets": (False,),
    "repetition_detection": (),
    "kv_transfer_params": (),
    "ec_transfer_params": (),
    "vllm_xargs": ({},),
    "mm_payload": ("tensors", "none"),
    "mm_processor_kwargs": ({},),
    "media_io_kwargs": ({},),
    "logits_processors": ([],),
    "session_id": (),
}


def refuse_unserved(request: Struct, unserved: Mapping[str, tuple[object, ...]]) -> None:
    """Raise NotSupported for the first field that asks for something Quire does not do; its ``param`` is the field."""
    for name, harmless in unserved.items():
        value = getattr(request, name)
        if value is None or any(type(value) is type(one) and value == one for one in harmless):
            continue
        raise NotSupported(
            f"'{name}' with this value is not supported by this server. Leave the field out.", param=name
        )


def check_generation(request: GenerationFields) -> None:
    """Checks that belong to this API alone; the shared ones come with the validator."""
    refuse_unserved(request, UNSERVED)
    if isinstance(request.stop, list) and len(request.stop) > MAX_STOPS:
        raise InvalidValue(f"'stop' has {len(request.stop)} entries; at most {MAX_STOPS} are allowed.", param="stop")
    if request.user is not None and len(request.user) > MAX_USER_CHARS:
        raise InvalidValue(
            f"'user' has {len(request.user)} characters; at most {MAX_USER_CHARS} are allowed.", param="user"
        )
    if request.cache_salt == "":
        raise InvalidValue("'cache_salt' must not be empty. Leave the field out.", param="cache_salt")
    if request.request_id is not None and REQUEST_ID.fullmatch(request.request_id) is None:
        raise InvalidValue("'request_id' must be 1 to 128 printable ASCII characters.", param="request_id")
    if request.stream and request.prompt_logprobs is not None:
        raise InvalidValue("'prompt_logprobs' are not given in a stream.", param="prompt_logprobs")
    options = request.stream_options
    if options is None:
        return
    if not request.stream:
        raise InvalidValue("'stream_options' needs 'stream': true.", param="stream_options")
    if options.continuous_usage_stats and not options.include_usage:
        raise InvalidValue(
            "'continuous_usage_stats' needs 'include_usage': true.", param="stream_options.continuous_usage_stats"
        )


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def sampling_params(
    request: GenerationFields,
    defaults: GenerationDefaults,
    *,
    max_tokens: int | None,
    logprobs: int | None,
    prompt_logprobs: int | None,
) -> SamplingParams:
    """What the request says, else what the model's defaults say, else what the API says. Nothing is checked here."""
    params = SamplingParams(
        max_tokens=max_tokens,
        logprobs=logprobs,
        prompt_logprobs=prompt_logprobs,
        output_kind=OutputKind.DELTA,
        seed=request.seed,
        stop=request.stop,
        stop_token_ids=request.stop_token_ids,
        logprob_token_ids=request.logprob_token_ids,
        logit_bias=request.logit_bias,
        allowed_token_ids=request.allowed_token_ids,
        bad_words=request.bad_words,
        truncate_prompt_tokens=request.truncate_prompt_tokens,
    )
    for name in (
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "repetition_penalty",
        "presence_penalty",
        "frequency_penalty",
    ):
        value = _first(getattr(request, name), getattr(defaults, name))
        if value is not None:
            setattr(params, name, value)
    for name in (
        "n",
        "min_tokens",
        "ignore_eos",
        "skip_special_tokens",
        "spaces_between_special_tokens",
        "include_stop_str_in_output",
    ):
        value = getattr(request, name)
        if value is not None:
            setattr(params, name, value)
    return params
