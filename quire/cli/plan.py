"""``quire plan``: what a model needs on this machine, without loading it.

Not here: the arithmetic (config/fit.py).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import msgspec

from quire.cli._arguments import print_help, take_flag
from quire.config.fit import MemoryPlan
from quire.config.flags import read_command_line
from quire.config.resolve import resolve
from quire.config.root import Decided
from quire.config.units import in_bytes

HELP = "say what a model needs on this machine, without loading it"

_INTRO = """Print the arithmetic of memory for a model and options, without loading it; --json prints it for programs.
With --load-format dummy a folder that holds no more than config.json is enough.

    quire plan Qwen/Qwen3-0.6B --max-model-len 32k
"""


def run(arguments: Sequence[str]) -> int:
    """Print the plan."""
    if print_help("quire plan", arguments, _INTRO):
        return 0
    rest, as_json = take_flag(arguments, "--json")
    decided = resolve(read_command_line(rest, prog="quire plan"))
    if as_json:
        print(msgspec.json.encode(_record(decided)).decode())
        return 0
    for notice in decided.notices:
        print(f"quire: {notice}", file=sys.stderr)
    print(_table(decided))
    return 0


def _record(decided: Decided) -> dict[str, object]:
    record = msgspec.structs.asdict(decided.plan)
    record["total_bytes"] = decided.plan.total_bytes
    record["model"] = decided.card.path
    record["model_type"] = decided.card.model_type
    record["dtype"] = decided.worker.dtype
    record["kv_dtype"] = _kv_dtype(decided)
    record["quantization"] = decided.worker.quantization
    record["num_parameters"] = decided.card.num_parameters
    record["max_num_seqs"] = decided.scheduler.max_num_seqs
    record["max_num_batched_tokens"] = decided.scheduler.max_num_batched_tokens
    record["notices"] = list(decided.notices)
    return record


def _table(decided: Decided) -> str:
    plan, card = decided.plan, decided.card
    kinds = ", ".join(
        f"{len(group.layers)} layers of " + ("all tokens" if group.window is None else f"{group.window} tokens")
        for group in decided.kv.layout.groups
    )
    rows = [
        ("model", f"{card.architecture or card.model_type} at {card.path}"),
        ("parameters", f"{card.num_parameters:,} in {decided.worker.quantization or decided.worker.dtype}"),
        ("weights", in_bytes(plan.weight_bytes)),
        ("activations", f"{in_bytes(plan.activation_bytes)} for {_step(decided)}"),
        ("process", in_bytes(plan.overhead_bytes)),
        ("KV", f"{in_bytes(plan.kv_bytes)}: {plan.num_blocks} blocks of {plan.block_size} tokens ({kinds})"),
        ("", f"in {_kv_dtype(decided)}, {in_bytes(plan.bytes_per_block)} a block"),
        ("", f"bounded by {plan.limited_by}"),
        ("total", in_bytes(plan.total_bytes)),
        ("available", f"{in_bytes(plan.available_bytes)} ({plan.memory_limited_by}), {_part(plan)}"),
        ("context", f"{plan.max_model_len} tokens of the checkpoint's {card.max_model_len}"),
        ("", f"{plan.num_full_sequences} sequences of that length at once"),
    ]
    return "\n".join(f"{name:<12} {value}" for name, value in rows)


def _kv_dtype(decided: Decided) -> str:
    return decided.worker.kv_type or decided.worker.dtype


def _step(decided: Decided) -> str:
    bounds = decided.scheduler
    return f"steps of {bounds.max_num_batched_tokens} tokens and {bounds.max_num_seqs} sequences"


def _part(plan: MemoryPlan) -> str:
    if plan.budget_bytes == plan.available_bytes:
        return "all of which may be used"
    return f"{in_bytes(plan.budget_bytes)} of which may be used"
