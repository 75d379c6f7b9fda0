"""From a checkpoint's files to a model on a device, tensor by tensor: the peak is the model and one tensor.

Not here: the files (checkpoint.py), which tensor fills what (layers/weights.py), how weights are quantised on the way
(quantise.py) and kept for the next start (packed_cache.py).
Door: load_model, Progress, NoProgress, BarProgress.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Never, Protocol

import msgspec
import torch
from torch import Tensor, nn
from tqdm import tqdm

from quire import plugins
from quire.config.card import Card
from quire.config.decided import WorkerConfig
from quire.errors import CheckpointError, UnsupportedModel
from quire.layers.decoder import CausalModel
from quire.layers.norm import RMSNorm
from quire.layers.weights import Rows, destinations
from quire.worker.checkpoint import Checkpoint, open_checkpoint
from quire.worker.memory import empty
from quire.worker.packed_cache import PackedCache, cache_key
from quire.worker.quantise import Quantiser, quantiser_for

_FLOATS = ("F64", "F32", "F16", "BF16")
_DUMMY_STD = 0.02


class Progress(Protocol):
    """Hears how many bytes there are and how many were read."""

    def start(self, num_bytes: int) -> None: ...
    def advance(self, num_bytes: int) -> None: ...
    def finish(self) -> None: ...


class NoProgress:
    """Shows nothing."""

    def start(self, num_bytes: int) -> None: ...
    def advance(self, num_bytes: int) -> None: ...
    def finish(self) -> None: ...


class BarProgress:
    """A bar on standard error."""

    def __init__(self) -> None:
        self._bar: tqdm[Never] | None = None

    def start(self, num_bytes: int) -> None:
        self._bar = tqdm(
            total=num_bytes,
            unit="B",
            unit_scale=True,
            unit_divisor=1024,
            desc="Loading weights",
            file=sys.stderr,
            leave=False,
        )

    def advance(self, num_bytes: int) -> None:
        if self._bar is not None:
            self._bar.update(num_bytes)

    def finish(self) -> None:
        if self._bar is not None:
            self._bar.close()


def progress_for(config: WorkerConfig) -> Progress:
    """A bar where one is wanted and standard error is a terminal."""
    return BarProgress() if config.shows_progress and sys.stderr.isatty() else NoProgress()


def load_model(card: Card, config: WorkerConfig, progress: Progress | None = None) -> CausalModel:
    """The card's model with its weights, in the configured type on the configured device, for inference alone; those
    that are to be quantised are packed already.

    Raises: CheckpointError or UnsupportedModel, one line that names the file and, where there is one, the tensor.
    """
    # Rotary scalings that depend on the length look at the context that is served.
    served = msgspec.structs.replace(card, max_model_len=config.max_model_len)
    with torch.device("meta"):
        model = plugins.load("models", card.model_type).Model(served)
    assert isinstance(model, CausalModel)
    dtype = getattr(torch, config.dtype)
    if config.load_format == "dummy":
        shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
        quantiser = quantiser_for(model, config)
        _materialise(model, dtype, config.device)
        _fill_at_random(model, shapes, quantiser, dtype, config)
    else:
        checkpoint = open_checkpoint(Path(config.model_path))
        sources = _match(model, checkpoint)
        quantiser = quantiser_for(model, config)
        _materialise(model, dtype, config.device)
        _fill(model, checkpoint, sources, quantiser, config, progress or progress_for(config))
    return model.eval()


def _match(model: CausalModel, checkpoint: Checkpoint) -> dict[str, Rows]:
    """For each tensor of the checkpoint that is needed, its place; nothing has been read or allocated yet."""
    places = destinations(model)
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    sources: dict[str, Rows] = {}
    seen: dict[str, str] = {}
    for name in checkpoint.names:
        own = model.own_name(name)
        if own is None:
            continue
        where = f"{checkpoint.file(name)}: tensor {name!r}"
        if own not in places:
            family = type(model).__module__.rpartition(".")[2]
            raise CheckpointError(f"{where} has no place in a model of type {family}.")
        if own in seen:
            raise CheckpointError(f"{where} and {seen[own]!r} fill the same place.")
        rows, shape = places[own], checkpoint.shape(name)
        whole = shapes[rows.parameter]
        wanted = whole if rows.count is None else (rows.count, *whole[1:])
        if shape != wanted:
            raise CheckpointError(f"{where} has shape {list(shape)}; config.json asks for {list(wanted)}.")
        if checkpoint.dtype(name) not in _FLOATS:
            raise UnsupportedModel(
                f"{where} is stored as {checkpoint.dtype(name)}, which is not served; these are: {', '.join(_FLOATS)}."
            )
        sources[name] = rows
        seen[own] = name
    missing = [own for own in places if own not in seen]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise CheckpointError(
            f"{checkpoint.path}: tensor {missing[0]!r}{more} is missing; download the checkpoint again."
        )
    return sources


def _materialise(model: nn.Module, dtype: torch.dtype, device: str) -> None:
    """Give every parameter memory, in one type on one device; a shared one stays shared."""
    made: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) not in made:
                made[id(parameter)] = nn.Parameter(empty(parameter.shape, dtype, device), requires_grad=False)
            setattr(module, name, made[id(parameter)])
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(device))


def _fill(
    model: nn.Module,
    checkpoint: Checkpoint,
    sources: dict[str, Rows],
    quantiser: Quantiser | None,
    config: WorkerConfig,
    progress: Progress,
) -> None:
    parameters = dict(model.named_parameters())
    parts: dict[str, list[str]] = {}
    for name, rows in sources.items():
        parts.setdefault(rows.parameter, []).append(name)
    for names in parts.values():
        names.sort(key=lambda name: sources[name].start)
    progress.start(sum(checkpoint.size(name) for name in sources))
    try:
        for parameter in [name for name in parts if name in parameters]:
            names = parts.pop(parameter)
            for name, block in zip(names, _read(checkpoint, names, progress), strict=True):
                sources[name].of(parameters[parameter]).copy_(block)
        if quantiser is not None:
            _fill_quantised(quantiser, checkpoint, parts, config, progress)
    finally:
        progress.finish()
        checkpoint.close()


def _fill_quantised(
    quantiser: Quantiser, checkpoint: Checkpoint, parts: dict[str, list[str]], config: WorkerConfig, progress: Progress
) -> None:
    """From what an earlier start kept, or from the checkpoint."""
    cache = PackedCache(Path(config.packed_cache), config.packed_cache_bytes)
    key = ""
    if config.packed_cache_bytes:
        key = cache_key(Path(config.model_path), quantiser.scheme, quantiser.gemm, quantiser.find_codes)
    kept = cache.read(key)
    if kept.keys() == parts.keys():
        for parameter, packed in kept.items():
            quantiser.install(parameter, packed)
            progress.advance(sum(checkpoint.size(name) for name in parts[parameter]))
        return
    with cache.writing(key, quantiser.num_bytes) as keep:
        for parameter, names in parts.items():
            keep(parameter, quantiser.take(parameter, _read(checkpoint, names, progress)))


def _read(checkpoint: Checkpoint, names: list[str], progress: Progress) -> Iterator[Tensor]:
    """Tensors in turn; each is forgotten when the next is wanted."""
    for name in names:
        yield checkpoint.read(name)
        checkpoint.forget(name)
        progress.advance(checkpoint.size(name))


def _fill_at_random(
    model: nn.Module,
    shapes: dict[str, tuple[int, ...]],
    quantiser: Quantiser | None,
    dtype: torch.dtype,
    config: WorkerConfig,
) -> None:
    """Normal numbers, the same for the same seed and sizes, quantised or not; norms are neutral, so that activations
    keep their scale."""
    neutral = {id(norm.weight): norm.neutral for norm in model.modules() if isinstance(norm, RMSNorm)}
    chance = torch.Generator(config.device).manual_seed(config.seed)
    parameters = dict(model.named_parameters())
    for name, shape in shapes.items():
        parameter = parameters.get(name)
        if parameter is None:
            assert quantiser is not None
            weight = empty(shape, dtype, config.device).normal_(0.0, _DUMMY_STD, generator=chance)
            quantiser.take(name, [weight])
        elif id(parameter) in neutral:
            parameter.fill_(neutral[id(parameter)])
        else:
            parameter.normal_(0.0, _DUMMY_STD, generator=chance)
