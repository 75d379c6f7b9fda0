"""Attention by native kernels on CPUs: prefill and decode in one call, any block size and head size.

A row's result is the same to the last bit however its prompt was chunked, whatever rows are beside it and however many
threads compute (native/attention/attention.h says why).

Not here: the kernels (native/attention/), the contract (layers/batch.py).
Door: Backend.
"""

# Shapes: T tokens of the step, R rows, B blocks of the longest row's table, H query heads, G KV heads, D head size.

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor

from quire.errors import ConfigError
from quire.layers.batch import KVLayer, RowSpans
from quire.ops.eight_bits import head_size_of, is_eight_bits
from quire.ops.native import find_native

_QUERY_TYPES = {torch.bfloat16: 0, torch.float16: 1, torch.float32: 2}
_TYPES = {**_QUERY_TYPES, torch.float8_e4m3fn: 3, torch.int8: 4}
"""As native/attention/attention.h numbers them."""
_MAX_EIGHT_BIT_HEAD = 1024


class Backend:
    """Blocks lie in memory as the kernels want them: what ``write`` puts into a block only ``attend`` can read.

    Memory beside q, k, v and the result: some 200 KB for each thread, kept by the extension between steps.
    """

    def __init__(self) -> None:
        """Raises: ConfigError where Quire was installed without native kernels."""
        kernels = find_native()
        if kernels is None:
            raise ConfigError(
                "--attention-backend cpu: Quire was installed without its native kernels. Install it where there is "
                "a C++ compiler, or choose --attention-backend torch_sdpa."
            )
        self._kernels = kernels
        self._caches = _Caches()

    def write(self, k_TGD: Tensor, v_TGD: Tensor, kv: KVLayer, slots_T: Tensor) -> None:
        """Put the step's keys and values into their slots.

        Raises: ValueError for a slot that the cache does not have, or tensors that do not fit it; ConfigError for a
        type that the kernels do not take.
        """
        cache = self._caches.of(kv)
        expected = (slots_T.shape[0], *cache.heads)
        number_type = cache.takes.get(k_TGD.dtype)
        if k_TGD.shape != expected or v_TGD.shape != expected or number_type is None or v_TGD.dtype != k_TGD.dtype:
            raise ValueError(
                f"Keys {_said(k_TGD)} and values {_said(v_TGD)} do not fit {slots_T.shape[0]} slots of a cache of "
                f"{_said(kv.keys)}."
            )
        if slots_T.dtype != torch.int64 or not slots_T.is_contiguous():
            slots_T = slots_T.to(torch.int64).contiguous()
        k_TGD, v_TGD = _with_whole_rows(k_TGD), _with_whole_rows(v_TGD)
        self._kernels.attention_write(
            *cache.numbers,
            cache.num_blocks,
            k_TGD.data_ptr(),
            k_TGD.stride(0),
            v_TGD.data_ptr(),
            v_TGD.stride(0),
            number_type,
            slots_T.data_ptr(),
            expected[0],
        )

    def plan(self, rows: RowSpans, table_RB: Tensor, kv: KVLayer, *, window: int | None) -> Plan:
        """Work out what all layers of this block table and this window share."""
        if table_RB.dtype != torch.int32 or table_RB.stride(1) != 1:
            table_RB = table_RB.to(torch.int32).contiguous()
        return Plan(rows, table_RB, window or 0, self._kernels, self._caches)


