"""Tensors of a checkpoint, read through a memory map, one at a time.

Not here: headers and which files there are (config/safetensors_header.py), where a tensor goes (load.py).
Door: open_checkpoint, Checkpoint.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from quire.config.safetensors_header import TensorFact, read_header, shards
from quire.errors import CheckpointError

DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""By the file format's own names."""


class Checkpoint:
    """All tensors of a folder by name. Headers have been checked; nothing else has been read.

    The files must not change while this lives.
    """

    def __init__(self, path: Path, tensors: dict[str, tuple[Path, TensorFact]]) -> None:
        self.path = path
        self._tensors = tensors
        self._maps: dict[Path, mmap.mmap] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """In the order of their files and of their places in them, so that reading all runs forward."""
        return tuple(sorted(self._tensors, key=lambda name: (self._tensors[name][0], self._tensors[name][1].start)))

    @property
    def num_bytes(self) -> int:
        return sum(fact.end - fact.start for _, fact in self._tensors.values())

    def file(self, name: str) -> Path:
        """Where the tensor lies."""
        return self._tensors[name][0]

    def shape(self, name: str) -> tuple[int, ...]:
        return self._tensors[name][1].shape

    def dtype(self, name: str) -> str:
        """As the file names it."""
        return self._tensors[name][1].dtype

    def size(self, name: str) -> int:
        """In bytes."""
        fact = self._tensors[name][1]
        return fact.end - fact.start

    def read(self, name: str) -> Tensor:
        """The tensor as it is stored: a view of the file, valid until ``close``; copy it, never write to it.

        Raises: CheckpointError when the file cannot be mapped, or torch knows no such dtype.
        """
        file, fact = self._tensors[name]
        if fact.dtype not in DTYPES:
            raise CheckpointError(f"{file}: tensor {name!r} has dtype {fact.dtype}, which cannot be read here.")
        dtype = DTYPES[fact.dtype]
        if fact.start == fact.end:
            return torch.empty(fact.shape, dtype=dtype)
        stored = torch.frombuffer(self._map(file), dtype=torch.uint8, offset=fact.start, count=fact.end - fact.start)
        if stored.data_ptr() % dtype.itemsize:
            stored = stored.clone()
        return stored.view(dtype).view(fact.shape)

    def forget(self, name: str) -> None:
        """Let the system take back the memory that reading this tensor filled; reading it again is allowed."""
        file, fact = self._tensors[name]
        start = fact.start // mmap.PAGESIZE * mmap.PAGESIZE
        if file in self._maps and fact.end > start:
            self._maps[file].madvise(mmap.MADV_DONTNEED, start, fact.end - start)

    def close(self) -> None:
        """Let go of the files. Maps that a living tensor still views are let go with it."""
        self._maps.clear()

    def _map(self, file: Path) -> mmap.mmap:
        if file not in self._maps:
            try:
                with file.open("rb") as opened:
                    # A private map is writable in memory alone; torch wants no read-only buffer.
                    self._maps[file] = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY)
            except (OSError, ValueError) as error:
                raise CheckpointError(f"{file}: cannot be mapped into memory: {error}.") from None
        return self._maps[file]


def open_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint in a folder.

    Raises: CheckpointError, one line that names the file and, where there is one, the tensor: no weights, only pickled
    ones, a bad index, a bad header, a tensor in two files.
    """
    tensors: dict[str, tuple[Path, TensorFact]] = {}
    for file, name, fact in _listed(path):
        if name in tensors:
            raise CheckpointError(f"{file}: tensor {name!r} is in {tensors[name][0].name} too.")
        tensors[name] = (file, fact)
    if not tensors:
        raise CheckpointError(
            f"{path}: has no weights (*.safetensors); download the checkpoint again, or load with --load-format dummy."
        )
    return Checkpoint(path, tensors)


def _listed(path: Path) -> Iterator[tuple[Path, str, TensorFact]]:
    for file in shards(path):
        for name, fact in read_header(file).items():
            yield file, name, fact
