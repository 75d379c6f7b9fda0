from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from quire.config.card import Card, read_card
from quire.config.decided import DType
from quire.config.fit import OVERHEAD_BYTES, Demand, Kernels, Room, activation_bytes, fit, weight_bytes
from quire.config.kv_layout import blocks_for, lay_out
from quire.config.quantization import Form, Scheme
from quire.config.units import in_bytes
from quire.errors import DoesNotFit
from tests.unit.config.checkpoints import write_checkpoint

GIB = 2**30


@pytest.fixture
def card(tmp_path: Path) -> Card:
    """Llama 3.2 1B: 32 KiB of KV a token in bfloat16."""
    return read_card(
        write_checkpoint(
            tmp_path,
            hidden_size=2048,
            intermediate_size=8192,
            num_hidden_layers=16,
            num_attention_heads=32,
            num_key_value_heads=8,
            vocab_size=128256,
            max_position_embeddings=131072,
            tie_word_embeddings=True,
        )
    )


def demand(
    card: Card, length: int = 8192, *, is_exact: bool = False, dtype: DType = "bfloat16", seqs: int = 4
) -> Demand:
    size = 2 * card.num_kv_heads * card.head_size * (4 if dtype == "float32" else 2)
    layout = lay_out(card.layer_windows, block_size=16, bytes_per_token_layer=size)
    return Demand(card, dtype, layout, seqs, 2048, length, is_exact)


def with_kernels(asked: Demand, kernels: Kernels) -> Demand:
    return replace(asked, kernels=kernels)


def test_weights_are_parameters_in_the_type_they_are_used_in(card: Card) -> None:
    assert card.num_parameters == pytest.approx(1_235_814_400, rel=1e-3)
    assert weight_bytes(card, "bfloat16") * 2 == weight_bytes(card, "float32")


def test_quantised_weights_are_counted_with_scales_and_zero_points(card: Card) -> None:
    scheme = Scheme(projections=Form(4, 128, zero_points=True), head=Form(8))
    head, norms = 128256 * 2048, (4 * 16 + 1) * 2048
    projections = card.num_parameters - head - norms
    # 4 bits, and 4 bytes of scale and 1 of zero point to 128 weights; the head in 8 bits with a scale to 2048.
    expected = projections / 2 + projections / 128 * 5 + head + 128256 * 4 + norms * 2
    assert weight_bytes(card, "bfloat16", scheme) == pytest.approx(expected, rel=1e-4)


def test_quantised_products_have_scratch_of_their_own(card: Card) -> None:
    scheme = Scheme(projections=Form(8), head=Form(8))
    plain = activation_bytes(demand(card), 8192)
    native = activation_bytes(with_kernels(demand(card), Kernels(linear_backend="native", scheme=scheme)), 8192)
    reference = activation_bytes(with_kernels(demand(card), Kernels(scheme=scheme)), 8192)
    assert 0 < native - plain < 8 * 2**20 < 2 * 4 * 128256 * 2048 < reference - plain


def test_native_attention_needs_little_whatever_the_context(card: Card) -> None:
    def scratch(length: int, threads: int) -> int:
        wide = replace(demand(card), max_num_batched_tokens=1, max_num_seqs=1)
        native = with_kernels(wide, Kernels(attention_backend="cpu", num_threads=threads))
        return activation_bytes(native, length)

    assert scratch(131072, 1) == scratch(128, 1)
    assert scratch(131072, 8) - scratch(128, 8) < 256 * 2**20
    oracle = replace(demand(card), max_num_batched_tokens=1, max_num_seqs=1)
    assert scratch(131072, 2) < activation_bytes(oracle, 131072) / 4


def test_the_pool_never_exceeds_what_the_sequences_can_use(card: Card) -> None:
    plan = fit(demand(card, 1024), Room(64 * GIB))
    assert plan.num_blocks == 4 * 1024 // 16 and "4 sequences of 1024 tokens" in plan.limited_by
    assert plan.num_full_sequences == 4.0 and plan.kv_bytes == plan.num_blocks * 16 * 32 * 1024


def test_by_default_kv_takes_no_more_than_the_modest_cap(card: Card) -> None:
    plan = fit(demand(card, 65536, seqs=64), Room(64 * GIB))
    assert plan.kv_bytes == 4 * GIB and "default" in plan.limited_by


def test_one_whole_context_may_exceed_the_modest_cap(card: Card) -> None:
    plan = fit(demand(replace(card, max_model_len=262144), 262144), Room(64 * GIB))
    assert plan.max_model_len == 262144 and plan.num_full_sequences == 1.0 and plan.kv_bytes == 8 * GIB


