"""How much held KV memory holds no token: paged blocks against one reservation of the whole context a request.

The scheduler runs a chat-like load (prompt and output lengths log-normal) with a worker that only counts, so that the
numbers are those of the accounting and need no device. Waste of a step = (slots of held blocks - tokens computed or
planned in them) / slots of held blocks, where a block that several sequences share counts once, as its tokens do.
Reported is the mean over all steps with a full batch, and over all steps.

    python benchmarks/kv_waste.py [--requests 512] [--rows 64] [--block-sizes 16 32] [--median-prompt 500]
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from math import exp
from random import Random

from quire.config.decided import KVConfig, SchedulerConfig
from quire.config.kv_layout import lay_out
from quire.core.ids import RequestId
from quire.core.request import Request, Sampling, Stopping
from quire.core.step import RowResult, StepPlan, StepResult
from quire.scheduler import Scheduler

MAX_MODEL_LEN = 4096
SPREAD_PROMPT, SPREAD_OUTPUT = 0.8, 0.7


@dataclass
class Waste:
    """Shares of held memory that hold no token, one number a step."""

    paged: list[float]
    paged_full_batch: list[float]
    reserved: list[float]


def load(num_requests: int, median_prompt: int, median_output: int, seed: int) -> list[Request]:
    """Requests with log-normal lengths and no common prefix (sharing would only lower the waste)."""
    random = Random(seed)

    def length(median: float, spread: float, limit: int) -> int:
        return min(limit, max(8, round(median * exp(random.gauss(0.0, spread)))))

    requests = []
    for number in range(num_requests):
        prompt = length(median_prompt, SPREAD_PROMPT, MAX_MODEL_LEN // 2)
        requests.append(
            Request(
                id=RequestId(str(number)),
                prompt_ids=(number, *(random.randrange(50_000) for _ in range(prompt - 1))),
                sampling=Sampling(seed=number),
                stopping=Stopping(max_tokens=length(median_output, SPREAD_OUTPUT, MAX_MODEL_LEN // 2)),
            )
        )
    return requests


def compute(plan: StepPlan) -> StepResult:
    """A worker that draws the same token always."""
    return StepResult(plan.step, tuple(RowResult(chunk.row, (1,) if chunk.samples else ()) for chunk in plan.chunks))


def measure(requests: list[Request], rows: int, block_size: int) -> tuple[Waste, Scheduler]:
    """Run a load to its end in a pool that a full batch fills to about two thirds."""
    layout = lay_out([None] * 24, block_size=block_size, bytes_per_token_layer=1024)
    num_blocks = rows * 1200 // block_size
    scheduler = Scheduler(
        SchedulerConfig(max_num_seqs=rows, max_num_batched_tokens=4096, max_model_len=MAX_MODEL_LEN),
        KVConfig(layout=layout, num_blocks=num_blocks),
    )
    for request in requests:
        assert not scheduler.add(request)
    waste = Waste([], [], [])
    while scheduler.has_unfinished:
        planned = scheduler.plan()
        running = scheduler._running
        if running:
            slots = scheduler.kv.pool.num_held * block_size
            tokens = sum(sequence.num_planned for sequence in running)
            waste.paged.append(1.0 - tokens / slots)
            if len(running) == rows:
                waste.paged_full_batch.append(1.0 - tokens / slots)
            waste.reserved.append(1.0 - tokens / (len(running) * MAX_MODEL_LEN))
        scheduler.commit(planned.plan, compute(planned.plan))
    return waste, scheduler


def mean(numbers: list[float]) -> float:
    return sum(numbers) / len(numbers) if numbers else float("nan")


def main() -> None:
    """Print a table for people and one JSON line for programs."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--requests", type=int, default=512)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--block-sizes", type=int, nargs="+", default=[16, 32])
    parser.add_argument("--median-prompt", type=int, default=500, help="tokens; a chat with some history")
    parser.add_argument("--median-output", type=int, default=200, help="tokens")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    requests = load(asked.requests, asked.median_prompt, asked.median_output, asked.seed)
    prompts = sorted(len(request.prompt_ids) for request in requests)
    outputs = sorted(request.stopping.max_tokens for request in requests)
    middle = len(requests) // 2
    print(
        f"{len(requests)} requests, up to {asked.rows} at a time;"
        f" prompts median {prompts[middle]}, mean {sum(prompts) / len(prompts):.0f};"
        f" outputs median {outputs[middle]}, mean {sum(outputs) / len(outputs):.0f}; context {MAX_MODEL_LEN}"
    )
    print(
        f"{'block size':>10} {'steps':>6} {'preempted':>9} {'waste, full batch':>17} {'waste, all steps':>16}"
        f" {'waste, reserved context':>23}"
    )
    records = []
    for block_size in asked.block_sizes:
        waste, scheduler = measure(requests, asked.rows, block_size)
        stats = scheduler.stats
        row = (mean(waste.paged_full_batch), mean(waste.paged), mean(waste.reserved))
        print(f"{block_size:10} {stats.step:6} {stats.num_preemptions:9} {row[0]:17.2%} {row[1]:16.2%} {row[2]:23.2%}")
        records.append(
            {
                "block_size": block_size,
                "steps": stats.step,
                "preemptions": stats.num_preemptions,
                "waste_full_batch": round(row[0], 5),
                "waste": round(row[1], 5),
                "waste_reserved": round(row[2], 5),
            }
        )
    print(
        json.dumps(
            {
                "benchmark": "kv_waste",
                "requests": asked.requests,
                "rows": asked.rows,
                "max_model_len": MAX_MODEL_LEN,
                "mean_prompt": sum(prompts) / len(prompts),
                "mean_output": sum(outputs) / len(outputs),
                "goal": 0.04,
                "results": records,
            }
        )
    )


if __name__ == "__main__":
    main()
