"""Where a checkpoint's tensors go: each parameter, or each part of a fused one, by the name the checkpoint gives it.

Not here: files and conversion (worker/checkpoint.py, worker/load.py).
Door: destinations, Rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from quire.layers.linear import Linear


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows ``start:start + count`` of a parameter, or all of it where ``count`` is None."""

    parameter: str
    start: int = 0
    count: int | None = None

    def of(self, parameter: Tensor) -> Tensor:
        """The view to be filled."""
        return parameter if self.count is None else parameter.narrow(0, self.start, self.count)


def destinations(model: nn.Module) -> dict[str, Rows]:
    """For each tensor that the model needs, by its name in the checkpoint, the place it fills. Shared parameters
    occur once."""
    found: dict[str, Rows] = {}
    shown: set[int] = set()
    for path, module in model.named_modules():
        for field, parameter in module.named_parameters(recurse=False):
            if id(parameter) not in shown:
                shown.add(id(parameter))
                found |= _places(path, module, field)
    return found


def _places(path: str, module: nn.Module, field: str) -> Iterator[tuple[str, Rows]]:
    own = f"{path}.{field}"
    if not isinstance(module, Linear) or not module.parts:
        yield own, Rows(own)
        return
    parent, start = path.rpartition(".")[0], 0
    for part in module.parts:
        yield f"{parent}.{part.name}.{field}", Rows(own, start, part.rows)
        start += part.rows
