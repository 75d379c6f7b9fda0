"""Memory arithmetic: what weights, activations and KV need, before anything is loaded. Nothing is probed.

Not here: how much memory there is (machine.py), how KV lies in blocks (kv_layout.py).
Door: Demand, Kernels, Room, MemoryPlan, fit.
"""

from __future__ import annotations

from msgspec import Struct

from quire.config.card import Card
from quire.config.decided import DType, KVLayout, KVType, LinearBackend
from quire.config.kv_layout import blocks_for, tokens_for
from quire.config.quantization import Form, Scheme
from quire.config.units import in_bytes
from quire.errors import DoesNotFit

OVERHEAD_BYTES = 350 * 2**20
"""An interpreter with torch loaded, its threads' stacks and the tokenizer."""
DEFAULT_FRACTION = 0.92
DEFAULT_KV_BYTES = 4 * 2**30
"""Most KV on a CPU when nobody says how much, so that a laptop keeps its memory."""

ELEMENT_BYTES: dict[DType, int] = {"bfloat16": 2, "float16": 2, "float32": 4}

_SLACK = 10
"""One part in so many for what the allocator keeps between two tensors."""
_QUERY_TILE = 256
_GATHERED_TOKENS = 1 << 12
"""Queries and keys that the plain attention backend holds at once (attention/torch_sdpa.py)."""
_TILE_ROWS, _STEP_TOKENS, _CHUNK_TOKENS = 48, 64, 1024
"""Queries x heads that a native kernel computes together, and keys of a step and of a chunk."""
_PREPARED_BYTES, _PREPARED_ROWS = 1 << 18, 96
"""Inputs of a quantised product that are rewritten at a time: so many bytes, but at least so many rows."""


class Kernels(Struct, frozen=True):
    """What computes, as far as its memory depends on it. ``scheme`` None: weights in the model's own type."""

    attention_backend: str = "torch_sdpa"
    linear_backend: LinearBackend = "torch"
    num_threads: int = 1
    scheme: Scheme | None = None
    kv_type: KVType | None = None


class Demand(Struct, frozen=True):
    """What is to fit. ``max_model_len`` None: the model's context, or less where less fits; ``is_exact``: that or
    nothing."""

    card: Card
    dtype: DType
    layout: KVLayout
    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int
    is_exact: bool
    kernels: Kernels = Kernels()


class Room(Struct, frozen=True):
    """Where it is to fit. At most one of ``kv_bytes`` and ``num_blocks`` is given; ``fraction`` None: nobody said."""

    available_bytes: int
    limited_by: str = "free memory"
    fraction: float | None = None
    kv_bytes: int | None = None
    num_blocks: int | None = None


class MemoryPlan(Struct, frozen=True):
    """The arithmetic, in bytes unless the name says otherwise.

    ``num_tokens``: longest sequence the pool can hold. ``largest_context``: longest that would fit the memory at all.
    ``limited_by`` says what the number of blocks follows from.
    """

    available_bytes: int
    budget_bytes: int
    weight_bytes: int
    activation_bytes: int
    overhead_bytes: int
    kv_bytes: int
    bytes_per_block: int
    block_size: int
    num_blocks: int
    max_model_len: int
    num_tokens: int
    num_full_sequences: float
    limited_by: str
    memory_limited_by: str

    @property
    def total_bytes(self) -> int:
        return self.weight_bytes + self.activation_bytes + self.overhead_bytes + self.kv_bytes


def weight_bytes(card: Card, dtype: DType, scheme: Scheme | None = None) -> int:
    """All parameters as they are used: quantised ones with their scales and zero points, others in the model's type."""
    if scheme is None:
        return card.num_parameters * ELEMENT_BYTES[dtype]
    quantised, dense = 0, card.num_parameters
    for form, columns, depth, count in _quantised_weights(card, scheme):
        quantised += count * form.num_bytes(columns, depth)
        dense -= count * columns * depth
    return quantised + max(0, dense) * ELEMENT_BYTES[dtype]


def _quantised_weights(card: Card, scheme: Scheme) -> list[tuple[Form, int, int, int]]:
    """Form, columns, depth and number of each kind of weight that a scheme takes."""
    hidden, inner = card.hidden_size, card.intermediate_size
    queries, kv = card.num_heads * card.head_size, card.num_kv_heads * card.head_size
    of_a_layer = ((queries + 2 * kv, hidden), (hidden, queries), (2 * inner, hidden), (hidden, inner))
    projections = [(scheme.projections, columns, depth, card.num_layers) for columns, depth in of_a_layer]
    return [*projections, (scheme.head, card.vocab_size, hidden, 1)]


