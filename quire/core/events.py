"""What the engine tells its clients: new tokens of sequences, and how the engine is doing.

Not here: text, outputs as a user sees them (outputs.py), bytes (wire.py).
Door: StepEvents, Delta, Scheduled, Preempted, EngineStats; Ready and StartFailed once, first.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from quire.core.ids import RequestId
from quire.core.step import TokenLogprobs

FinishReason = Literal["stop", "length", "abort", "timeout", "error"]


class Delta(Struct, frozen=True, array_like=True, gc=False):
    """New tokens of one sequence after a step.

    Exactly one delta of a sequence carries a ``finish``. ``stop_reason`` is the id the client named, None for an end of
    sequence. ``prompt_logprobs`` come with the first delta of sample 0. ``error`` says why when ``finish == "error"``.
    """

    request_id: RequestId
    index: int
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprobs, ...] = ()
    prompt_logprobs: tuple[TokenLogprobs, ...] = ()
    finish: FinishReason | None = None
    stop_reason: int | None = None
    error: str = ""


class Scheduled(Struct, frozen=True, array_like=True, gc=False):
    """A sequence of a request got its row: ``cached_tokens`` of its known tokens were found in the prefix cache.

    ``at_s`` is on the machine's monotonic clock. ``is_first`` is False when it comes back after a preemption.
    """

    request_id: RequestId
    index: int
    cached_tokens: int
    is_first: bool
    at_s: float = 0.0


class Preempted(Struct, frozen=True, array_like=True, gc=False):
    """A sequence lost its row and its blocks; it waits again, with all its tokens."""

    request_id: RequestId
    index: int


class EngineStats(Struct, frozen=True, array_like=True, gc=False):
    """The engine after a step. Counters only grow; gauges are of this moment."""

    step: int = 0
    num_running: int = 0
    num_waiting: int = 0
    num_blocks: int = 0
    num_blocks_held: int = 0
    """Held by running sequences (a cached block that nobody holds is not counted)."""
    prefix_queries: int = 0
    """Tokens looked up in the prefix cache, ever."""
    prefix_hits: int = 0
    num_preemptions: int = 0
    prompt_tokens: int = 0
    """Prompt tokens computed, ever."""
    generation_tokens: int = 0
    step_tokens: int = 0
    """Tokens computed in this step."""
    step_time_s: float = 0.0
    resident_bytes: int = 0


class StepEvents(Struct, frozen=True, array_like=True, gc=False):
    """Everything that one step tells one client, in one message."""

    deltas: tuple[Delta, ...] = ()
    scheduled: tuple[Scheduled, ...] = ()
    preempted: tuple[Preempted, ...] = ()
    stats: EngineStats | None = None
    at_s: float = 0.0


class Ready(Struct, frozen=True, array_like=True, gc=False):
    """The engine has loaded its model and takes requests."""

    num_parameters: int
    weight_bytes: int
    kv_bytes: int
    load_time_s: float


class StartFailed(Struct, frozen=True, array_like=True, gc=False):
    """The engine cannot start, and why: one line for the operator."""

    message: str
