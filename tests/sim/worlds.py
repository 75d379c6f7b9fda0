"""Configurations of the simulation: small pools and rows, so that every kind of shortage happens all the time."""

from __future__ import annotations

from dataclasses import dataclass

from quire.config.decided import KVConfig, KVGroup, KVLayout, SchedulerConfig


@dataclass(frozen=True)
class World:
    """One configuration. ``depth``: steps in flight. ``busy``: unfinished requests that submissions aim at."""

    name: str
    windows: tuple[int | None, ...]
    block_size: int
    num_blocks: int
    num_rows: int
    budget: int
    max_len: int = 40
    policy: str = "fcfs"
    threshold: int = 0
    depth: int = 1
    caches: bool = True
    busy: int = 8

    def scheduler(self) -> SchedulerConfig:
        return SchedulerConfig(
            max_num_seqs=self.num_rows,
            max_num_batched_tokens=self.budget,
            max_model_len=self.max_len,
            policy=self.policy,
            long_prefill_token_threshold=self.threshold,
        )

    def kv(self) -> KVConfig:
        groups = tuple(KVGroup(window=window, layers=(number,)) for number, window in enumerate(self.windows))
        layout = KVLayout(
            block_size=self.block_size, groups=groups, layers_per_block=1, bytes_per_block=self.block_size
        )
        return KVConfig(layout=layout, num_blocks=self.num_blocks, enable_prefix_caching=self.caches)


WORLDS = (
    World("full", (None,), 4, 15, 5, 24),
    World("full, one token a block", (None,), 1, 44, 4, 16, max_len=30),
    World("window", (6,), 4, 8, 5, 24),
    World("mixed", (None, 5), 4, 20, 5, 24),
    World("three groups", (None, 9, 2), 2, 38, 4, 20),
    World("tiny pool", (None,), 4, 11, 4, 16),
    World("tiny mixed pool", (None, 7), 2, 26, 4, 12, max_len=32),
    World("priority", (None,), 4, 18, 4, 16, policy="priority"),
    World("priority, mixed", (None, 4), 4, 24, 3, 12, policy="priority"),
    World("fair", (None, 6), 4, 19, 4, 16, policy="fair"),
    World("threshold", (None,), 4, 14, 4, 24, threshold=5),
    World("two steps in flight", (None, 6), 4, 19, 5, 16, depth=2),
    World("three steps in flight, priority", (None,), 4, 18, 6, 16, policy="priority", depth=3),
    World("more rows than budget", (None, 6), 4, 17, 8, 5),
    World("no cache", (None, 6), 4, 20, 5, 24, caches=False),
)