def activation_bytes(demand: Demand, max_model_len: int) -> int:
    """The largest tensors of one step that live at the same time: one layer's, and the logits of every sequence.

    The residual stream, its norm in float32, queries, keys and values (rotated in float32), then the larger of
    attention's scratch and the MLP's; logits in float32 three times (raw, processed, sorted).
    """
    card, element = demand.card, ELEMENT_BYTES[demand.dtype]
    tokens = demand.max_num_batched_tokens
    stream = tokens * card.hidden_size * (4 * element + 8)
    projected = tokens * (2 * card.num_heads + 2 * card.num_kv_heads) * card.head_size * element
    rotated = tokens * (card.num_heads + card.num_kv_heads) * card.head_size * 4
    mlp = 3 * tokens * card.intermediate_size * element
    logits = 3 * min(demand.max_num_seqs, tokens) * card.vocab_size * 4
    attention = _attention_bytes(demand, max_model_len)
    counted = stream + max(projected + rotated + attention, mlp) + logits + _prepared_bytes(demand)
    return counted + counted // _SLACK


def _prepared_bytes(demand: Demand) -> int:
    """What quantised products make before they multiply: of inputs, a block of rows at a time
    (native/quantized/quantized_methods.cpp); by the reference, a whole weight in float32 twice."""
    scheme = demand.kernels.scheme
    if scheme is None:
        return 0
    weights = _quantised_weights(demand.card, scheme)
    if demand.kernels.linear_backend == "torch":
        return max(2 * 4 * columns * depth for _, columns, depth, _ in weights)
    return max(_PREPARED_BYTES, *(_PREPARED_ROWS * (depth * 4 + 128) for _, _, depth, _ in weights))


def _attention_bytes(demand: Demand, max_model_len: int) -> int:
    if demand.kernels.attention_backend == "cpu":
        return _native_attention_bytes(demand, max_model_len)
    card, element = demand.card, ELEMENT_BYTES[demand.dtype]
    kept = max(max_model_len, min(_GATHERED_TOKENS, demand.max_num_seqs * max_model_len))
    gathered = 2 * kept * card.num_kv_heads * card.head_size * element
    if demand.kernels.kv_type is not None:  # and once more in float32
        gathered += 2 * kept * card.num_kv_heads * card.head_size * 4
    queries = min(_QUERY_TILE, demand.max_num_batched_tokens)
    mask = queries * (max_model_len + queries) * element
    if card.config.get("attn_logit_softcapping") is None:
        return gathered + mask
    # With a soft cap scores are held in four versions, and keys and values once more in float32 for each query head.
    widened = 2 * max_model_len * card.num_heads * card.head_size * 4
    return gathered + mask + widened + 4 * queries * card.num_heads * max_model_len * 4


