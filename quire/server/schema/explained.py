"""What a request was run with and where its time went, as an answer tells it.

Not here: how it is found out (server/explain.py).
Door: Explained, Parameter, Origin.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Origin = Literal["request", "model", "default", "context", "drawn", "greedy"]


class Parameter(Struct, frozen=True):
    """A value in effect. ``origin``: the request said it; the model's generation config (or the operator in its place);
    the API's default; what the context leaves; drawn for this request; off because the request is greedy.
    """

    value: float | int
    origin: Origin


class Explained(Struct, frozen=True):
    """One prompt's. ``spans``: seconds by cause, of the slowest sample; they add up to ``wall_s``."""

    parameters: dict[str, Parameter]
    prompt_tokens: int
    cached_tokens: int
    generated_tokens: int
    wall_s: float
    spans: dict[str, float]
