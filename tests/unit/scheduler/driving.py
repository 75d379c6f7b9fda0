"""A scheduler with a worker that answers at once, for tests of single decisions.

Not here: a worker that checks what it is told (tests/sim/).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from quire.config.decided import KVConfig, SchedulerConfig
from quire.config.kv_layout import lay_out
from quire.core.events import Delta
from quire.core.ids import RequestId
from quire.core.request import Request, Sampling, Stopping
from quire.core.step import RowResult, StepPlan, StepResult
from quire.scheduler import Planned, Scheduler

TOKEN = 7


def scheduler(
    *,
    rows: int = 8,
    budget: int = 64,
    max_len: int = 256,
    blocks: int = 64,
    policy: str = "fcfs",
    threshold: int = 0,
    windows: Sequence[int | None] = (None,),
    caches: bool = True,
) -> Scheduler:
    """Blocks of four tokens."""
    config = SchedulerConfig(rows, budget, max_len, policy, threshold)
    layout = lay_out(windows, block_size=4, bytes_per_token_layer=1)
    return Scheduler(config, KVConfig(layout=layout, num_blocks=blocks, enable_prefix_caching=caches))


def request(
    name: str,
    prompt: int | Sequence[int] = 8,
    *,
    max_tokens: int = 4,
    min_tokens: int = 0,
    n: int = 1,
    priority: int = 0,
    eos: tuple[int, ...] = (),
    stops: tuple[int, ...] = (),
    prompt_logprobs: int = -1,
    reads: bool = True,
) -> Request:
    """``prompt``: its tokens, or how many (then no two requests have a common prefix)."""
    made = tuple(range(hash_of(name), hash_of(name) + prompt)) if isinstance(prompt, int) else tuple(prompt)
    return Request(
        id=RequestId(name),
        prompt_ids=made,
        sampling=Sampling(seed=1, num_prompt_logprobs=prompt_logprobs),
        stopping=Stopping(max_tokens, min_tokens, eos, stops),
        n=n,
        priority=priority,
        reads_prefix_cache=reads and prompt_logprobs < 0,
    )


def hash_of(name: str) -> int:
    """A first token id that differs from name to name."""
    return 1000 * (1 + int.from_bytes(name.encode(), "little") % 1009)


def answer(plan: StepPlan, draw: Callable[[int], int] = lambda row: TOKEN) -> StepResult:
    rows = tuple(RowResult(chunk.row, (draw(chunk.row),) if chunk.samples else ()) for chunk in plan.chunks)
    return StepResult(plan.step, rows)


def step(one: Scheduler, draw: Callable[[int], int] = lambda row: TOKEN) -> tuple[Planned, list[Delta]]:
    planned = one.plan()
    deltas = one.commit(planned.plan, answer(planned.plan, draw))
    one.check()
    return planned, deltas


def finish(one: Scheduler, most: int = 1000) -> list[Delta]:
    """All deltas until nothing is unfinished."""
    deltas: list[Delta] = []
    for _ in range(most):
        if not one.has_unfinished:
            return deltas
        deltas += step(one)[1]
    raise AssertionError("the scheduler does not come to an end")


def tokens_of(planned: Planned) -> list[int]:
    """Tokens of each chunk, in the plan's order."""
    return [chunk.num_tokens for chunk in planned.plan.chunks]
