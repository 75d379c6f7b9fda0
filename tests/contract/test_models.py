"""Every family on the shelf, against the reference implementation and against itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from quire import plugins
from quire.config.card import Card
from quire.config.decided import KVType
from quire.errors import ConfigError
from quire.layers.batch import AttentionBackend
from quire.layers.decoder import CausalModel
from quire.worker.load import load_model
from tests.contract import checkpoints
from tests.contract.checkpoints import Reference, Variant
from tests.contract.harness import Paged

LENGTH = 160
"""Of every sequence that is compared with the reference. It is the served context too, which settles the scalings
that depend on it."""
PROMPT = LENGTH - 64
TOLERANCE = 1e-4

_LONGROPE: dict[str, object] = {
    "rope_scaling": {
        "type": "longrope",
        "short_factor": [1.0, 1.1, 1.2, 1.3, 1.5, 1.8, 2.0, 2.5],
        "long_factor": [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0],
    }
}

VARIANTS = [
    Variant("llama", "tied", {"tie_word_embeddings": True}),
    Variant("llama", "biased", {"attention_bias": True, "mlp_bias": True}),
    Variant("llama", "wide-heads", {"head_dim": 32}),
    Variant("llama", "one-kv-head", {"num_key_value_heads": 1}),
    Variant("llama", "no-sharing", {"num_key_value_heads": 4}),
    Variant("llama", "linear", {"rope_scaling": {"type": "linear", "factor": 4.0}}, keeps_own_config=True),
    Variant(
        "llama", "dynamic", {"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}, "max_position_embeddings": 64}
    ),
    Variant(
        "llama",
        "llama3",
        {
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            }
        },
        keeps_own_config=True,
    ),
    Variant(
        "llama", "yarn", {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}}
    ),
    Variant(
        "llama",
        "yarn-tuned",
        {
            "rope_scaling": {
                "rope_type": "yarn",
                "factor": 8.0,
                "original_max_position_embeddings": 64,
                "beta_fast": 16.0,
                "beta_slow": 2.0,
                "truncate": False,
                "mscale": 0.8,
                "mscale_all_dim": 0.5,
            }
        },
    ),
    Variant("mistral", "no-window", {"sliding_window": None}),
    Variant("mistral", "own-head-size", {"head_dim": 32, "sliding_window": None}, keeps_own_config=True),
    Variant("qwen2", "windowed", {"use_sliding_window": True, "sliding_window": 24, "max_window_layers": 2}),
    Variant("qwen2", "own-config", {"tie_word_embeddings": False}, keeps_own_config=True),
    Variant("qwen3", "biased", {"attention_bias": True, "tie_word_embeddings": True}),
    Variant(
        "qwen3",
        "yarn",
        {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}},
        True,
    ),
    Variant("phi3", "partial-rotary", {"partial_rotary_factor": 0.5}),
    Variant("phi3", "windowed", {"sliding_window": 24}),
    Variant("phi3", "long", {**_LONGROPE, "original_max_position_embeddings": 64}, keeps_own_config=True),
    Variant("phi3", "short", {**_LONGROPE, "original_max_position_embeddings": 256}),
    Variant(
        "gemma2", "uncapped", {"attn_logit_softcapping": None, "final_logit_softcapping": None, "attention_bias": True}
    ),
    Variant("gemma2", "own-config", keeps_own_config=True),
    Variant("gemma3_text", "own-config", keeps_own_config=True),
    Variant("gemma3_text", "nested", nested=True),
    Variant(
        "gemma3_text",
        "scaled",
        {"rope_scaling": {"rope_type": "linear", "factor": 8.0}, "final_logit_softcapping": 3.0},
        keeps_own_config=True,
    ),
    Variant(
        "gemma3_text",
        "typed-layers",
        {"layer_types": ["full_attention", "sliding_attention"] * 3, "sliding_window_pattern": None},
    ),
]


def _all_variants() -> list[Variant]:
    return [Variant(family) for family in plugins.names("models")] + VARIANTS


@dataclass
class Case:
    """A checkpoint, loaded by us and by the reference, and what the reference says about one random sequence."""

    path: Path
    card: Card
    model: CausalModel
    reference: Reference
    tokens: list[int]
    expected: Tensor
    attention: AttentionBackend | None = None

    def paged(self, model: CausalModel | None = None, kv_type: KVType | None = None) -> Paged:
        assert self.attention is not None
        return Paged(model or self.model, self.card, kv_type=kv_type, backend=self.attention)


@pytest.fixture(scope="session", params=_all_variants(), ids=str)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    variant: Variant = request.param
    path: Path = tmp_path_factory.mktemp(str(variant))
    reference = checkpoints.make(variant, plugins.load("models", variant.family).tiny_config(), path)
    card, model = checkpoints.load(path, LENGTH)
    tokens = torch.randint(card.vocab_size, (LENGTH,), generator=torch.Generator().manual_seed(3)).tolist()
    return Case(path, card, model, reference, tokens, reference.logits(tokens))


@pytest.fixture(params=plugins.names("attention"), autouse=True)
def attention(request: pytest.FixtureRequest, case: Case) -> None:
    """Every test runs with every attention backend."""
    try:
        case.attention = plugins.load("attention", request.param).Backend()
    except ConfigError as error:
        pytest.skip(str(error))


def _assert_close(found: Tensor, expected: Tensor) -> None:
    assert float((found - expected).abs().max()) < TOLERANCE


def test_the_sequence_exceeds_every_window_and_logits_are_not_flat(case: Case) -> None:
    assert all(window is None or window * 3 < PROMPT for window in case.card.layer_windows)
    assert float(case.expected.std()) > 0.3


def test_prefill_gives_the_reference_logits(case: Case) -> None:
    paged = case.paged()
    _assert_close(paged.prefill(paged.new(case.tokens)), case.expected)


def test_decoding_gives_the_reference_logits(case: Case) -> None:
    paged = case.paged()
    sequence = paged.new(case.tokens)
    paged.run([(sequence, PROMPT)])
    _assert_close(paged.prefill(sequence, chunk=1), case.expected[PROMPT:])


@pytest.mark.parametrize("chunk", [7, 16, 33])
def test_a_prompt_in_chunks_is_the_prompt_as_a_whole(case: Case, chunk: int) -> None:
    paged = case.paged()
    _assert_close(paged.prefill(paged.new(case.tokens), chunk), case.expected)


def test_greedy_tokens_are_the_reference_ones(case: Case) -> None:
    paged = case.paged()
    sequence = paged.new(case.tokens[:PROMPT])
    paged.greedy([sequence], LENGTH - PROMPT)
    judged = case.reference.logits(sequence.tokens)
    assert sequence.tokens[PROMPT:] == judged[PROMPT - 1 : -1].argmax(dim=-1).tolist()


def test_a_row_of_a_mixed_batch_is_the_row_alone(case: Case) -> None:
    lengths = [1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 64, 65, 80, 96]
    together = case.paged()
    batch = [together.new(case.tokens[-length:]) for length in lengths]
    picked = together.greedy(batch, 6)
    for sequence, logits, length in zip(batch, picked, lengths, strict=True):
        single = case.paged()
        alone = single.new(case.tokens[-length:])
        _assert_close(logits, single.greedy([alone], 6)[0])
        assert sequence.tokens == alone.tokens


def test_prefills_and_decodes_share_a_step(case: Case) -> None:
    paged = case.paged()
    running, starting, midway = (paged.new(case.tokens) for _ in range(3))
    paged.run([(running, 100), (midway, 40)])
    decoded, begun, continued = paged.run([(running, 1), (starting, 30), (midway, 21)])
    _assert_close(decoded, case.expected[100:101])
    _assert_close(begun, case.expected[:30])
    _assert_close(continued, case.expected[40:61])


def test_tokens_that_are_wanted_alone_have_the_logits_they_have_among_all(case: Case) -> None:
    paged = case.paged()
    running, starting = (paged.new(case.tokens) for _ in range(2))
    paged.run([(running, 20)])
    wanted = [0, 5, 6, 12, 42]
    found = paged.run_wanted([(running, 13), (starting, 30)], wanted)
    expected = torch.cat((case.expected[20:33], case.expected[:30]))
    _assert_close(found, expected[wanted])


def test_half_precision_is_near(case: Case) -> None:
    model = load_model(case.card, checkpoints.worker_config(case.path, LENGTH, dtype="bfloat16"))
    paged = case.paged(model)
    sequence = paged.new(case.tokens)
    paged.run([(sequence, PROMPT)])
    found = paged.prefill(sequence, chunk=16)
    assert found.dtype == torch.float32
    spread = float((found - case.expected[PROMPT:]).std() / case.expected.std())
    assert spread < 0.1, "bfloat16 has 8 bits; an error of order would be as large as the logits"


@pytest.mark.parametrize(("kv_type", "tolerance"), [("fp8_e4m3", 0.25), ("int8_per_token_head", 0.05)])
def test_kv_in_eight_bits_is_near(case: Case, kv_type: KVType, tolerance: float) -> None:
    """fp8 keeps four bits of each number, int8 seven of a head's greatest: errors of one part in 30 and in 200, which
    the layers of a random model pass on undamped. One of order, as large as the logits, is far above both."""
    model = load_model(case.card, checkpoints.worker_config(case.path, LENGTH, dtype="bfloat16"))
    logits = []
    for one in (None, kv_type):
        paged = case.paged(model, one)
        sequence = paged.new(case.tokens)
        paged.run([(sequence, PROMPT)])
        logits.append(paged.prefill(sequence, chunk=16))
    assert 0 < float((logits[1] - logits[0]).std() / logits[0].std()) < tolerance


def test_a_cached_prefix_is_as_good_as_a_fresh_one(case: Case) -> None:
    paged = case.paged()
    first = paged.new(case.tokens[:40])
    paged.prefill(first)
    second = paged.new(case.tokens, prefix_of=first, num_shared=40)
    assert second.computed == 40
    _assert_close(paged.prefill(second), case.expected[40:])
