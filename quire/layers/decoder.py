"""Decoder stacks: the two orders of norms around attention and MLP, and the model around the layers.

Not here: what a family puts into its layers (models/).
Door: CausalModel, Layer, PreNormLayer, SandwichLayer.
"""

# Shapes: T tokens of the step, N positions whose logits are wanted, M model size, V vocabulary.

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, nn

from quire.config.card import Card
from quire.layers.attention import Attention
from quire.layers.batch import Batch
from quire.layers.embedding import Embedding, Head
from quire.layers.mlp import GatedMLP
from quire.layers.norm import RMSNorm
from quire.layers.rotary import Rotary
from quire.ops.rotary import Rotation
from quire.ops.rows import RowKernels


class Layer(Protocol):
    """One layer of a stack. What it has to say is added by whoever reads the stream next, together with a norm: here,
    ``pending`` is what the layer before left to be added to the stream, the result what this one leaves.
    """

    def __call__(
        self, x_TM: Tensor, pending_TM: Tensor | None, rotation: Rotation, batch: Batch, wanted_N: Tensor | None = None
    ) -> Tensor:
        """Changes the stream ``x`` in place. With ``wanted_N`` the result is of these tokens alone, and the stream's
        first N rows are theirs afterwards.
        """
        ...


def _kept(x_TM: Tensor, wanted_N: Tensor | None) -> Tensor:
    """The stream of the wanted tokens, moved to its first rows; all of it where all are wanted."""
    if wanted_N is None:
        return x_TM
    first_NM = x_TM[: wanted_N.shape[0]]
    first_NM.copy_(x_TM.index_select(0, wanted_N))
    return first_NM


class PreNormLayer(nn.Module):
    """``x + attention(norm(x))``, then ``x + mlp(norm(x))``."""

    def __init__(self, attention: Attention, mlp: GatedMLP, *, size: int, eps: float) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(size, eps)
        self.self_attn = attention
        self.post_attention_layernorm = RMSNorm(size, eps)
        self.mlp = mlp

    def forward(
        self, x_TM: Tensor, pending_TM: Tensor | None, rotation: Rotation, batch: Batch, wanted_N: Tensor | None = None
    ) -> Tensor:
        seen_TM = self.self_attn(self.input_layernorm(x_TM, pending_TM), rotation, batch, wanted_N)
        thought_TM: Tensor = self.mlp(self.post_attention_layernorm(_kept(x_TM, wanted_N), seen_TM))
        return thought_TM


class SandwichLayer(nn.Module):
    """Like PreNormLayer, with a norm behind attention and MLP too; all four store their distance from one (Gemma 2
    and 3)."""

    def __init__(self, attention: Attention, mlp: GatedMLP, *, size: int, eps: float) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(size, eps, plus_one=True)
        self.self_attn = attention
        self.post_attention_layernorm = RMSNorm(size, eps, plus_one=True)
        self.pre_feedforward_layernorm = RMSNorm(size, eps, plus_one=True)
        self.mlp = mlp
        self.post_feedforward_layernorm = RMSNorm(size, eps, plus_one=True)

    def forward(
        self, x_TM: Tensor, pending_TM: Tensor | None, rotation: Rotation, batch: Batch, wanted_N: Tensor | None = None
    ) -> Tensor:
        seen_TM = self.self_attn(self.input_layernorm(x_TM, pending_TM), rotation, batch, wanted_N)
        seen_TM = self.post_attention_layernorm(seen_TM)
        thought_TM = self.mlp(self.pre_feedforward_layernorm(_kept(x_TM, wanted_N), seen_TM))
        changed_TM: Tensor = self.post_feedforward_layernorm(thought_TM)
        return changed_TM


class Decoder(nn.Module):
    """Embedding, layers and last norm. ``rotary_of_layer``: which of the rotaries each layer turns by."""

    def __init__(
        self,
        embedding: Embedding,
        layers: Sequence[nn.Module],
        norm: RMSNorm,
        rotaries: Sequence[Rotary],
        rotary_of_layer: Sequence[int],
    ) -> None:
        super().__init__()
        self.embed_tokens = embedding
        self.layers = nn.ModuleList(layers)
        self.norm = norm
        self.rotaries = nn.ModuleList(rotaries)
        self.rotary_of_layer = tuple(rotary_of_layer)

    def forward(self, batch: Batch) -> Tensor:
        x_TM: Tensor = self.embed_tokens(batch.ids_T)
        rotations: list[Rotation] = [rotary(batch.positions_T) for rotary in self.rotaries]
        pending_TM: Tensor | None = None
        *before, last = zip(self.layers, self.rotary_of_layer, strict=True)
        for layer, which in before:
            pending_TM = layer(x_TM, pending_TM, rotations[which], batch)
        layer, which = last
        pending_NM: Tensor = layer(x_TM, pending_TM, rotations[which], batch, batch.wanted_N)
        hidden_NM: Tensor = self.norm(x_TM[: len(pending_NM)], pending_NM)
        return hidden_NM


class CausalModel(nn.Module):
    """What every family's ``Model`` is: a decoder and its head. Parameters bear the names of the checkpoint's tensors.

    ``rotaries``: one, or one for each kind of layer, chosen by ``rotary_of_layer``. Built anywhere, meta device too;
    the weights are filled in by worker/load.py.
    """

    def __init__(
        self,
        card: Card,
        layers: Sequence[nn.Module],
        norm: RMSNorm,
        rotaries: Sequence[Rotary],
        *,
        rotary_of_layer: Sequence[int] | None = None,
        embedding_scale: float = 1.0,
        logit_cap: float | None = None,
    ) -> None:
        super().__init__()
        embedding = Embedding(card.vocab_size, card.hidden_size, scale=embedding_scale)
        self.model = Decoder(embedding, layers, norm, rotaries, rotary_of_layer or (0,) * card.num_layers)
        self.is_tied = card.ties_embeddings
        tied = embedding if self.is_tied else None
        self.lm_head = Head(card.hidden_size, card.vocab_size, tied=tied, soft_cap=logit_cap)

    def forward(self, batch: Batch) -> Tensor:
        """Hidden states of the step's wanted tokens, ``[N, M]``, behind the last norm."""
        hidden_NM: Tensor = self.model(batch)
        return hidden_NM

    def head(self, hidden_NM: Tensor) -> Tensor:
        """Logits ``[N, V]`` in float32, caps applied."""
        logits_NV: Tensor = self.lm_head(hidden_NM)
        return logits_NV

    def bind(self, kernels: RowKernels) -> None:
        """Let kernels compute all but the projections, with the weights as they are now.

        Raises: ConfigError for a type or shape that a kernel does not take.
        """
        for module in self.modules():
            if isinstance(module, RMSNorm | Attention | GatedMLP | Rotary | Embedding | Head):
                module.bind(kernels)

    def own_name(self, name: str) -> str | None:
        """The model's name of a checkpoint's tensor; None for one that is known and not needed."""
        if name.endswith(".rotary_emb.inv_freq") or (self.is_tied and name == "lm_head.weight"):
            return None
        return name
