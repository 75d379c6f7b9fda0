"""How a model's KV lies in blocks of one pool, and how many blocks a sequence needs: arithmetic only.

Not here: which block is free (kvcache/), how many blocks the memory takes (fit.py).
Door: head_bytes, lay_out, blocks_for, tokens_for.
"""

from __future__ import annotations

from collections.abc import Sequence

from quire.config.decided import DType, KVGroup, KVLayout, KVType
from quire.errors import ConfigError

MAX_PADDING = 0.15
"""Largest part of a block that may belong to no layer."""

COST_OF_A_GROUP = 0.02
"""Padding that one group less is worth: each group has its own table for every row of every step."""

_NUMBER_BYTES: dict[DType | KVType, int] = {
    "bfloat16": 2,
    "float16": 2,
    "float32": 4,
    "fp8_e4m3": 1,
    "int8_per_token_head": 1,
}
_SCALE_BYTES = 4


def head_bytes(head_size: int, type_: DType | KVType) -> int:
    """Bytes of one token's key (or value) in one KV head, its scale included."""
    return head_size * _NUMBER_BYTES[type_] + (_SCALE_BYTES if type_ == "int8_per_token_head" else 0)


def lay_out(layer_windows: Sequence[int | None], *, block_size: int, bytes_per_token_layer: int) -> KVLayout:
    """Cut the layers into KV groups that one pool of equal blocks can serve.

    Layers of one window form a kind. A kind is cut into groups of at most ``layers_per_block`` layers. Of the numbers
    whose padding is at most MAX_PADDING the one with the least padding and groups is taken (see COST_OF_A_GROUP). Full
    attention comes first, then windows in rising order.

    Units:   ``bytes_per_token_layer`` = 2 (key, value) x KV heads x head_bytes.
    Raises:  ConfigError when there is no layer or a number is not positive.
    """
    if not layer_windows:
        raise ConfigError("The model has no attention layer, so that there is no KV to lay out.")
    if block_size < 1 or bytes_per_token_layer < 1:
        raise ConfigError(
            f"A block needs at least 1 token and 1 byte a token; got {block_size} tokens and "
            f"{bytes_per_token_layer} bytes. Set --block-size to 1 or more."
        )
    for window in layer_windows:
        if window is not None and window < 1:
            raise ConfigError(f"An attention window has at least 1 token (itself); the model says {window}.")
    kinds: dict[int | None, list[int]] = {}
    for layer, window in enumerate(layer_windows):
        kinds.setdefault(window, []).append(layer)
    counts = [len(layers) for layers in kinds.values()]
    layers_per_block = min(range(1, max(counts) + 1), key=lambda size: _cost(counts, size))
    groups = [
        KVGroup(window=window, layers=tuple(kinds[window][first : first + layers_per_block]))
        for window in sorted(kinds, key=lambda window: window or 0)
        for first in range(0, len(kinds[window]), layers_per_block)
    ]
    return KVLayout(
        block_size=block_size,
        groups=tuple(groups),
        layers_per_block=layers_per_block,
        bytes_per_block=layers_per_block * block_size * bytes_per_token_layer,
    )


def _cost(counts: Sequence[int], size: int) -> tuple[bool, float]:
    num_groups = sum(-(-count // size) for count in counts)
    padding = 1.0 - sum(counts) / (num_groups * size)
    return padding > MAX_PADDING, padding + COST_OF_A_GROUP * num_groups


def window_blocks(window: int, block_size: int) -> int:
    """Most blocks that a sequence holds of one sliding group when no chunk of it crosses a block's end.

    A token that opens a block reads ``window - 1`` tokens before it: those and its own block are held.
    """
    return 1 + -(-(window - 1) // block_size)


def blocks_for(layout: KVLayout, num_tokens: int) -> int:
    """The smallest pool in which one sequence can grow to ``num_tokens`` computed tokens, all groups together.

    A full group holds ceil(tokens / block size) blocks, a sliding group never more than ``window_blocks``; chunks that
    need more at once are cut to what fits by the scheduler, so that this number is enough.
    """
    return _held(layout, -(-num_tokens // layout.block_size))


def tokens_for(layout: KVLayout, num_blocks: int, *, limit: int) -> int:
    """The longest sequence that a pool of ``num_blocks`` can hold, at most ``limit`` tokens.

    The inverse of blocks_for.
    """
    low, high = 0, -(-limit // layout.block_size)
    while low < high:
        middle = (low + high + 1) // 2
        if _held(layout, middle) <= num_blocks:
            low = middle
        else:
            high = middle - 1
    return min(limit, low * layout.block_size)


def _held(layout: KVLayout, length: int) -> int:
    """Blocks of a sequence whose tables have ``length`` entries each."""
    return sum(
        length if group.window is None else min(length, window_blocks(group.window, layout.block_size))
        for group in layout.groups
    )
