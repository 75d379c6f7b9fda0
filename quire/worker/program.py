"""A forward pass as a program: its native calls with their arguments, noted once, made again in one call.

While a pass is recorded torch may allocate and view, which replays need not repeat; anything else that it computes
would be missing from the program, so the recording is refused.

Not here: which passes are recorded (launch.py), the memory (program_memory.py), what notes calls (native/program.h).
Door: Program, record, placed, Unrecordable.
"""

# Shapes: T tokens of the step, M model size, V vocabulary.

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from quire.layers.batch import Batch
from quire.ops.native import native
from quire.worker.pace import Pace
from quire.worker.program_memory import NoPlace, Places

X = TypeVar("X")

_ATEN = torch.ops.aten
_ALLOCATIONS = frozenset(
    (
        _ATEN.empty.memory_format,
        _ATEN.empty_like.default,
        _ATEN.empty_strided.default,
        _ATEN.new_empty.default,
        _ATEN.new_empty_strided.default,
    )
)
_VIEWS = frozenset(
    (
        _ATEN._unsafe_view.default,
        _ATEN.alias.default,
        _ATEN.as_strided.default,
        _ATEN.detach.default,
        _ATEN.permute.default,
        _ATEN.select.int,
        _ATEN.slice.Tensor,
        _ATEN.split.Tensor,
        _ATEN.split_with_sizes.default,
        _ATEN.squeeze.dim,
        _ATEN.transpose.int,
        _ATEN.unsqueeze.default,
        _ATEN.view.default,
        _ATEN.view.dtype,
    )
)


class Unrecordable(Exception):
    """A pass computes something with torch itself."""


class _Placing(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """New tensors lie in an arena, while there is room."""

    def __init__(self, places: Places) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._places = places

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> object:
        if func in _ALLOCATIONS:
            try:
                return self._allocate(func, args, kwargs or {})
            except NoPlace as reason:
                self._lack_room(reason)
        return self._compute(func, args, kwargs or {})

    def _allocate(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
        like = func(*args, **{**kwargs, "device": "meta"})
        place = self._places.take(like.untyped_storage().nbytes())
        return place.view(like.dtype).as_strided(like.shape, like.stride())

    def _lack_room(self, reason: NoPlace) -> None:
        """The tensor is allocated as usual."""

    def _compute(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> object:
        return func(*args, **kwargs)


class _Recording(_Placing):  # type: ignore[no-untyped-call]
    """Refuses all that a replay would miss."""

    def _lack_room(self, reason: NoPlace) -> None:
        raise reason

    def _compute(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> object:
        if func in _VIEWS:
            return func(*args, **kwargs)
        with self:  # An operation that is made of others may be made of views alone.
            result = func.decompose(*args, **kwargs)
        if result is NotImplemented:
            raise Unrecordable(f"torch computes {func}")
        return result


@dataclass(frozen=True, slots=True)
class Program:
    """``held``: whatever owns memory that the calls were told the address of, beside model and arena."""

    calls: object
    num_calls: int
    num_bytes: int
    """Of the calls; what they compute lies in the arena."""
    results: tuple[Tensor, ...]
    places: Places
    """What the results leave of the arena."""
    held: Batch
    pace: Pace

    def run(self) -> tuple[Tensor, ...]:
        """Make the calls again, on what the batch's memory holds now: the same tensors with new numbers.

        Raises: what the first call that fails raises.
        """
        started_s = time.perf_counter()
        native().run_program(self.calls, self.pace.num_threads)
        self.pace.took(time.perf_counter() - started_s)
        return self.results


def record(compute: Callable[[Batch], tuple[Tensor, ...]], batch: Batch, places: Places) -> Program:
    """Compute the batch, and note how. Its results are in the program.

    Raises: Unrecordable, NoPlace, or whatever ``compute`` raises; then the batch has to be computed again.
    """
    extension = native()
    extension.record()
    try:
        with _Recording(places):
            results = compute(batch)
    finally:
        calls = extension.recorded()
    num_calls, num_bytes = extension.program_size(calls)
    return Program(calls, num_calls, num_bytes, results, places, batch, Pace(torch.get_num_threads()))


def placed(compute: Callable[[X], Tensor], x: X, places: Places) -> Tensor:
    """Compute, with new tensors in an arena where it has room."""
    with _Placing(places):
        return compute(x)
