"""Every attention backend on the shelf, against a dense computation in float64."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from quire import plugins
from quire.errors import ConfigError
from quire.layers.batch import AttentionBackend, KVLayer, RowSpans
from quire.ops.eight_bits import narrowed, stored_width, widened

POISON = 0
EIGHT_BITS = (torch.float8_e4m3fn, torch.int8)


@pytest.fixture(params=plugins.names("attention"))
def backend(request: pytest.FixtureRequest) -> AttentionBackend:
    try:
        made: AttentionBackend = plugins.load("attention", request.param).Backend()
    except ConfigError as error:
        pytest.skip(str(error))
    return made


@dataclass
class Step:
    """Random sequences in scattered blocks; every slot that is not a row's own, or left its window, holds NaN.

    ``past``: keys, values and slots of what earlier steps computed.
    """

    rows: RowSpans
    q_THD: Tensor
    k_TGD: Tensor
    v_TGD: Tensor
    slots_T: Tensor
    past: tuple[Tensor, Tensor, Tensor]
    kv: KVLayer
    table_RB: Tensor
    expected_THD: Tensor


def make_step(
    lengths: list[int],
    queries: list[int],
    *,
    heads: int = 4,
    kv_heads: int = 2,
    head_size: int = 16,
    block_size: int = 8,
    window: int | None = None,
    soft_cap: float | None = None,
    dtype: torch.dtype = torch.float32,
    kv_dtype: torch.dtype | None = None,
    seed: int = 0,
) -> Step:
    chance = torch.Generator().manual_seed(seed)
    widths = [-(-length // block_size) for length in lengths]
    num_blocks = sum(widths) + 1
    ids = torch.split(torch.randperm(num_blocks - 1, generator=chance) + 1, widths)
    planes = [empty_plane(num_blocks, block_size, kv_heads, head_size, kv_dtype or dtype) for _ in range(2)]
    table_RB = torch.full((len(lengths), max(widths)), POISON, dtype=torch.int32)
    new_q, new_k, new_v, slots, expected = [], [], [], [], []
    past: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
    for row, (length, count) in enumerate(zip(lengths, queries, strict=True)):
        k, v = (torch.randn(length, kv_heads, head_size, generator=chance).to(dtype) for _ in range(2))
        q = torch.randn(count, heads, head_size, generator=chance).to(dtype) * 2
        stored = (k, v) if kv_dtype is None else (widened(narrowed(x, kv_dtype)) for x in (k, v))
        expected.append(dense(q, *stored, window, soft_cap))
        places = ids[row][torch.arange(length) // block_size] * block_size + torch.arange(length) % block_size
        before = length - count
        for earlier, values in zip(past, (k, v, places), strict=True):
            earlier.append(values[:before])
        table_RB[row, : widths[row]] = ids[row].int()
        if window is not None:
            table_RB[row, : max(0, before - window + 1) // block_size] = POISON
        new_q.append(q)
        new_k.append(k[before:])
        new_v.append(v[before:])
        slots.append(places[before:])
    starts = tuple(torch.tensor([0, *queries]).cumsum(0).tolist())
    return Step(
        RowSpans(starts, tuple(lengths)),
        torch.cat(new_q),
        torch.cat(new_k),
        torch.cat(new_v),
        torch.cat(slots),
        (torch.cat(past[0]), torch.cat(past[1]), torch.cat(past[2])),
        KVLayer(*planes),
        table_RB,
        torch.cat(expected),
    )


def empty_plane(num_blocks: int, block_size: int, kv_heads: int, head_size: int, dtype: torch.dtype) -> Tensor:
    """Whatever is read of it, a number or a scale, is none: in every type all ones is no number."""
    shape = (num_blocks, block_size, kv_heads, stored_width(head_size, dtype) * dtype.itemsize)
    return torch.full(shape, 0xFF, dtype=torch.uint8).view(dtype)


def dense(q: Tensor, k: Tensor, v: Tensor, window: int | None, soft_cap: float | None) -> Tensor:
    """Query j is the token ``len(k) - len(q) + j``; in float64, heads repeated, one matrix of scores."""
    per_head = q.shape[1] // k.shape[1]
    k, v = (x.double().repeat_interleave(per_head, dim=1) for x in (k, v))
    scores = torch.einsum("qhd,khd->hqk", q.double(), k) / math.sqrt(q.shape[-1])
    if soft_cap is not None:
        scores = soft_cap * torch.tanh(scores / soft_cap)
    at = torch.arange(len(k) - len(q), len(k))[:, None] - torch.arange(len(k))
    is_seen = (at >= 0) if window is None else (at >= 0) & (at < window)
    return torch.einsum("hqk,khd->qhd", scores.masked_fill(~is_seen, -torch.inf).softmax(-1), v)


def run(backend: AttentionBackend, step: Step, *, window: int | None = None, soft_cap: float | None = None) -> Tensor:
    keys, values, slots = step.past
    backend.write(keys, values, step.kv, slots)
    backend.write(step.k_TGD, step.v_TGD, step.kv, step.slots_T)
    plan = backend.plan(step.rows, step.table_RB, step.kv, window=window)
    scale = step.q_THD.shape[-1] ** -0.5
    found = plan.attend(step.q_THD, step.kv, scale=scale, soft_cap=soft_cap)
    again = plan.attend(step.q_THD, step.kv, scale=scale, soft_cap=soft_cap)
    assert torch.equal(found.nan_to_num(), again.nan_to_num()), "a plan runs once for each layer"
    return found


MIXES = {
    "one-decode": ([37], [1]),
    "first-token": ([1], [1]),
    "decodes": ([1, 2, 7, 8, 9, 63, 64, 65, 200], [1] * 9),
    "whole-prompt": ([50], [50]),
    "chunk": ([50], [13]),
    "mix": ([40, 9, 33, 100, 16, 70], [1, 9, 2, 40, 1, 1]),
    "longer-than-a-tile": ([700, 1500], [600, 300]),
    "long-decodes": ([1500, 3, 1300, 700], [1, 1, 1, 1]),
}


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("window", [None, 1, 5, 24])
@pytest.mark.parametrize("soft_cap", [None, 2.0])
def test_any_mix_of_rows_equals_the_dense_computation(
    backend: AttentionBackend, mix: str, window: int | None, soft_cap: float | None
) -> None:
    step = make_step(*MIXES[mix], window=window, soft_cap=soft_cap)
    found = run(backend, step, window=window, soft_cap=soft_cap)
    assert float((found - step.expected_THD).abs().max()) < 1e-5


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 1), (6, 2), (1, 1)])
@pytest.mark.parametrize("block_size", [1, 4, 16, 32])
def test_any_heads_and_blocks_equal_the_dense_computation(
    backend: AttentionBackend, heads: int, kv_heads: int, block_size: int
) -> None:
    step = make_step(*MIXES["mix"], heads=heads, kv_heads=kv_heads, block_size=block_size, head_size=24)
    assert float((run(backend, step) - step.expected_THD).abs().max()) < 1e-5


@pytest.mark.parametrize("window", [64, 600])
def test_a_long_sequence_sees_no_further_than_its_window(backend: AttentionBackend, window: int) -> None:
    step = make_step([2100, 1900], [700, 1], window=window, block_size=16)
    assert float((run(backend, step, window=window) - step.expected_THD).abs().max()) < 1e-5


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 3e-2), (torch.float16, 4e-3)])
@pytest.mark.parametrize("soft_cap", [None, 2.0])
def test_half_precision_is_near(
    backend: AttentionBackend, dtype: torch.dtype, tolerance: float, soft_cap: float | None
) -> None:
    step = make_step(*MIXES["mix"], dtype=dtype, soft_cap=soft_cap)
    found = run(backend, step, soft_cap=soft_cap)
    assert found.dtype == dtype
    assert float((found - step.expected_THD).abs().max()) < tolerance


@pytest.mark.parametrize("kv_dtype", EIGHT_BITS, ids=str)
@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize(("window", "soft_cap"), [(None, None), (5, None), (24, 2.0)])
def test_keys_in_eight_bits_are_what_they_were_rounded_to(
    backend: AttentionBackend, kv_dtype: torch.dtype, mix: str, window: int | None, soft_cap: float | None
) -> None:
    step = make_step(*MIXES[mix], window=window, soft_cap=soft_cap, block_size=16, kv_dtype=kv_dtype)
    found = run(backend, step, window=window, soft_cap=soft_cap)
    assert float((found - step.expected_THD).abs().max()) < 1e-5


@pytest.mark.parametrize("kv_dtype", EIGHT_BITS, ids=str)
@pytest.mark.parametrize(("heads", "kv_heads", "head_size"), [(4, 4, 64), (4, 1, 24), (6, 2, 128), (1, 1, 7)])
@pytest.mark.parametrize("block_size", [1, 4, 16, 32])
def test_any_heads_and_blocks_in_eight_bits_equal_the_dense_computation(
    backend: AttentionBackend, kv_dtype: torch.dtype, heads: int, kv_heads: int, head_size: int, block_size: int
) -> None:
    shape = {"heads": heads, "kv_heads": kv_heads, "head_size": head_size, "block_size": block_size}
    step = make_step(*MIXES["mix"], **shape, kv_dtype=kv_dtype)
    assert float((run(backend, step) - step.expected_THD).abs().max()) < 1e-5


@pytest.mark.parametrize("kv_dtype", EIGHT_BITS, ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 3e-2), (torch.float16, 4e-3)])
def test_queries_of_half_precision_over_keys_in_eight_bits_are_near(
    backend: AttentionBackend, kv_dtype: torch.dtype, dtype: torch.dtype, tolerance: float
) -> None:
    """As near as over keys of their own type: what eight bits lose is in what is expected."""
    step = make_step(*MIXES["mix"], dtype=dtype, kv_dtype=kv_dtype, block_size=16)
    found = run(backend, step)
    assert found.dtype == dtype
    assert float((found - step.expected_THD).abs().max()) < tolerance


@pytest.mark.parametrize("kv_dtype", [None, *EIGHT_BITS], ids=str)
@pytest.mark.parametrize("window", [None, 24])
def test_a_row_that_is_all_nan_harms_no_other(
    backend: AttentionBackend, window: int | None, kv_dtype: torch.dtype | None
) -> None:
    step = make_step(*MIXES["mix"], window=window, block_size=16, kv_dtype=kv_dtype)
    poisoned = slice(step.rows.starts[3], step.rows.starts[4])
    step.q_THD[poisoned] = step.k_TGD[poisoned] = step.v_TGD[poisoned] = torch.nan
    found = run(backend, step, window=window)
    assert found[poisoned].isnan().all()
    found[poisoned] = step.expected_THD[poisoned] = 0.0
    assert float((found - step.expected_THD).abs().max()) < 1e-5


def test_a_row_gets_nearly_the_same_numbers_in_any_company(backend: AttentionBackend) -> None:
    lengths, queries = MIXES["mix"]
    together = make_step(lengths, queries)
    found = run(backend, together)
    for row, (length, count) in enumerate(zip(lengths, queries, strict=True)):
        span = slice(together.rows.starts[row], together.rows.starts[row + 1])
        plan = backend.plan(RowSpans((0, count), (length,)), together.table_RB[row : row + 1], together.kv, window=None)
        alone = plan.attend(together.q_THD[span], together.kv, scale=0.25, soft_cap=None)
        assert float((found[span] - alone).abs().max()) < 1e-6


def test_many_long_rows_of_one_query_each_equal_the_dense_computation(backend: AttentionBackend) -> None:
    step = make_step([900 + row for row in range(40)], [1] * 40, head_size=8, block_size=16)
    assert float((run(backend, step) - step.expected_THD).abs().max()) < 1e-5


def test_platforms_prefer_backends_that_exist() -> None:
    for name in plugins.names("platforms"):
        assert set(plugins.load("platforms", name).ATTENTION_BACKENDS) <= set(plugins.names("attention"))