def _native_attention_bytes(demand: Demand, max_model_len: int) -> int:
    """Each thread's scratch and, for tiles whose keys several threads share, a state for each chunk of them
    (native/attention/attention.h, schedule.cpp)."""
    threads = max(1, demand.kernels.num_threads)
    width = -(-demand.card.head_size // 16) * 16
    state = 4 * (_TILE_ROWS * (width + 16) + 64)
    tile, copies = _TILE_ROWS * (width + 2 * _STEP_TOKENS + 2), (4 * _STEP_TOKENS + 16) * (width + 1)
    scratch = 4 * (tile + copies) + 2 * state + 4096
    # A tile is shared when it costs over half of a piece, and there are four pieces a thread.
    shared = 0 if threads == 1 else 2 * 4 * threads * (-(-max_model_len // _CHUNK_TOKENS) + 1)
    return threads * scratch + shared * state


def fit(demand: Demand, room: Room) -> MemoryPlan:
    """Decide context and number of blocks.

    Raises: DoesNotFit, in one line with all numbers and the largest context that fits.
    """
    layout, block_bytes = demand.layout, demand.layout.bytes_per_block
    length = demand.max_model_len
    if _needed(demand, length) > _kv_room(demand, room, length):
        largest = _largest(demand, room)
        if demand.is_exact or largest < 1:
            raise _does_not_fit(demand, room, length, largest)
        length = largest
    num_blocks = _kv_room(demand, room, length) // block_bytes
    limited_by = "memory"
    if room.num_blocks is not None:
        num_blocks, limited_by = room.num_blocks, "--num-gpu-blocks-override"
    elif room.kv_bytes is not None:
        limited_by = "--kv-cache-memory-bytes"
    else:
        one = blocks_for(layout, length)
        usable = one * demand.max_num_seqs
        modest = max(DEFAULT_KV_BYTES // block_bytes, one)
        if room.fraction is None and modest < num_blocks:
            num_blocks, limited_by = (
                modest,
                f"the default of at most {in_bytes(DEFAULT_KV_BYTES)}, or one whole context",
            )
        if usable <= num_blocks:
            num_blocks, limited_by = usable, f"what {demand.max_num_seqs} sequences of {length} tokens can use"
    activations = activation_bytes(demand, length)
    return MemoryPlan(
        available_bytes=room.available_bytes,
        budget_bytes=_budget(room),
        weight_bytes=weight_bytes(demand.card, demand.dtype, demand.kernels.scheme),
        activation_bytes=activations,
        overhead_bytes=OVERHEAD_BYTES,
        kv_bytes=num_blocks * block_bytes,
        bytes_per_block=block_bytes,
        block_size=layout.block_size,
        num_blocks=num_blocks,
        max_model_len=length,
        num_tokens=tokens_for(layout, num_blocks, limit=length),
        num_full_sequences=round(num_blocks / blocks_for(layout, length), 2),
        limited_by=limited_by,
        memory_limited_by=room.limited_by,
    )


def _needed(demand: Demand, length: int) -> int:
    return blocks_for(demand.layout, length) * demand.layout.bytes_per_block


def _budget(room: Room) -> int:
    if room.kv_bytes is not None or room.num_blocks is not None:
        return room.available_bytes
    return int(room.available_bytes * (DEFAULT_FRACTION if room.fraction is None else room.fraction))


def _kv_room(demand: Demand, room: Room, length: int) -> int:
    """Bytes that KV may take if contexts are this long; -1 or less when the rest alone is too much."""
    weights = weight_bytes(demand.card, demand.dtype, demand.kernels.scheme)
    left = _budget(room) - weights - OVERHEAD_BYTES - activation_bytes(demand, length)
    asked = room.kv_bytes
    if room.num_blocks is not None:
        asked = room.num_blocks * demand.layout.bytes_per_block
    if asked is None:
        return left
    return asked if asked <= left else -1


def _largest(demand: Demand, room: Room) -> int:
    """The longest context that fits, at most the demanded one; 0 when none does. Whole blocks, but for the demanded
    one."""
    size = demand.layout.block_size
    low, high = 0, demand.max_model_len // size
    while low < high:
        middle = (low + high + 1) // 2
        if _needed(demand, middle * size) <= _kv_room(demand, room, middle * size):
            low = middle
        else:
            high = middle - 1
    return low * size


def _does_not_fit(demand: Demand, room: Room, length: int, largest: int) -> DoesNotFit:
    weights = weight_bytes(demand.card, demand.dtype, demand.kernels.scheme)
    activations = activation_bytes(demand, length)
    part = "" if _budget(room) == room.available_bytes else f", of which {in_bytes(_budget(room))} may be used"
    kv = _needed(demand, length)
    asked_bytes = room.kv_bytes
    if room.num_blocks is not None:
        asked_bytes = room.num_blocks * demand.layout.bytes_per_block
    asked = "" if asked_bytes is None else f" ({in_bytes(asked_bytes)} were asked for)"
    numbers = (
        f"A context of {length} tokens does not fit: weights {in_bytes(weights)} + activations {in_bytes(activations)} "
        "+ "
        f"process {in_bytes(OVERHEAD_BYTES)} + KV {in_bytes(kv)}{asked} = "
        f"{in_bytes(weights + activations + OVERHEAD_BYTES + max(kv, asked_bytes or 0))}; available are "
        f"{in_bytes(room.available_bytes)} ({room.limited_by}){part}."
    )
    if largest:
        return DoesNotFit(f"{numbers} The largest context that fits is {largest}: --max-model-len {largest}, or auto.")
    if asked_bytes is not None:
        return DoesNotFit(f"{numbers} No context fits; ask for another size of KV, or let Quire decide.")
    fraction = "" if room.fraction is None else f"raise --gpu-memory-utilization ({room.fraction:g}), "
    return DoesNotFit(
        f"{numbers} No context fits; {fraction}free memory, choose a smaller model, or lower --max-num-batched-tokens "
        f"({demand.max_num_batched_tokens}) and --max-num-seqs ({demand.max_num_seqs})."
    )
