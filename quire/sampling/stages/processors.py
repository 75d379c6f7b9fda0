"""Logits processors of the user's own: functions that the operator named at start, called for the rows that ask for
them.

A processor is called as ``f(token_ids: list[int], logits: Tensor [V] float32) -> Tensor`` of the same shape. It may
change the logits in place; minus infinity forbids a token. It may be called twice for one position when another row
of the step had to be sampled again.

Not here: who may name which (the operator's --logits-processors).
Door: Stage, load_processors.
"""

# Shapes: R rows, V vocabulary.

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from quire.config.decided import WorkerConfig
from quire.core.ids import Row
from quire.core.step import NewRow
from quire.errors import ConfigError
from quire.sampling.draw import Draw
from quire.sampling.stage import Columns

Processor = Callable[[list[int], Tensor], Tensor]

EXAMPLES: tuple[NewRow, ...] = ()
"""None: a processor's name means something only beside a configuration that has it."""


class Stage:
    """Column: the processors' names in the order of the calls."""

    def __init__(self, config: WorkerConfig) -> None:
        self._processors = load_processors(config.logits_processors)
        self._columns: Columns[tuple[str, ...]] = Columns()

    def enter(self, new: NewRow) -> bool:
        return self._columns.put(new.row, new.sampling.processors or None)

    def leave(self, row: Row) -> None:
        self._columns.drop(row)

    def apply(self, logits_RV: Tensor, draws: Sequence[Draw]) -> None:
        for line, draw, names in self._columns.among(draws):
            for name in names:
                if draw.error:
                    break
                self._call(name, logits_RV[line], draw)

    def _call(self, name: str, logits_V: Tensor, draw: Draw) -> None:
        processor = self._processors.get(name)
        if processor is None:
            known = ", ".join(self._processors) or "none"
            draw.fail(f"There is no logits processor {name!r}; the engine was started with: {known}.")
            return
        try:
            changed = processor(draw.token_ids_host.tolist(), logits_V.clone())
            error = _flaw(changed, logits_V)
        except Exception as raised:
            draw.fail(f"The logits processor {name!r} raised {type(raised).__name__}: {raised}")
            return
        if error:
            draw.fail(f"The logits processor {name!r} returned {error}.")
        else:
            logits_V.copy_(changed)


def _flaw(changed: object, logits_V: Tensor) -> str:
    """What is wrong with a processor's answer; empty when nothing is."""
    if not isinstance(changed, Tensor):
        return f"{type(changed).__name__} instead of a tensor"
    if changed.shape != logits_V.shape or not changed.is_floating_point():
        return f"{changed.dtype} {tuple(changed.shape)} instead of float32 {tuple(logits_V.shape)}"
    if bool((torch.isnan(changed) | (changed == torch.inf)).any()):
        return "NaN or infinity"
    return ""


def load_processors(names: Iterable[str]) -> dict[str, Processor]:
    """Import each ``module:attribute``, by name.

    Raises: ConfigError, which names the processor, when it is not written like that, cannot be imported or cannot be
    called.
    """
    return {name: _load(name) for name in names}


def _load(name: str) -> Processor:
    module_name, colon, attribute = name.partition(":")
    if not (module_name and colon and attribute):
        raise ConfigError(f"--logits-processors {name!r} is not written module:attribute.", param="logits_processors")
    try:
        found: object = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:
        raise ConfigError(
            f"The logits processor {name!r} cannot be imported ({type(error).__name__}: {error}).",
            param="logits_processors",
        ) from error
    if not callable(found):
        raise ConfigError(f"The logits processor {name!r} cannot be called.", param="logits_processors")
    return found
