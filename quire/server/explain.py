"""What a request was run with and where its time went, for a client that asks with the header ``x-quire-explain``.

Not here: the parameters' bounds (text/validate.py), the clock (engine/spans.py).
Door: wants_explanation, explain.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request

from quire.core import request as core
from quire.errors import InvalidValue
from quire.server.access import header_values
from quire.server.front import Service
from quire.server.generation import Generation
from quire.server.schema.chat import ChatRequest
from quire.server.schema.explained import Explained, Origin, Parameter
from quire.server.schema.sampling import GenerationFields

HEADER = "x-quire-explain"
_SAMPLING = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "seed",
)
_OFF_WHEN_GREEDY = ("top_p", "top_k", "min_p")

def wants_explanation(request: Request) -> bool:
    """Raises: InvalidValue when the header says neither yes nor no."""
    values = header_values(request.scope, HEADER.encode())
    if not values:
        return False
    said = values[0].lower() if len(values) == 1 else b""
    if said in (b"true", b"1"):
        return True
    if said in (b"false", b"0"):
        return False
    raise InvalidValue(f"The header '{HEADER}' must be 'true' or 'false'.", param=HEADER)


def explain(service: Service, asked: GenerationFields, generations: Sequence[Generation]) -> list[Explained]:
    """For each prompt that the engine has finished."""
    return [
        Explained(
            _parameters(service, asked, one.request),
            one.ended.prompt_tokens,
            one.ended.cached_tokens,
            one.ended.generated_tokens,
            one.ended.wall_s,
            one.ended.spans,
        )
        for one in generations
        if one.ended is not None
    ]


def _parameters(service: Service, asked: GenerationFields, run: core.Request) -> dict[str, Parameter]:
    defaults = service.front.text.defaults

    def origin_of(name: str) -> Origin:
        if getattr(asked, name, None) is not None:
            return "request"
        return "default" if getattr(defaults, name, None) is None else "model"

    found = {name: Parameter(getattr(run.sampling, name), origin_of(name)) for name in _SAMPLING}
    if asked.seed is None:
        found["seed"] = Parameter(run.sampling.seed, "drawn")
    if run.sampling.temperature == 0.0:
        found |= {name: Parameter(getattr(run.sampling, name), "greedy") for name in _OFF_WHEN_GREEDY}
    found["max_tokens"] = Parameter(run.stopping.max_tokens, _origin_of_length(service, asked, run))
    found["min_tokens"] = Parameter(run.stopping.min_tokens, origin_of("min_tokens"))
    return found


def _origin_of_length(service: Service, asked: GenerationFields, run: core.Request) -> Origin:
    text, length = service.front.text, run.stopping.max_tokens
    if asked.max_tokens is not None or getattr(asked, "max_completion_tokens", None) is not None:
        return "request"
    if length == min(text.max_model_len, text.max_num_tokens) - len(run.prompt_ids):
        return "context"
    # Only a chat goes by the model's own length; a completion has sixteen tokens.
    return "model" if isinstance(asked, ChatRequest) and length == text.defaults.max_tokens else "default"
