"""Options that have one value so far, and old ones that change nothing: known, so that people's commands carry over.

Not here: flags that cannot be had at all (known_flags.py).
Door: FixedOptions.
"""

from __future__ import annotations

from dataclasses import dataclass

from quire.config.option import option

_ONE_DEVICE = "Quire runs a model on one device."


@dataclass(frozen=True, kw_only=True)
class FixedOptions:
    """Each takes its one value, or says in a line why it changes nothing."""

    tensor_parallel_size: int = option(1, "Only 1 so far.", only=(1,), why=_ONE_DEVICE, also=("tp",))
    pipeline_parallel_size: int = option(1, "Only 1 so far.", only=(1,), why=_ONE_DEVICE, also=("pp",))
    data_parallel_size: int = option(1, "Only 1 so far.", only=(1,), why=_ONE_DEVICE, also=("dp",))
    distributed_executor_backend: str | None = option(
        None, "Only uni so far: the worker lives in the engine's process.", kind="text", only=("uni",), why=_ONE_DEVICE
    )
    enable_chunked_prefill: bool = option(
        True,
        "Always on.",
        only=(True,),
        why="every step computes parts of prompts, so that a long prompt never stops the others.",
    )
    tokenizer_mode: str = option(
        "auto",
        "Only auto so far.",
        only=("auto", "hf"),
        why="a tokenizer is read from tokenizer.json or tokenizer.model.",
    )
    runner: str = option("auto", "Only generate so far.", only=("auto", "generate"), why="models generate text only.")
    trust_remote_code: bool = option(
        False, "Changes nothing.", notice="Quire never runs code of a checkpoint; the models it serves need none."
    )
    swap_space: float = option(
        0.0,
        "Changes nothing.",
        notice="preempted sequences are computed again, so that no swap space is needed.",
        low=0.0,
    )
    disable_log_requests: bool = option(
        False, "Changes nothing.", notice="requests are not logged unless --enable-log-requests is given."
    )
