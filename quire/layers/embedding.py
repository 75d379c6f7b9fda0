"""From token ids to vectors, and from vectors to logits.

Not here: sampling.
Door: Embedding, Head, QuantizedTable.
"""

# Shapes: T tokens of the step, N positions whose logits are wanted, M model size, V vocabulary.

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from quire.ops.gemm import Gemm, TorchGemm
from quire.ops.quantized import Packed, QuantizedGemm


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
        self._gemm: Gemm = TorchGemm()

    def pack(self, gemm: Gemm) -> None:
        """Let ``gemm`` store the loaded weight: for a head that shares it."""
        self.weight = nn.Parameter(gemm.pack(self.weight), requires_grad=False)
        self._gemm = gemm

    def forward(self, ids_T: Tensor) -> Tensor:
        if self.table is not None:
            vectors_TM = self.table.rows(ids_T)
        else:
            vectors_TM = self._gemm.rows(ids_T, self.weight, self.vocab_size, self.size)
        if self.scale == 1.0:
            return vectors_TM
        return vectors_TM * torch.tensor(self.scale, dtype=vectors_TM.dtype)


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
        if self.soft_cap is not None:
            logits_NV = torch.tanh(logits_NV / self.soft_cap) * self.soft_cap
        return logits_NV
