"""The type of the KV, and how it lies in blocks.

Not here: how many blocks there are (fit.py), the arithmetic of groups (kv_layout.py), how numbers of eight bits are
stored (ops/eight_bits.py).
Door: decide_kv.
"""

from __future__ import annotations

from collections.abc import Sequence

from quire.config.asked import EngineOptions
from quire.config.card import Card
from quire.config.decided import DType, KVLayout, KVType
from quire.config.kv_layout import head_bytes, lay_out
from quire.config.ledger import Ledger
from quire.config.model import AUTO
from quire.errors import ConfigError, UnsupportedFlag

_SPELLINGS: dict[str, KVType] = {
    "fp8": "fp8_e4m3",
    "fp8_e4m3": "fp8_e4m3",
    "int8": "int8_per_token_head",
    "int8_per_token_head": "int8_per_token_head",
}
_TOLD: dict[KVType, str] = {
    "fp8_e4m3": "eight bits without a scale, rounded to the nearest, up to 448",
    "int8_per_token_head": "eight bits with a float32 scale for each token and head",
}
_REFUSED = {
    "fp8_e5m2": "e4m3 takes the same memory and has a bit more of each number; take fp8",
    "fp8_inc": "it is a format of one vendor's accelerator; take fp8",
    "fp8_ds_mla": "it belongs to a kind of attention that Quire does not have yet; take fp8",
    "fp8_per_token_head": "int8 takes the same memory and has more bits of each number; take int8",
}
MAX_HEAD_SIZE = 1024
"""Of KV in eight bits (native/attention/attention.h)."""


def decide_kv(
    options: EngineOptions, card: Card, dtype: DType, served: Sequence[KVType], ledger: Ledger
) -> tuple[KVType | None, KVLayout]:
    """The type, None for the model's own, and the layout. ``served``: what the platform has beside the model's types.

    Raises: UnsupportedFlag for a type that cannot be had, with the reason; ConfigError for heads that are too large.
    """
    kv_type = _kv_type(options.cache.kv_cache_dtype, card, dtype, served, ledger)
    asked = options.model.max_model_len
    longest = card.max_model_len if asked in (None, AUTO) else asked or 0
    # A window that no context fills is no window; without it more layers share a block table.
    windows = [None if window is None or window >= longest else window for window in card.layer_windows]
    size = 2 * card.num_kv_heads * head_bytes(card.head_size, kv_type or dtype)
    return kv_type, lay_out(windows, block_size=options.cache.block_size, bytes_per_token_layer=size)


def _kv_type(asked: str, card: Card, dtype: DType, served: Sequence[KVType], ledger: Ledger) -> KVType | None:
    if asked in ("auto", dtype):
        ledger.note("kv_cache_dtype", dtype, "the model's type")
        return None
    found = _SPELLINGS.get(asked)
    if found is None or found not in served:
        reason = _REFUSED.get(asked, f"KV is kept in the model's type ({dtype}), fp8 or int8")
        raise UnsupportedFlag(f"--kv-cache-dtype {asked} is not served: {reason}.")
    if card.head_size > MAX_HEAD_SIZE:
        raise ConfigError(
            f"--kv-cache-dtype {asked} takes heads of up to {MAX_HEAD_SIZE} numbers; the model's have "
            f"{card.head_size}. Leave it out."
        )
    ledger.note("kv_cache_dtype", found, _TOLD[found])
    return found
