"""What is counted over an engine's life.

Not here: times and memory (the loop's).
Door: Counters.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """Numbers that only grow, but ``step_tokens``, which is of the last committed step."""

    steps: int = 0
    step_tokens: int = 0
    prefix_queries: int = 0
    prefix_hits: int = 0
    preemptions: int = 0
    prompt_tokens: int = 0
    generation_tokens: int = 0

    def looked_up(self, num_tokens: int, num_hits: int) -> None:
        self.prefix_queries += num_tokens
        self.prefix_hits += num_hits

    def computed(self, num_prompt_tokens: int, before: int, after: int) -> None:
        """Tokens ``before`` to ``after`` of a sequence were computed."""
        self.step_tokens += after - before
        if before < num_prompt_tokens:
            self.prompt_tokens += min(after, num_prompt_tokens) - before
