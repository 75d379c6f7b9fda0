"""Every quantisation on the shelf, over every family of models: against the model of the numbers that its codes stand
for, and against itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from quire import plugins
from quire.config.card import Card
from quire.config.decided import LinearBackend
from quire.config.quantization import Scheme
from quire.errors import ConfigError
from quire.layers.decoder import CausalModel
from quire.ops.op import bind_quantized, bind_rounding
from quire.ops.quantized import dequantised
from quire.platforms.cpu import linear_backends
from tests.contract import checkpoints
from tests.contract.checkpoints import Variant
from tests.contract.harness import Paged

LENGTH = 96
PROMPT = 64
TOLERANCE = 2e-4

VARIANTS = [
    *(Variant(family) for family in plugins.names("models")),
    Variant("llama", "tied", {"tie_word_embeddings": True}),
    Variant("llama", "biased", {"attention_bias": True, "mlp_bias": True}),
]


@dataclass
class Case:
    """A checkpoint quantised as one scheme says, and logits of the model of the numbers that its codes stand for."""

    backend: LinearBackend
    card: Card
    model: CausalModel
    scheme: Scheme
    tokens: list[int]
    expected: Tensor
    unquantised: Tensor

    def paged(self) -> Paged:
        attention = "torch_sdpa" if self.backend == "torch" else "cpu"
        return Paged(self.model, self.card, backend=plugins.load("attention", attention).Backend())


@cache
def backends() -> list[LinearBackend]:
    found: list[LinearBackend] = []
    for backend in linear_backends():
        try:
            bind_quantized(backend)
        except ConfigError:
            continue
        found.append(backend)
    return found


@pytest.fixture(scope="module", params=VARIANTS, ids=str)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    variant: Variant = request.param
    path: Path = tmp_path_factory.mktemp(str(variant))
    checkpoints.make(variant, plugins.load("models", variant.family).tiny_config(), path)
    return path


@pytest.fixture(scope="module", params=plugins.names("quant"))
def quantization(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=backends())
def case(request: pytest.FixtureRequest, checkpoint: Path, quantization: str) -> Case:
    scheme: Scheme = plugins.load("quant", quantization).SCHEME
    card, model = checkpoints.load(checkpoint, LENGTH, request.param, quantization)
    tokens = torch.randint(card.vocab_size, (LENGTH,), generator=torch.Generator().manual_seed(3)).tolist()
    _, dense = checkpoints.load(undone(checkpoint, quantization, request.param), LENGTH, "torch")
    _, original = checkpoints.load(checkpoint, LENGTH, "torch")
    logits = [one.prefill(one.new(tokens)) for one in (Paged(dense, card), Paged(original, card))]
    return Case(request.param, card, model, scheme, tokens, *logits)


def undone(path: Path, quantization: str, backend: LinearBackend) -> Path:
    """The checkpoint with each weight replaced by what its codes stand for."""
    to = path / f"undone-{quantization}-{backend}"
    if to.exists():
        return to
    scheme: Scheme = plugins.load("quant", quantization).SCHEME
    tensors = load_file(path / "model.safetensors")
    find_codes = bind_rounding(backend)
    is_tied = "lm_head.weight" not in tensors
    for name, weight in tensors.items():
        is_head = name == "lm_head.weight" or (is_tied and "embed_tokens" in name)
        if is_head or name.endswith("_proj.weight"):
            form = scheme.head if is_head else scheme.projections
            tensors[name] = dequantised(find_codes(weight.float(), form, scheme.clippings), form)
    to.mkdir()
    save_file(tensors, to / "model.safetensors")
    (to / "config.json").write_text((path / "config.json").read_text())
    return to


def test_logits_are_those_of_the_numbers_that_the_codes_stand_for(case: Case) -> None:
    paged = case.paged()
    found = paged.prefill(paged.new(case.tokens))
    if case.scheme.projections.int8_inputs:
        assert 0 < _spread(found, case.expected) < 0.1, "inputs of 8 bits"
    else:
        assert float((found - case.expected).abs().max()) < TOLERANCE


def test_logits_are_near_those_of_the_weights_themselves(case: Case) -> None:
    paged = case.paged()
    found = paged.prefill(paged.new(case.tokens))
    assert 0 < _spread(found, case.unquantised) < (0.1 if case.scheme.projections.bits == 8 else 0.7)


@pytest.mark.parametrize("chunk", [1, 33])
def test_a_prompt_in_chunks_is_the_prompt_as_a_whole(case: Case, chunk: int) -> None:
    whole, parts = case.paged(), case.paged()
    _assert_same(parts.prefill(parts.new(case.tokens), chunk), whole.prefill(whole.new(case.tokens)), case)


def test_a_cached_prefix_is_as_good_as_a_fresh_one(case: Case) -> None:
    paged, fresh = case.paged(), case.paged()
    first = paged.new(case.tokens[:40])
    paged.prefill(first)
    second = paged.new(case.tokens, prefix_of=first, num_shared=40)
    _assert_same(paged.prefill(second), fresh.prefill(fresh.new(case.tokens))[40:], case)


def test_a_row_of_a_batch_is_the_row_alone(case: Case) -> None:
    lengths = [1, 2, 9, 17, 33, 64]
    together = case.paged()
    picked = together.greedy([together.new(case.tokens[-length:]) for length in lengths], 4)
    for logits, length in zip(picked, lengths, strict=True):
        single = case.paged()
        _assert_same(logits, single.greedy([single.new(case.tokens[-length:])], 4)[0], case)


def _assert_same(found: Tensor, expected: Tensor, case: Case) -> None:
    """To the last bit by Quire's kernels. The reference keeps no order of sums, and where inputs are rounded too, a
    last bit may make another whole number of one."""
    if case.backend == "native":
        assert torch.equal(found, expected)
    elif case.scheme.projections.int8_inputs:
        assert _spread(found, expected) < 0.1
    else:
        assert float((found - expected).abs().max()) < TOLERANCE


def _spread(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).std() / expected.std())
