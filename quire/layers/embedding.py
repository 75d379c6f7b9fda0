"""From token ids to vectors, and from vectors to logits.

Not here: sampling.
Door: Embedding, Head, QuantizedTable.
"""

# Shapes: T tokens of the step, N positions whose logits are wanted, M model size, V vocabulary.

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from quire.ops.embedding import InPlace, Take, scale, soft_cap, take
from quire.ops.gemm import Gemm, TorchGemm
from quire.ops.quantized import Packed, QuantizedGemm
from quire.ops.rows import RowKernels


@dataclass(frozen=True, slots=True)
class QuantizedTable:
    """A weight ``[V, M]`` that was quantised and packed: of a head, and of the embedding that is tied to it."""

    gemm: QuantizedGemm
    packed: Packed
    dtype: torch.dtype

    def rows(self, ids_T: Tensor) -> Tensor:
        """Vectors in the model's own type."""
        return self.gemm.rows(ids_T, self.packed, self.dtype)

    def logits(self, hidden_NM: Tensor) -> Tensor:
        """In float32."""
        return self.gemm.multiply(hidden_NM, self.packed, dtype=torch.float32)


class Embedding(nn.Module):
    """A row for each token id; ``scale`` multiplies it, rounded to the model's type."""

    def __init__(self, vocab_size: int, size: int, *, scale: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocab_size, size), requires_grad=False)
        self.vocab_size, self.size, self.scale = vocab_size, size, scale
        self.table: QuantizedTable | None = None
        self._gemm: Gemm | None = None
        self._take: Take | None = None
        self._scale: InPlace | None = None

    def pack(self, gemm: Gemm) -> None:
        """Let ``gemm`` store the loaded weight: for a head that shares it."""
        self.weight = nn.Parameter(gemm.pack(self.weight), requires_grad=False)
        self._gemm = gemm

    def bind(self, kernels: RowKernels) -> None:
        """Let kernels read rows, where nothing else stores them, and scale."""
        if self._gemm is None and self.table is None:
            self._take = kernels.take(self.weight)
        self._scale = kernels.scale(self.scale)

    def forward(self, ids_T: Tensor) -> Tensor:
        vectors_TM = self._rows(ids_T)
        if self.scale == 1.0:
            return vectors_TM
        if self._scale is not None:
            self._scale(vectors_TM)
        else:
            scale(vectors_TM, self.scale)
        return vectors_TM

    def _rows(self, ids_T: Tensor) -> Tensor:
        if self.table is not None:
            return self.table.rows(ids_T)
        if self._gemm is not None:
            return self._gemm.rows(ids_T, self.weight, self.vocab_size, self.size)
        return take(ids_T, self.weight) if self._take is None else self._take(ids_T)


class Head(nn.Module):
    """Logits of the whole vocabulary, in float32.

    ``tied``: the embedding whose weight is also this one's; they share storage. ``soft_cap`` c turns a logit x into
    ``c * tanh(x / c)``.
    """

    def __init__(
        self, size: int, vocab_size: int, *, tied: Embedding | None = None, soft_cap: float | None = None
    ) -> None:
        super().__init__()
        self.weight = (
            tied.weight if tied is not None else nn.Parameter(torch.empty(vocab_size, size), requires_grad=False)
        )
        self.vocab_size, self.soft_cap = vocab_size, soft_cap
        self.table: QuantizedTable | None = None
        self._gemm: Gemm = TorchGemm()
        self._cap: InPlace | None = None

    def bind(self, kernels: RowKernels) -> None:
        """Let a kernel cap the logits."""
        if self.soft_cap is not None:
            self._cap = kernels.soft_cap(self.soft_cap)

    def pack(self, gemm: Gemm, tied: Embedding | None) -> None:
        """Let ``gemm`` store and multiply the loaded weight, if it is a dense one; ``tied``: the embedding to share it
        with."""
        if self.table is not None:
            return
        if tied is None:
            self.weight = nn.Parameter(gemm.pack(self.weight), requires_grad=False)
        else:
            tied.pack(gemm)
            self.weight = tied.weight
        self._gemm = gemm

    def forward(self, hidden_NM: Tensor) -> Tensor:
        if self.table is not None:
            logits_NV = self.table.logits(hidden_NM)
        else:
            logits_NV = self._gemm.multiply(hidden_NM, self.weight, self.vocab_size, dtype=torch.float32)
        if self._cap is not None:
            self._cap(logits_NV)
        elif self.soft_cap is not None:
            soft_cap(logits_NV, self.soft_cap)
        return logits_NV
