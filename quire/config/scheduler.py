"""Options of scheduling: how much one step computes, and whose turn it is.

Not here: the scheduler (scheduler/).
Door: SchedulerOptions.
"""

from __future__ import annotations

from dataclasses import dataclass

from quire.config.option import option


@dataclass(frozen=True, kw_only=True)
class SchedulerOptions:
    """Bounds of a step."""

    max_num_seqs: int | None = option(
        None, "Most sequences of a step. Default: 256 in LLM, 128 in the server.", kind="whole", low=1, high=65536
    )
    max_num_batched_tokens: int | None = option(
        None,
        "Most tokens of a step, 4k too. Default: 4096 in LLM, 2048 in the server.",
        kind="count",
        unit="tokens",
        low=1,
        high=2**24,
    )
    scheduling_policy: str = option(
        "fcfs", "Whose turn it is: fcfs, priority, or fair (by the weights of --api-keys-file)."
    )
    long_prefill_token_threshold: int = option(
        0, "Most tokens of one prompt in a step; 0: its fair share.", unit="tokens", low=0, high=2**24
    )