@dataclass(slots=True)
class Plan:
    """A step's rows dealt out to threads; the schedule is made when the first layer says how many query heads it
    has."""

    rows: RowSpans
    table_RB: Tensor
    window: int
    kernels: ModuleType
    caches: _Caches
    _shape: tuple[int, ...] = ()
    _held: tuple[Tensor, ...] = ()
    """The rows' numbers and the schedule, whose addresses kernels are given."""

    def attend(self, q_THD: Tensor, kv: KVLayer, *, scale: float, soft_cap: float | None) -> Tensor:
        """Causal attention of the step's tokens over their own rows' keys; result [T, H, D].

        Raises: ValueError for queries that do not fit the cache, ConfigError for a type that the kernels do not take.
        """
        cache = self.caches.of(kv)
        num_heads = q_THD.shape[1]
        if self._shape != (num_heads, *cache.heads):
            self._schedule_for(num_heads, *cache.heads)
        query_type = cache.takes.get(q_THD.dtype)
        if q_THD.shape != (self.rows.starts[-1], num_heads, cache.heads[1]) or query_type is None:
            raise ValueError(
                f"Queries {_said(q_THD)} do not fit {self.rows.starts[-1]} tokens over a cache of {_said(kv.keys)}."
            )
        q_THD = _with_whole_rows(q_THD)
        out_THD = torch.empty(q_THD.shape, dtype=q_THD.dtype)
        self.kernels.attention(
            self._held[1].data_ptr(),
            *cache.numbers,
            q_THD.data_ptr(),
            q_THD.stride(0),
            query_type,
            out_THD.data_ptr(),
            num_heads,
            self.table_RB.data_ptr(),
            self.table_RB.stride(0),
            self.window,
            scale,
            soft_cap or 0.0,
        )
        return out_THD

    def _schedule_for(self, num_heads: int, num_kv_heads: int, head_size: int) -> None:
        if num_heads % num_kv_heads != 0:
            raise ValueError(f"{num_heads} query heads cannot share {num_kv_heads} KV heads evenly.")
        numbers, num_rows = self.rows.in_memory(), self.rows.num_rows
        starts = numbers.data_ptr()
        lengths = starts + (num_rows + 1) * numbers.element_size()
        asked = (starts, lengths, num_rows, num_heads, num_kv_heads, head_size, self.window)
        schedule = torch.empty(self.kernels.attention_schedule_bytes(*asked), dtype=torch.uint8)
        self.kernels.attention_schedule(*asked, schedule.data_ptr(), schedule.numel())
        self._held = (numbers, schedule)
        self._shape = (num_heads, num_kv_heads, head_size)


@dataclass(frozen=True, slots=True)
class _Cache:
    """What a kernel is told about one layer's KV.

    ``heads``: their number and size. ``numbers``: arguments that every kernel takes. ``takes``: types of queries and
    new keys, which are the cache's own unless that has eight bits. ``kv`` is held, so that the addresses stay true.
    """

    kv: KVLayer
    takes: dict[torch.dtype, int]
    num_blocks: int
    heads: tuple[int, int]
    numbers: tuple[int, ...]


class _Caches:
    """Layers' KV by identity: asking a tensor for its shape and address costs more than a small kernel."""

    def __init__(self) -> None:
        self._known: dict[int, _Cache] = {}

    def of(self, kv: KVLayer) -> _Cache:
        """Raises: ConfigError for a type or a device that the kernels do not take."""
        found = self._known.get(id(kv))
        return self._new(kv) if found is None else found

    def _new(self, kv: KVLayer) -> _Cache:
        keys, values = kv.keys, kv.values
        if keys.dtype not in _TYPES or keys.device.type != "cpu":
            raise ConfigError(
                f"--attention-backend cpu takes bfloat16, float16, float32, fp8 (e4m3) and int8 in this machine's "
                f"memory, not {_said(keys)} on {keys.device}; choose --attention-backend torch_sdpa."
            )
        if keys.shape != values.shape or keys.dtype != values.dtype:
            raise ValueError(f"Keys {_said(keys)} and values {_said(values)} are not two planes of one cache.")
        if not keys.is_contiguous() or not values.is_contiguous():
            raise ValueError(f"The planes of a cache must be contiguous; keys have strides {keys.stride()}.")
        num_blocks, block_size, num_kv_heads, _ = keys.shape
        head_size, type_ = head_size_of(keys), _TYPES[keys.dtype]
        takes = _QUERY_TYPES if is_eight_bits(keys.dtype) else {keys.dtype: type_}
        if is_eight_bits(keys.dtype) and head_size > _MAX_EIGHT_BIT_HEAD:
            raise ConfigError(
                f"KV in eight bits takes heads of up to {_MAX_EIGHT_BIT_HEAD} numbers, not {head_size}; leave "
                "--kv-cache-dtype out."
            )
        numbers = (keys.data_ptr(), values.data_ptr(), block_size, num_kv_heads, head_size, type_)
        made = self._known[id(kv)] = _Cache(kv, takes, num_blocks, (num_kv_heads, head_size), numbers)
        return made


def _with_whole_rows(x: Tensor) -> Tensor:
    """A tensor [T, heads, D] in which a token's heads lie one after the other."""
    _, of_head, of_number = x.stride()
    return x if of_number == 1 and of_head == x.shape[2] else x.contiguous()


def _said(x: Tensor) -> str:
    return f"{list(x.shape)} {x.dtype}".replace("torch.", "")
