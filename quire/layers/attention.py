"""The attention block: projections, norms and rotation around a backend.

Not here: attention over paged KV (attention/), who carries KV and backend (batch.py).
Door: Attention.
"""

# Shapes: T tokens of the step, M model size, H query heads, G KV heads, D head size.

from __future__ import annotations

import torch
from torch import Tensor, nn

from quire.config.card import Card
from quire.layers.batch import Batch
from quire.layers.linear import Linear, Part
from quire.layers.norm import RMSNorm
from quire.ops.rotary import HeadNorms, Rotation, TurnHeads, turn_heads
from quire.ops.rows import RowKernels


class Attention(nn.Module):
    """Causal attention of model layer ``layer``; q, k and v come from one projection.

    ``scale``: None means one over the root of the head size. ``head_norms``: of each query head and each key head.
    ``fused``: the checkpoint stores q, k and v as one tensor too (``qkv_proj``).
    """

    def __init__(
        self,
        card: Card,
        layer: int,
        *,
        qkv_bias: bool = False,
        out_bias: bool = False,
        scale: float | None = None,
        soft_cap: float | None = None,
        head_norms: tuple[RMSNorm, RMSNorm] | None = None,
        fused: bool = False,
    ) -> None:
        super().__init__()
        self.layer = layer
        self.window = card.layer_windows[layer]
        self.scale = card.head_size**-0.5 if scale is None else scale
        self.soft_cap = soft_cap
        self.num_heads, self.num_kv_heads, self.head_size = card.num_heads, card.num_kv_heads, card.head_size
        q_rows, kv_rows = card.num_heads * card.head_size, card.num_kv_heads * card.head_size
        parts = () if fused else (Part("q_proj", q_rows), Part("k_proj", kv_rows), Part("v_proj", kv_rows))
        self.qkv_proj = Linear(card.hidden_size, q_rows + 2 * kv_rows, bias=qkv_bias, parts=parts)
        self.o_proj = Linear(q_rows, card.hidden_size, bias=out_bias)
        self.q_norm: RMSNorm | None = head_norms[0] if head_norms else None
        self.k_norm: RMSNorm | None = head_norms[1] if head_norms else None
        self._kernel: TurnHeads | None = None

    def bind(self, kernels: RowKernels) -> None:
        """Let a kernel normalise and turn the heads, with the norms' weights as they are now."""
        self._kernel = kernels.turn_heads(self.num_heads, self.num_kv_heads, self.head_size, self._head_norms())

    def forward(self, x_TM: Tensor, rotation: Rotation, batch: Batch, wanted_N: Tensor | None = None) -> Tensor:
        """What all tokens see of each other; the result of the wanted ones alone where it is said which they are."""
        num_tokens, num_heads, num_kv_heads = x_TM.shape[0], self.num_heads, self.num_kv_heads
        projected: Tensor = self.qkv_proj(x_TM)
        heads_TND = projected.view(num_tokens, num_heads + 2 * num_kv_heads, self.head_size)
        if self._kernel is not None:
            self._kernel(heads_TND, rotation)
        else:
            turn_heads(heads_TND, rotation, num_heads, num_kv_heads, self._head_norms())
        q_THD, k_TGD, v_TGD = torch.split_with_sizes(heads_TND, (num_heads, num_kv_heads, num_kv_heads), 1)
        seen_THD = batch.attend(
            self.layer, q_THD, k_TGD, v_TGD, scale=self.scale, window=self.window, soft_cap=self.soft_cap
        )
        seen_TM = seen_THD.reshape(num_tokens, -1)
        if wanted_N is not None:
            seen_TM = seen_TM.index_select(0, wanted_N)
        result_TM: Tensor = self.o_proj(seen_TM)
        return result_TM

    def _head_norms(self) -> HeadNorms | None:
        if self.q_norm is None or self.k_norm is None:
            return None
        return HeadNorms(self.q_norm.weight, self.k_norm.weight, self.q_norm.eps, self.q_norm.plus_one)
