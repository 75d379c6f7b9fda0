"""Options of loading: where a checkpoint's files come from.

Not here: fetching them (hub.py).
Door: LoadOptions.
"""

from __future__ import annotations

from dataclasses import dataclass

from quire.config.option import option


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """Which files make up the checkpoint."""

    load_format: str = option(
        "auto",
        "auto and safetensors read the checkpoint; dummy makes random weights from config.json alone.",
        choices=("auto", "hf", "safetensors", "dummy"),
    )
    download_dir: str | None = option(None, "Where downloads are kept, if not in the hub's cache.", kind="text")
    revision: str | None = option(None, "Branch, tag or commit of the model.", kind="text")
    tokenizer_revision: str | None = option(None, "Branch, tag or commit of the tokenizer.", kind="text")
    packed_cache_bytes: int = option(
        20 * 2**30,
        "Most that weights which were quantised may take on the disk, kept for the next start; 0: none are kept.",
        kind="count",
        unit="bytes",
        low=0,
        high=2**50,
    )
    hf_token: str | bool | None = option(None, "Token for the hub; bare: the one of your login.", kind="secret")
