"""The native attention kernels: one row, one result, whatever else the step holds and however the work is cut.

Their numbers are checked against a dense computation in tests/contract/test_attention.py, for the instructions in use;
here for all that this machine has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from quire.attention import cpu
from quire.attention.torch_sdpa import Backend as Oracle
from quire.errors import ConfigError
from quire.layers.batch import KVLayer, RowSpans
from quire.ops.eight_bits import narrowed, stored_width, widened
from quire.ops.native import find_native

pytestmark = pytest.mark.skipif(find_native() is None, reason="Quire was installed without native kernels")

ISAS = ("portable", "avx2", "avx512", "avx512bf16")
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
FP8, INT8 = torch.float8_e4m3fn, torch.int8
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}


@dataclass(frozen=True)
class Types:
    """Of queries and of the KV; None: the same."""

    query: torch.dtype
    stored: torch.dtype | None = None

    def __str__(self) -> str:
        return "-".join(str(x).removeprefix("torch.") for x in (self.query, self.stored) if x is not None)


EIGHT_BITS = (
    Types(torch.bfloat16, FP8),
    Types(torch.bfloat16, INT8),
    Types(torch.float16, FP8),
    Types(torch.float32, INT8),
)
TYPES = (*(Types(dtype) for dtype in DTYPES), *EIGHT_BITS)


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    native = find_native()
    assert native is not None
    if ISAS.index(request.param) > ISAS.index(native.best_isa()):
        pytest.skip(f"this machine has no {request.param}")
    before = native.isa()
    native.use_isa(request.param)
    yield request.param
    native.use_isa(before)


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True)
class Heads:
    """Query heads, KV heads, head size."""

    query: int = 4
    kv: int = 2
    size: int = 32

    def draw(self, length: int, dtype: torch.dtype, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        """q, k and v of a whole sequence."""
        chance = torch.Generator().manual_seed(seed)
        numbers = torch.randn(length, self.query + 2 * self.kv, self.size, generator=chance)
        return tuple(numbers.to(dtype).split([self.query, self.kv, self.kv], dim=1))  # type: ignore[return-value]


def empty_plane(num_blocks: int, block_size: int, heads: Heads, types: Types) -> Tensor:
    """All ones: no number in any type, and no number for a scale."""
    dtype = types.stored or types.query
    shape = (num_blocks, block_size, heads.kv, stored_width(heads.size, dtype) * dtype.itemsize)
    return torch.full(shape, 0xFF, dtype=torch.uint8).view(dtype)


class Cache:
    """Scattered blocks of one layer, NaN where nothing was written; block 0 stays so."""

    def __init__(self, heads: Heads, types: Types, block_size: int, num_tokens: int, window: int | None) -> None:
        num_blocks = 1 + -(-num_tokens // block_size)
        self.kv = KVLayer(*(empty_plane(num_blocks, block_size, heads, types) for _ in range(2)))
        self.backend = cpu.Backend()
        self.free = (torch.randperm(num_blocks - 1, generator=torch.Generator().manual_seed(7)) + 1).tolist()
        self.window = window
        self.soft_cap: float | None = None

    def run(self, chunks: Sequence[tuple[Tokens, int]]) -> list[Tensor]:
        """The next tokens of some sequences in one step; their results."""
        size = self.kv.block_size
        slots: list[int] = []
        parts: list[tuple[Tensor, ...]] = []
        for sequence, count in chunks:
            first, last = sequence.computed, sequence.computed + count
            while len(sequence.table) * size < last:
                sequence.table.append(self.free.pop())
            if self.window is not None:
                gone = max(0, first - self.window + 1) // size
                sequence.table[:gone] = [0] * gone
            slots += [sequence.table[at // size] * size + at % size for at in range(first, last)]
            parts.append(tuple(x[first:last] for x in sequence.qkv))
            sequence.computed = last
        q, k, v = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        starts = (0, *torch.tensor([count for _, count in chunks]).cumsum(0).tolist())
        width = max(len(sequence.table) for sequence, _ in chunks)
        table = torch.tensor([sequence.table + [0] * (width - len(sequence.table)) for sequence, _ in chunks])
        self.backend.write(k, v, self.kv, torch.tensor(slots))
        rows = RowSpans(starts, tuple(sequence.computed for sequence, _ in chunks))
        plan = self.backend.plan(rows, table.int(), self.kv, window=self.window)
        found = plan.attend(q, self.kv, scale=q.shape[-1] ** -0.5, soft_cap=self.soft_cap)
        return list(found.split([count for _, count in chunks]))


@dataclass
class Tokens:
    """A sequence in one cache."""

    qkv: tuple[Tensor, Tensor, Tensor]
    table: list[int]
    computed: int = 0

    @property
    def length(self) -> int:
        return len(self.qkv[0])


def alone(
    length: int,
    chunks: Sequence[int],
    heads: Heads,
    types: Types,
    *,
    block_size: int = 16,
    window: int | None = None,
    soft_cap: float | None = None,
) -> Tensor:
    """All results of one sequence that is computed in chunks of these sizes, the last one repeated."""
    cache = Cache(heads, types, block_size, length, window)
    cache.soft_cap = soft_cap
    sequence = Tokens(heads.draw(length, types.query, seed=length), [])
    found, left = [], list(chunks)
    while sequence.computed < length:
        size = left.pop(0) if len(left) > 1 else left[0]
        found += cache.run([(sequence, min(size, length - sequence.computed))])
    return torch.cat(found)


def assert_same(found: Tensor, expected: Tensor) -> None:
    assert not expected.isnan().any()
    assert torch.equal(found, expected)


@pytest.mark.parametrize("types", TYPES, ids=str)
@pytest.mark.parametrize(("window", "soft_cap"), [(None, None), (None, 3.0), (40, None), (100, 5.0)])
def test_decoding_is_bit_equal_to_prefill_however_it_is_chunked(
    isa: str, types: Types, window: int | None, soft_cap: float | None
) -> None:
    heads, length = Heads(size=16), 203
    whole = alone(length, [length], heads, types, window=window, soft_cap=soft_cap)
    for chunks in ([1], [7], [64], [130, 1], [50, 33, 70, 1]):
        assert_same(alone(length, chunks, heads, types, window=window, soft_cap=soft_cap), whole)


@pytest.mark.parametrize("types", TYPES, ids=str)
@pytest.mark.parametrize("heads", [Heads(4, 2, 24), Heads(3, 1, 64), Heads(4, 4, 80), Heads(60, 1, 16)], ids=str)
def test_no_block_size_changes_a_bit(isa: str, types: Types, heads: Heads) -> None:
    expected = alone(150, [70, 40, 1], heads, types, block_size=16)
    for block_size in (1, 3, 8, 32, 48, 64, 256):
        assert_same(alone(150, [70, 40, 1], heads, types, block_size=block_size), expected)


@pytest.mark.parametrize("types", [Types(torch.bfloat16), Types(torch.bfloat16, INT8)], ids=str)
def test_beyond_one_chunk_of_keys_decoding_is_still_bit_equal_to_prefill(isa: str, types: Types) -> None:
    """Keys are summed in chunks of 1024, and windows begin in any of them."""
    length = 2180
    for window in (None, 900, 1500):
        cache = Cache(Heads(size=16), types, 16, 2 * length + 16, window)
        qkv = Heads(size=16).draw(length, torch.bfloat16, seed=1)
        prefilled, decoded = Tokens(qkv, []), Tokens(qkv, [])
        whole = torch.cat(cache.run([(prefilled, length)]))
        found = cache.run([(decoded, 1000)])
        found += cache.run([(decoded, 1017)])
        while decoded.computed < length:
            found += cache.run([(decoded, 1)])
        assert_same(torch.cat(found), whole)


@pytest.mark.parametrize("types", TYPES, ids=str)
def test_a_row_does_not_depend_on_the_other_rows(isa: str, types: Types) -> None:
    heads = Heads(6, 2, 48)
    lengths = [1, 2, 63, 64, 65, 128, 200, 40, 41, 90] * 3
    counts = [1, 2, 1, 1, 1, 30, 100, 1, 41, 1] * 3
    together = Cache(heads, types, 16, sum(lengths) + 16 * len(lengths), None)
    sequences = [Tokens(heads.draw(length, types.query, seed=row), []) for row, length in enumerate(lengths)]
    before = [(s, s.length - count) for s, count in zip(sequences, counts, strict=True) if s.length > count]
    together.run(before)
    found = together.run(list(zip(sequences, counts, strict=True)))
    for row, (length, count) in enumerate(zip(lengths, counts, strict=True)):
        cache = Cache(heads, types, 16, length, None)
        sequence = Tokens(heads.draw(length, types.query, seed=row), [])
        if length > count:
            cache.run([(sequence, length - count)])
        assert_same(found[row], cache.run([(sequence, count)])[0])


@pytest.mark.parametrize("kv_heads", [1, 2])
@pytest.mark.parametrize("window", [None, 2000])
@pytest.mark.parametrize("types", [Types(torch.bfloat16), *EIGHT_BITS[:2]], ids=str)
def test_threads_change_no_bit_even_where_they_share_a_row(
    threads: None, kv_heads: int, window: int | None, types: Types
) -> None:
    heads = Heads(4, kv_heads, 64)
    qkv = heads.draw(5000, torch.bfloat16, seed=2)
    results = []
    for num_threads in (1, 2, 3, 7, 64):
        torch.set_num_threads(num_threads)
        cache = Cache(heads, types, 16, 10_100, window)
        long, other = Tokens(qkv, []), Tokens(qkv, [])
        cache.run([(long, 4500)])
        cache.run([(long, 90), (other, 30)])
        results.append(torch.cat(cache.run([(long, 1), (other, 65)]) + cache.run([(long, 1)])))
    for found in results[1:]:
        assert_same(found, results[0])


@pytest.mark.parametrize("types", TYPES, ids=str)
@pytest.mark.parametrize("heads", [Heads(2, 1, 64), Heads(8, 2, 128), Heads(2, 2, 256), Heads(5, 5, 40)], ids=str)
@pytest.mark.parametrize(("window", "soft_cap"), [(None, None), (70, 20.0)])
def test_every_instruction_set_agrees_with_the_oracle(
    isa: str, types: Types, heads: Heads, window: int | None, soft_cap: float | None
) -> None:
    length = 180
    found = alone(length, [100, 79, 1], heads, types, window=window, soft_cap=soft_cap)
    q, k, v = (x.float() for x in heads.draw(length, types.query, seed=length))
    if types.stored is not None:
        k, v = (widened(narrowed(x, types.stored)) for x in (k, v))
    shape = (-(-length // 16), 16, heads.kv, heads.size)
    oracle, kv = Oracle(), KVLayer(torch.zeros(shape), torch.zeros(shape))
    oracle.write(k, v, kv, torch.arange(length))
    table = torch.arange(shape[0], dtype=torch.int32)[None]
    plan = oracle.plan(RowSpans((0, length), (length,)), table, kv, window=window)
    expected = plan.attend(q, kv, scale=heads.size**-0.5, soft_cap=soft_cap)
    assert float((found.float() - expected).abs().max()) < TOLERANCE[types.query]


def test_scores_of_any_size_give_weights_that_sum_to_one(isa: str) -> None:
    heads, length = Heads(2, 1, 16), 130
    for size in (1e-30, 1e3, 1e18):
        q, k, _ = heads.draw(length, torch.float32, seed=3)
        cache = Cache(heads, Types(torch.float32), 16, length, None)
        sequence = Tokens((q * size, k, torch.ones(length, 1, 16)), [])
        (found,) = cache.run([(sequence, length)])
        assert float((found - 1).abs().max()) < 1e-6


@pytest.mark.parametrize("stored", [FP8, INT8], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_eight_bits_are_rounded_as_torch_rounds_them(isa: str, dtype: torch.dtype, stored: torch.dtype) -> None:
    """Every number of 16 bits, or float32 around each border; blocks of one token lie as torch lays them."""
    if dtype == torch.float32:
        borders = torch.arange(127, dtype=torch.uint8).view(FP8).float()
        middles = (borders[1:] + borders[:-1]) / 2
        near = torch.cat(
            [borders, middles, borders.nextafter(middles.new_tensor(1e9)), middles.nextafter(-borders[:1])]
        )
        tokens = torch.cat([near, near * 1.7, near * 1e-30, near * 1e20, -near])
        tokens = tokens[: len(tokens) // 32 * 32].view(-1, 2, 16)
    else:
        tokens = torch.arange(-(2**15), 2**15).to(torch.int16).view(dtype).view(-1, 2, 16)
    types, slots = Types(dtype, stored), torch.arange(len(tokens))
    planes = [empty_plane(len(tokens), 1, Heads(size=16), types) for _ in range(4)]
    cpu.Backend().write(tokens, -tokens, KVLayer(*planes[:2]), slots)
    Oracle().write(tokens, -tokens, KVLayer(*planes[2:]), slots)
    for found, expected in zip(planes[:2], planes[2:], strict=True):
        codes, wanted = (widened(x) for x in (found, expected))
        assert torch.equal(codes.isnan(), wanted.isnan())
        assert torch.equal(codes.nan_to_num(), wanted.nan_to_num())


def test_parts_of_wider_tensors_are_read_where_they_lie() -> None:
    heads, length = Heads(), 40
    qkv = torch.cat(heads.draw(length, torch.bfloat16, seed=5), dim=1)
    split = tuple(qkv.split([heads.query, heads.kv, heads.kv], dim=1))
    assert not any(x.is_contiguous() for x in split)
    copied = tuple(x.contiguous() for x in split)
    transposed = tuple(x.transpose(0, 1).contiguous().transpose(0, 1) for x in split)
    found = [
        Cache(heads, Types(torch.bfloat16), 16, length, None).run([(Tokens(x, []), length)])[0]  # type: ignore[arg-type]
        for x in (split, copied, transposed)
    ]
    assert_same(found[1], found[0])
    assert_same(found[2], found[0])


def test_what_does_not_fit_is_refused() -> None:
    heads = Heads()
    cache = Cache(heads, Types(torch.float32), 16, 64, None)
    q, k, v = heads.draw(4, torch.float32, seed=1)
    slots = torch.arange(4)
    with pytest.raises(ValueError, match="do not fit 4 slots"):
        cache.backend.write(k[:3], v, cache.kv, slots)
    with pytest.raises(ValueError, match="bfloat16 do not fit"):
        cache.backend.write(k, v.bfloat16(), cache.kv, slots)
    with pytest.raises(ValueError, match="Token 3 goes to slot 80; there are 80"):
        cache.backend.write(k, v, cache.kv, torch.tensor([1, 2, 3, 80]))
    plan = cache.backend.plan(RowSpans((0, 4), (4,)), torch.ones(1, 1, dtype=torch.int32), cache.kv, window=None)
    for wrong in (q[:3], q[:, :3], q.double(), q[..., :8]):
        with pytest.raises(ValueError, match=r"do not fit|share 2 KV heads"):
            plan.attend(wrong, cache.kv, scale=1.0, soft_cap=None)
    plane = torch.zeros(1, 16, 2, 32, dtype=torch.float64)
    with pytest.raises(ConfigError, match="torch_sdpa"):
        cache.backend.write(k, v, KVLayer(plane, plane), slots)


def test_a_schedule_is_made_in_place_again_and_refused_where_it_has_no_room(threads: None) -> None:
    native = find_native()
    assert native is not None
    torch.set_num_threads(2)
    numbers = torch.tensor([0, 1, 2, 4000, 70])
    asked = (numbers.data_ptr(), numbers.data_ptr() + 24, 2, 4, 2, 32, 0)
    num_bytes = native.attention_schedule_bytes(*asked)
    made = torch.zeros(num_bytes, dtype=torch.uint8)
    native.attention_schedule(*asked, made.data_ptr(), num_bytes)
    before = made.clone()
    numbers[3:] = torch.tensor([17, 17])
    assert native.attention_schedule_bytes(*asked) == num_bytes
    native.attention_schedule(*asked, made.data_ptr(), num_bytes)
    assert not torch.equal(made, before)
    numbers[3:] = torch.tensor([4000, 70])
    again = torch.zeros_like(made)
    native.attention_schedule(*asked, again.data_ptr(), num_bytes)
    assert torch.equal(again, before)
    with pytest.raises(ValueError, match=f"of 2 rows for 2 threads takes {num_bytes} bytes, not {num_bytes - 1}"):
        native.attention_schedule(*asked, made.data_ptr(), num_bytes - 1)


def test_without_the_extension_another_backend_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "find_native", lambda: None)
    with pytest.raises(ConfigError, match="--attention-backend torch_sdpa"):
        cpu.Backend()