def test_a_fraction_that_was_asked_for_lifts_the_cap(card: Card) -> None:
    plan = fit(demand(card, 65536, seqs=64), Room(64 * GIB, fraction=0.5))
    assert plan.limited_by == "memory"
    assert plan.total_bytes <= 32 * GIB < plan.total_bytes + plan.bytes_per_block


def test_exact_bytes_and_exact_blocks_are_kept(card: Card) -> None:
    by_bytes = fit(demand(card, 1024), Room(64 * GIB, kv_bytes=GIB))
    assert by_bytes.num_blocks == 2048 and by_bytes.limited_by == "--kv-cache-memory-bytes"
    by_blocks = fit(demand(card, 1024), Room(64 * GIB, num_blocks=70))
    assert by_blocks.num_blocks == 70 and by_blocks.limited_by == "--num-gpu-blocks-override"


def test_a_context_nobody_insists_on_shrinks_to_what_fits(card: Card) -> None:
    plan = fit(demand(card, 131072), Room(64 * GIB, num_blocks=100))
    assert plan.max_model_len == plan.num_tokens == 1600


def test_a_context_that_was_asked_for_is_refused_with_the_numbers_and_the_way_out(card: Card) -> None:
    with pytest.raises(DoesNotFit) as caught:
        fit(demand(card, 131072, is_exact=True), Room(5 * GIB, "the cgroup's limit"))
    message = str(caught.value)
    for part in (
        "131072 tokens",
        "weights 2.30 GiB",
        "process 350.00 MiB",
        "KV 4.00 GiB",
        "5.00 GiB (the cgroup's limit)",
    ):
        assert part in message
    largest = int(message.rsplit("--max-model-len ", 1)[1].split(",")[0])
    assert fit(demand(card, largest, is_exact=True), Room(5 * GIB)).max_model_len == largest
    with pytest.raises(DoesNotFit):
        fit(demand(card, largest + 16, is_exact=True), Room(5 * GIB))


@pytest.mark.parametrize("room", [Room(2 * GIB), Room(0), Room(GIB, kv_bytes=GIB), Room(64 * GIB, kv_bytes=1)])
def test_when_nothing_fits_it_says_so(card: Card, room: Room) -> None:
    with pytest.raises(DoesNotFit, match="No context fits"):
        fit(demand(card), room)


def test_a_small_fraction_is_named_when_nothing_fits(card: Card) -> None:
    with pytest.raises(DoesNotFit, match=r"raise --gpu-memory-utilization \(0\.02\)"):
        fit(demand(card), Room(64 * GIB, fraction=0.02))


def test_exact_kv_that_does_not_fit_the_memory_is_refused_even_for_a_short_context(card: Card) -> None:
    with pytest.raises(DoesNotFit, match=r"16\.00 GiB were asked for"):
        fit(demand(card, 128), Room(8 * GIB, kv_bytes=16 * GIB))


@pytest.mark.parametrize("available", [3, 4, 6, 12, 48])
@pytest.mark.parametrize("length", [1, 100, 4096, 131072])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_plan_always_stays_in_its_budget_and_holds_its_context(
    card: Card, available: int, length: int, dtype: DType
) -> None:
    asked = demand(card, length, dtype=dtype)
    try:
        plan = fit(asked, Room(available * GIB))
    except DoesNotFit:
        assert weight_bytes(card, dtype) + OVERHEAD_BYTES + activation_bytes(asked, 1) > 0.8 * available * GIB
        return
    assert plan.total_bytes <= plan.budget_bytes <= plan.available_bytes
    assert plan.num_blocks >= blocks_for(asked.layout, plan.max_model_len) and plan.num_tokens == plan.max_model_len


def test_windows_make_long_contexts_cheap(card: Card) -> None:
    sliding = replace(card, layer_windows=(1024,) * 16)
    assert fit(demand(sliding), Room(64 * GIB)).kv_bytes < fit(demand(card), Room(64 * GIB)).kv_bytes / 4


def test_a_soft_cap_needs_more_scratch(card: Card) -> None:
    capped = replace(card, config={**card.config, "attn_logit_softcapping": 50.0})
    assert activation_bytes(demand(capped), 8192) > activation_bytes(demand(card), 8192)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (2048, "2.00 KiB"), (3 * 2**29, "1.50 GiB"), (2**41, "2.00 TiB"), (5 * 2**20, "5.00 MiB")],
)
def test_bytes_are_written_with_their_unit(count: int, text: str) -> None:
    assert in_bytes(count) == text
