"""Quantising a model while it is loaded: which weights, and one after the other from their numbers to their place.

At most one weight is in memory as codes and as packed ones at a time, and never a whole one in float32.

Not here: reading numbers (load.py), codes (ops/rounding.py), products (ops/quantized.py).
Door: Quantiser, quantiser_for, num_parameters, weight_bytes.
"""

# Shapes: N columns (outputs), K depth (inputs), G groups of it.

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from quire import plugins
from quire.config.decided import WorkerConfig
from quire.config.quantization import Form, Scheme
from quire.layers.decoder import CausalModel
from quire.layers.embedding import QuantizedTable
from quire.layers.linear import Linear, Quantized
from quire.ops.op import bind_quantized, bind_rounding
from quire.ops.quantized import Codes, Packed, QuantizedGemm
from quire.ops.rounding import FindCodes
from quire.worker.memory import empty

_NUMBERS_AT_ONCE = 1 << 18
"""Weights that are rounded together: what that needs stays in a core's own cache."""


@dataclass(frozen=True, slots=True)
class _Target:
    """A weight that is to be quantised, and what puts the packed one into its place."""

    columns: int
    depth: int
    form: Form
    install: Callable[[Packed], None]


class Quantiser:
    """Takes the weights of a model that a scheme names; all others stay parameters."""

    def __init__(
        self, model: CausalModel, scheme: Scheme, gemm: QuantizedGemm, find_codes: FindCodes, dtype: torch.dtype
    ) -> None:
        """The weights that will be taken are parameters of the model no longer."""
        self.scheme, self.gemm, self.find_codes = scheme, gemm, find_codes
        self._targets = dict(_targets(model, scheme, gemm, dtype))

    @property
    def num_bytes(self) -> int:
        """Of all weights that it takes, packed; about, since a kernel may pad less."""
        return sum(target.form.num_bytes(target.columns, target.depth) for target in self._targets.values())

    @property
    def names(self) -> tuple[str, ...]:
        """Of the parameters that it takes."""
        return tuple(self._targets)

    def take(self, name: str, blocks: Iterable[Tensor]) -> Packed:
        """Quantise a weight whose rows come in blocks, in any type of floats, and put it into its place."""
        target = self._targets[name]
        packed = _settled(self.gemm.pack(self._codes(target, blocks), target.form))
        target.install(packed)
        return packed

    def install(self, name: str, packed: Packed) -> None:
        """Put a weight that was packed before into its place."""
        self._targets[name].install(packed)

    def _codes(self, target: _Target, blocks: Iterable[Tensor]) -> Codes:
        form, shape = target.form, (target.columns, target.depth)
        groups = form.num_groups(target.depth)
        codes = Codes(
            torch.empty(shape, dtype=torch.int8 if form.bits == 8 else torch.uint8),
            torch.empty(target.columns, groups),
            torch.empty(target.columns, groups, dtype=torch.uint8) if form.zero_points else None,
        )
        start = 0
        for block in _small(blocks, target.depth):
            found = self.find_codes(block.float(), form, self.scheme.clippings)
            end = start + block.shape[0]
            codes.codes_NK[start:end] = found.codes_NK
            codes.scales_NG[start:end] = found.scales_NG
            if codes.zeros_NG is not None and found.zeros_NG is not None:
                codes.zeros_NG[start:end] = found.zeros_NG
            start = end
        assert start == target.columns
        return codes


def quantiser_for(model: CausalModel, config: WorkerConfig) -> Quantiser | None:
    """What quantises the model as it was decided; None where weights keep the model's type.

    Raises: ConfigError for a name that is not on the shelf, or a form that the kernels do not take.
    """
    if config.quantization is None:
        return None
    scheme = plugins.load("quant", config.quantization).SCHEME
    assert isinstance(scheme, Scheme)
    backend, dtype = config.linear_backend, getattr(torch, config.dtype)
    return Quantiser(model, scheme, bind_quantized(backend), bind_rounding(backend), dtype)


def num_parameters(model: CausalModel) -> int:
    """Numbers of a model's weights, quantised ones included; a shared one counts once."""
    dense = sum(parameter.numel() for parameter in model.parameters())
    return dense + sum(packed.num_parameters for packed in _packed(model))


def weight_bytes(model: CausalModel) -> int:
    """Bytes of a model's weights, quantised ones included; a shared one counts once."""
    dense = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    return dense + sum(packed.num_bytes for packed in _packed(model))


def _packed(model: CausalModel) -> Iterator[Packed]:
    if model.lm_head.table is not None:
        yield model.lm_head.table.packed
    for module in model.modules():
        if isinstance(module, Linear) and isinstance(module.method, Quantized):
            yield module.method.packed


def _targets(
    model: CausalModel, scheme: Scheme, gemm: QuantizedGemm, dtype: torch.dtype
) -> Iterator[tuple[str, _Target]]:
    for path, module in model.named_modules():
        if isinstance(module, Linear):
            module.register_parameter("weight", None)
            install = _into_projection(module, gemm)
            yield f"{path}.weight", _Target(module.out_features, module.in_features, scheme.projections, install)
    embedding, head = model.model.embed_tokens, model.lm_head
    owner = "model.embed_tokens" if model.is_tied else "lm_head"
    head.register_parameter("weight", None)
    if model.is_tied:
        embedding.register_parameter("weight", None)

    def into_head(packed: Packed) -> None:
        head.table = QuantizedTable(gemm, packed, dtype)
        if model.is_tied:
            embedding.table = head.table

    yield f"{owner}.weight", _Target(embedding.vocab_size, embedding.size, scheme.head, into_head)


def _into_projection(linear: Linear, gemm: QuantizedGemm) -> Callable[[Packed], None]:
    def install(packed: Packed) -> None:
        linear.method = Quantized(gemm, packed)

    return install


def _settled(packed: Packed) -> Packed:
    """The same, where weights lie best (memory.empty)."""
    tensors = tuple(empty(tuple(one.shape), one.dtype, "cpu").copy_(one) for one in packed.tensors)
    return Packed(tensors, packed.columns, packed.depth, packed.form)


def _small(blocks: Iterable[Tensor], depth: int) -> Iterator[Tensor]:
    """The same rows in smaller blocks."""
    count = max(1, _NUMBERS_AT_ONCE // depth)
    for block in blocks:
        for start in range(0, block.shape[0], count):
            yield block[start : start + count]
