"""How the forward pass is started: here eagerly, one call of the model a step.

Not here: what is computed (models/), the tensors it needs (inputs.py).
Door: Model, EagerLauncher.
"""

# Shapes: T tokens of the step, N of them, M model size, V vocabulary.

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from quire.layers.batch import Batch


class Model(Protocol):
    """What a runner needs of a model."""

    def __call__(self, batch: Batch) -> Tensor:
        """Hidden states [T, M] of the batch's tokens, whose KV is in place afterwards."""
        ...

    def head(self, hidden_NM: Tensor) -> Tensor:
        """Logits [N, V], float32."""
        ...


class EagerLauncher:
    """Calls the model directly."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def forward(self, batch: Batch) -> Tensor:
        """Hidden states [T, M]."""
        return self._model(batch)
