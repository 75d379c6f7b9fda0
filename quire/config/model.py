"""Options of the model: which one, in which type, with how long a context.

Not here: where its files come from (load.py).
Door: ModelOptions.
"""

from __future__ import annotations

from dataclasses import dataclass

from quire.config.option import option

AUTO = -1
"""``max_model_len`` that means: the longest that fits."""


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which model, and what it can be asked."""

    model: str = option("folio", "A folder, a hub id, or folio, the model that ships with Quire.")
    tokenizer: str | None = option(None, "Folder or hub id of the tokenizer, if not the model's.", kind="text")
    skip_tokenizer_init: bool = option(False, "Do without a tokenizer; prompts and outputs are token ids.")
    dtype: str = option(
        "auto",
        "Type of weights and KV; auto keeps the checkpoint's.",
        choices=("auto", "half", "float16", "bfloat16", "float", "float32"),
    )
    quantization: str | None = option(
        None,
        "Quantise weights when they are loaded: a name on the shelf quant (int8, int4, int4_sym, w8a8, w4a8), or none.",
        kind="text",
        also=("q",),
    )
    enforce_eager: bool = option(
        False, "Call the model in every step, instead of repeating recorded steps of decode; for finding faults."
    )
    max_model_len: int | None = option(
        None,
        "Context length, 25k or 25K too; auto: the longest that fits. Default: the model's, or what fits.",
        kind="count",
        unit="tokens",
        low=1,
        high=2**27,
        words=(("auto", AUTO),),
    )
    seed: int = option(0, "Of dummy weights, and of requests of LLM that bring no seed.", low=0, high=2**63 - 1)
    max_logprobs: int = option(20, "Most logprobs a request may ask for; -1: no bound.", low=-1, high=2**31 - 1)
    served_model_name: tuple[str, ...] = option((), "Names the server answers to; the first is echoed.")
    logits_processors: tuple[str, ...] = option(
        (), "Functions module:name of your own that requests may name in logits_processors."
    )
