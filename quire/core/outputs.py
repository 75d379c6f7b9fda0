"""What a user of the library gets back, with the field's usual names.

Not here: how text is made of token ids (text/stream.py).
Door: RequestOutput.
"""

from __future__ import annotations

from msgspec import Struct


class Logprob(Struct):
    """One token's logprob at one position. ``rank`` counts from 1."""

    logprob: float
    rank: int | None = None
    decoded_token: str | None = None


PositionLogprobs = dict[int, Logprob]


class CompletionOutput(Struct):
    """One continuation. ``stop_reason``: the stop string or token id that ended it; None for an end of sequence or
    another reason.
    """

    index: int
    text: str
    token_ids: list[int]
    cumulative_logprob: float | None = None
    logprobs: list[PositionLogprobs] | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None

    def finished(self) -> bool:
        """Whether nothing more will come."""
        return self.finish_reason is not None


class RequestMetrics(Struct):
    """Times of one request, in seconds on the machine's monotonic clock; 0.0 where it has not happened yet.

    ``first_token_latency``: seconds from arrival to the first token.
    """

    arrival_time: float = 0.0
    scheduled_ts: float = 0.0
    first_token_ts: float = 0.0
    last_token_ts: float = 0.0
    first_token_latency: float = 0.0
    num_generation_tokens: int = 0
    num_preemptions: int = 0


class RequestOutput(Struct):
    """A request with all its continuations so far."""

    request_id: str
    prompt: str | None
    prompt_token_ids: list[int]
    outputs: list[CompletionOutput]
    finished: bool
    prompt_logprobs: list[PositionLogprobs | None] | None = None
    num_cached_tokens: int = 0
    metrics: RequestMetrics | None = None
