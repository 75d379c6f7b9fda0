"""Rotary positions: which frequencies a checkpoint asks for, and the angles of a step.

Scalings that depend on a sequence's length (dynamic, longrope) are settled once, by the context that is served:
angles are a function of the position alone, so that cached keys stay right. For sequences longer than the original
context this equals the usual definition at the served length.

Not here: the rotation itself (ops/rotary.py).
Door: Rotary, read_rope.
"""

# Shapes: T tokens of the step, F frequencies.

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from quire.config.card import Card
from quire.config.json_fields import Fields
from quire.errors import UnsupportedModel
from quire.layers.fields import fields_of, positive, positive_or_none, reals
from quire.ops.rotary import Rotation, RotationOf, rotation_of
from quire.ops.rows import RowKernels


class Rotary(nn.Module):
    """Angles of positions. ``factor`` multiplies cosine and sine (yarn, longrope)."""

    frequencies_F: Tensor

    def __init__(self, frequencies_F: Tensor, factor: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("frequencies_F", frequencies_F, persistent=False)
        self.factor = factor
        self._kernel: RotationOf | None = None

    def bind(self, kernels: RowKernels) -> None:
        """Let a kernel compute the angles, with the frequencies as they are now."""
        self._kernel = kernels.rotation(self.frequencies_F.contiguous(), self.factor)

    def forward(self, positions_T: Tensor) -> Rotation:
        if self._kernel is not None:
            return self._kernel(positions_T)
        return rotation_of(positions_T, self.frequencies_F, self.factor)


@dataclass(frozen=True, slots=True)
class Rope:
    """What a checkpoint says about rotary positions of one kind of layer."""

    kind: str
    theta: float
    size: int
    """How many of a head's numbers are turned."""
    original_len: int
    """Tokens of context the frequencies were trained for."""
    max_position: int
    served_len: int
    fields: Fields

    def build(self) -> Rotary:
        """The module, on the CPU whatever the default device is.

        Raises: UnsupportedModel for a scaling that nobody knows; CheckpointError for one that lacks a number.
        """
        if self.kind not in _SCALINGS:
            raise UnsupportedModel(
                f"{self.fields.file}: rotary scaling {self.kind[:40]!r} is not served; "
                f"known are {', '.join(_SCALINGS)}."
            )
        if self.size < 4 or self.size % 2:
            raise UnsupportedModel(
                f"{self.fields.file}: heads that turn {self.size} numbers are not served; an even count from 4 is."
            )
        with torch.device("cpu"):
            return Rotary(*_SCALINGS[self.kind](self))

    def plain_frequencies(self, theta: float | None = None) -> Tensor:
        """``theta ** (-2 i / size)``, float32."""
        return 1.0 / ((theta or self.theta) ** (torch.arange(0, self.size, 2).float() / self.size))


def read_rope(card: Card, layer_type: str = "full_attention") -> Rope:
    """What the card's ``rope_parameters`` say, be they flat or one entry for each kind of layer."""
    config = fields_of(card)
    fields = config.inner("rope_parameters") or Fields(config.file, {})
    fields = fields.inner(layer_type) or fields
    kind = fields.text("rope_type", fields.text("type", "default"))
    if fields.has("short_factor"):
        kind = "longrope"  # early Phi-3 checkpoints call it "su" or "yarn"
    max_position = config.whole("max_position_embeddings", 1, 2**31, card.max_model_len)
    given_len = fields.whole("original_max_position_embeddings", 1, 2**31, max_position)
    share = fields.real("partial_rotary_factor", 0.0, 1.0, config.real("partial_rotary_factor", 0.0, 1.0, 1.0))
    return Rope(
        kind=kind,
        theta=positive(fields, "rope_theta", positive(config, "rope_theta", 10_000.0)),
        size=int(card.head_size * share),
        original_len=config.whole("original_max_position_embeddings", 1, 2**31, given_len),
        max_position=max_position,
        served_len=card.max_model_len,
        fields=fields,
    )


def _default(rope: Rope) -> tuple[Tensor, float]:
    return rope.plain_frequencies(), 1.0


def _linear(rope: Rope) -> tuple[Tensor, float]:
    return rope.plain_frequencies() / positive(rope.fields, "factor"), 1.0


def _dynamic(rope: Rope) -> tuple[Tensor, float]:
    factor, length = positive(rope.fields, "factor"), max(rope.served_len, rope.max_position)
    stretch = factor * length / rope.max_position - (factor - 1.0)
    return rope.plain_frequencies(rope.theta * stretch ** (rope.size / (rope.size - 2))), 1.0


def _llama3(rope: Rope) -> tuple[Tensor, float]:
    """Long waves are slowed by the factor, short ones kept, those between blended."""
    frequencies_F, factor = rope.plain_frequencies(), positive(rope.fields, "factor")
    low, high = positive(rope.fields, "low_freq_factor"), positive(rope.fields, "high_freq_factor")
    if low >= high:
        raise rope.fields.refuse("low_freq_factor", f"less than high_freq_factor = {high}")
    turns_F = rope.original_len * frequencies_F / (2 * math.pi)
    kept_F = ((turns_F - low) / (high - low)).clamp(0.0, 1.0)
    return (1.0 - kept_F) * frequencies_F / factor + kept_F * frequencies_F, 1.0


def _yarn(rope: Rope) -> tuple[Tensor, float]:
    """Source: YaRN (Peng et al. 2023), section 3.2 and 3.4."""
    fields = rope.fields
    factor = positive(fields, "factor", rope.max_position / rope.original_len)

    def dimension_of(num_turns: float) -> float:
        return rope.size * math.log(rope.original_len / (num_turns * 2 * math.pi)) / (2 * math.log(rope.theta))

    low, high = dimension_of(positive(fields, "beta_fast", 32.0)), dimension_of(positive(fields, "beta_slow", 1.0))
    if fields.truth("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rope.size - 1)
    ramp_F = ((torch.arange(rope.size // 2).float() - low) / ((high - low) or 0.001)).clamp(0.0, 1.0)
    frequencies_F = rope.plain_frequencies()
    return frequencies_F / factor * ramp_F + frequencies_F * (1.0 - ramp_F), _yarn_attention_factor(fields, factor)


def _yarn_attention_factor(fields: Fields, factor: float) -> float:
    given = positive_or_none(fields, "attention_factor")
    if given is not None:
        return given

    def magnitude(weight: float) -> float:
        return 0.1 * weight * math.log(factor) + 1.0 if factor > 1.0 else 1.0

    weight, weight_all = positive_or_none(fields, "mscale"), positive_or_none(fields, "mscale_all_dim")
    return magnitude(weight) / magnitude(weight_all) if weight and weight_all else magnitude(1.0)


def _longrope(rope: Rope) -> tuple[Tensor, float]:
    """Source: LongRoPE (Ding et al. 2024); one factor for each frequency, long ones where the served context exceeds
    the original."""
    fields = rope.fields
    name = "long_factor" if rope.served_len > rope.original_len else "short_factor"
    factors_F = torch.tensor(reals(fields, name, rope.size // 2))
    ratio = positive(fields, "factor", rope.max_position / rope.original_len)
    usual = math.sqrt(1.0 + math.log(ratio) / math.log(rope.original_len)) if ratio > 1.0 else 1.0
    return rope.plain_frequencies() / factors_F, positive(fields, "attention_factor", usual)


_SCALINGS: dict[str, Callable[[Rope], tuple[Tensor, float]]] = {
    "default": _default,
    "linear": _linear,
    "dynamic": _dynamic,
    "llama3": _llama3,
    "yarn": _yarn,
    "longrope": _longrope,
}
