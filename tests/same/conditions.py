"""Under which conditions the same is asked: what else the engine does, how it cuts its work, and what befalls it.

Nothing here may change an answer. What may (models, types, instruction sets) is in forms.py.

Door: Condition, ALONE, CONDITIONS.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Condition:
    """How the engine is set up and asked.

    ``options``: of LLM. ``at_once``: requests handed over together; 0: all. ``passes``: how often everything is asked
    of one engine, each by its name. ``pool``: KV blocks, in multiples of what one sequence of full length needs.
    ``place``: in this process, in one of its own, or in one that is killed on the way. ``fails_every``: each
    so-many-th step of several rows raises, and its halves are tried. ``expects``: counters that must not be 0
    afterwards, or the condition was not there. ``is_short``: also for the many forms that there is no time to try under
    all conditions.
    """

    name: str
    options: dict[str, object] = field(default_factory=dict)
    at_once: int = 0
    passes: tuple[str, ...] = ()
    pool: float = 40.0
    place: Literal["here", "fresh", "killed"] = "here"
    fails_every: int = 0
    expects: tuple[str, ...] = ()
    is_short: bool = False

    @property
    def pass_names(self) -> tuple[str, ...]:
        return self.passes or (self.name,)


_CROWD: dict[str, object] = {"max_num_seqs": 64, "enable_prefix_caching": False, "num_threads": 1}

ALONE = Condition("alone", {"num_threads": 1, "enable_prefix_caching": False}, at_once=1, pool=4.0)
"""What all others are compared with: one request after the other, nothing beside it, nothing cached."""

CONDITIONS = (
    Condition("batch 64", _CROWD, is_short=True),
    Condition("cached", _CROWD | {"enable_prefix_caching": True}, passes=("cold", "warm"), expects=("hits",)),
    Condition("chunk 64", _CROWD | {"max_num_batched_tokens": 64}),
    Condition("chunk 512", _CROWD | {"max_num_batched_tokens": 512}),
    Condition("chunk 2048", _CROWD | {"max_num_batched_tokens": 2048}),
    Condition("preempted", _CROWD | {"block_size": 4}, pool=1.0, expects=("preemptions",), is_short=True),
    Condition("faulty", _CROWD, fails_every=7, expects=("faults",)),
    Condition("eager", _CROWD | {"enforce_eager": True}, is_short=True),
    Condition("2 threads", _CROWD | {"num_threads": 2}, place="fresh"),
    Condition(
        "crooked",
        {
            "max_num_seqs": 13,
            "max_num_batched_tokens": 37,
            "long_prefill_token_threshold": 11,
            "block_size": 5,
            "scheduling_policy": "priority",
            "packed_cache_bytes": 0,
            "num_threads": 3,
        },
        passes=("crooked", "again"),
        pool=1.0,
        place="fresh",
        expects=("hits", "preemptions"),
        is_short=True,
    ),
    Condition("restarted", _CROWD, place="fresh"),
    Condition("killed", _CROWD | {"enable_prefix_caching": True}, place="killed", expects=("restarts",)),
)
"""``crooked``: numbers that divide nothing, few rows, little memory, others first, quantised anew."""
