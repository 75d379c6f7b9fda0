from __future__ import annotations

from pathlib import Path

import pytest
import torch
from msgspec.structs import replace

from quire.bundled import folio_path
from quire.config.card import read_card
from quire.config.decided import KVLayout, WorkerConfig
from quire.config.fit import weight_bytes as planned_bytes
from quire.layers.decoder import CausalModel
from quire.layers.linear import Linear, Quantized
from quire.worker import load as loading
from quire.worker.load import load_model
from quire.worker.quantise import Quantiser, num_parameters, weight_bytes

CARD = read_card(folio_path())


def config(quantization: str | None = "int4", **changes: object) -> WorkerConfig:
    made = WorkerConfig(
        model_path=str(folio_path()),
        device="cpu",
        dtype="bfloat16",
        load_format="safetensors",
        layout=KVLayout(block_size=8, groups=(), layers_per_block=0, bytes_per_block=0),
        num_blocks=0,
        max_num_seqs=1,
        max_num_batched_tokens=1,
        max_model_len=64,
        quantization=quantization,
    )
    return replace(made, **changes)


def weights(model: CausalModel) -> list[torch.Tensor]:
    assert model.lm_head.table is not None
    found = list(model.lm_head.table.packed.tensors)
    for module in model.modules():
        if isinstance(module, Linear):
            assert isinstance(module.method, Quantized)
            found += module.method.packed.tensors
    return found


def test_every_projection_and_the_head_are_quantised_and_norms_are_not() -> None:
    model = load_model(CARD, config())
    assert all("norm" in name for name, _ in model.named_parameters())
    assert model.model.embed_tokens.table is model.lm_head.table, "a tied embedding shares the head's"
    assert len(weights(model)) > 4 * CARD.num_layers


@pytest.mark.parametrize("quantization", ["int8", "w8a8", "int4", "int4_sym"])
def test_parameters_are_counted_as_the_dense_model_has_them_and_bytes_as_they_are(quantization: str) -> None:
    dense, small = load_model(CARD, config(None)), load_model(CARD, config(quantization))
    assert num_parameters(small) == num_parameters(dense) == CARD.num_parameters
    scheme = loading.quantiser_for(dense, config(quantization))
    assert scheme is not None
    assert weight_bytes(small) <= planned_bytes(CARD, "bfloat16", scheme.scheme) < weight_bytes(small) * 1.02


def test_dummy_weights_are_quantised_too_and_are_those_of_the_dense_model() -> None:
    dense = load_model(CARD, config(None, load_format="dummy", seed=3))
    model = load_model(CARD, config("int8", load_format="dummy", seed=3))
    assert model.lm_head.table is not None
    found = model.lm_head.table.rows(torch.arange(50))
    assert float((found - dense.model.embed_tokens.weight[:50]).abs().max()) < 0.02 * 4 / 127


def test_the_second_start_reads_what_the_first_one_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = config(packed_cache=str(tmp_path), packed_cache_bytes=2**30)
    first = load_model(CARD, cached)

    def never(*_: object) -> None:
        raise AssertionError("it was quantised again")

    monkeypatch.setattr(Quantiser, "take", never)
    second = load_model(CARD, cached)
    assert all(map(torch.equal, weights(first), weights(second)))
    norms = dict(first.named_parameters())
    assert all(torch.equal(norms[name], parameter) for name, parameter in second.named_parameters())
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(kept.read_bytes()[:1000])
    with pytest.raises(AssertionError, match="again"):
        load_model(CARD, cached)


def test_other_quantisations_are_kept_beside(tmp_path: Path) -> None:
    for quantization in ("int8", "int4", "int8"):
        load_model(CARD, config(quantization, packed_cache=str(tmp_path), packed_cache_bytes=2**30))
    assert len(list(tmp_path.iterdir())) == 2
