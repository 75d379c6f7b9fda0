"""Memory for what recorded programs compute on the way: one piece of address space that they use one after the other.

Not here: what is recorded (program.py), memory of a device in general (memory.py).
Door: Arena, Places, NoPlace.
"""

from __future__ import annotations

import weakref

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from quire.worker.memory import empty

_UNIT = 64
"""Bytes of a cache line: places begin and end at multiples of it."""


class NoPlace(Exception):
    """An arena has no room left for a tensor."""


class Arena:
    """``reserved`` bytes of address space. The system hands out pages when they are first written, and places are
    taken from the start, so that it costs what the largest program needs."""

    def __init__(self, reserved: int) -> None:
        self._bytes_host: npt.NDArray[np.uint8] = empty((reserved,), torch.uint8, "cpu").numpy()
        self.used_bytes = 0
        """The end of the last place that was ever taken."""

    def places(self) -> Places:
        """All of the arena, to be shared out anew: for one program."""
        return Places(self)

    def at(self, start: int, end: int) -> npt.NDArray[np.uint8]:
        """Bytes ``start:end``, an array that each of its torch tensors holds."""
        self.used_bytes = max(self.used_bytes, end)
        return self._bytes_host[start:end]

    @property
    def reserved(self) -> int:
        return len(self._bytes_host)


class Places:
    """Shares an arena out: a place is free again as soon as nothing views its bytes, and the lowest one that is large
    enough is taken next, while it is still in the processor's cache."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._free: list[tuple[int, int]] = [(0, arena.reserved // _UNIT * _UNIT)]
        """Starts and ends, rising, never touching each other."""
        self._given_back: list[tuple[int, int]] = []
        """To become free with the next one that is taken."""

    def take(self, num_bytes: int) -> Tensor:
        """At least so many bytes, uint8.

        Raises: NoPlace.
        """
        wanted = max(1, -(-num_bytes // _UNIT)) * _UNIT
        self._merge()
        for number, (start, end) in enumerate(self._free):
            if end - start >= wanted:
                self._free[number : number + 1] = [(start + wanted, end)] if end - start > wanted else []
                taken = self._arena.at(start, start + wanted)
                # Whenever a collection runs, also in here: so it is only noted.
                weakref.finalize(taken, self._given_back.append, (start, start + wanted)).atexit = False
                return torch.from_numpy(taken)
        raise NoPlace(f"{num_bytes} bytes are wanted; of {self._arena.reserved} reserved ones no run is that long.")

    def _merge(self) -> None:
        while self._given_back:
            self._free.append(self._given_back.pop())
        joined: list[tuple[int, int]] = []
        for one in sorted(self._free):
            if joined and joined[-1][1] == one[0]:
                joined[-1] = (joined[-1][0], one[1])
            else:
                joined.append(one)
        self._free = joined
