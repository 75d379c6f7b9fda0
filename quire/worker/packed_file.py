"""A file of packed weights: tensors one behind the other, and behind them an index with a sum of each.

Written beside its name and renamed when it is whole, so that a name always has a whole file or none; a file that was
cut off, changed, or made for something else is noticed when it is read.

Not here: where files lie and how long (packed_cache.py).
Door: PackedWriter, read_packed, DamagedFile.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import struct
import zlib
from io import FileIO
from pathlib import Path
from typing import BinaryIO

import msgspec
import torch
from torch import Tensor

from quire.config.quantization import Form
from quire.ops.quantized import Packed
from quire.worker.memory import empty

_MAGIC = b"QUIREPK1"
_HEAD = struct.Struct("<8sQQI")
"""Magic, place and length of the index, CRC of the index."""
_ALIGNMENT = 64
_DTYPES = {"U8": torch.uint8, "I8": torch.int8, "I32": torch.int32, "F32": torch.float32, "BF16": torch.bfloat16}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


class DamagedFile(Exception):
    """The file is none of ours, was made for another key, or is not as it was written; the message says which."""


class _Stored(msgspec.Struct, frozen=True):
    """One tensor: where it lies, and its sum."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    num_bytes: int
    sum: int


class _Weight(msgspec.Struct, frozen=True):
    name: str
    columns: int
    depth: int
    form: Form
    tensors: tuple[_Stored, ...]


class _Index(msgspec.Struct, frozen=True):
    key: str
    weights: tuple[_Weight, ...]


class PackedWriter:
    """Writes one file, weight by weight. Until ``finish`` it lies under another name."""

    def __init__(self, path: Path, key: str) -> None:
        """Raises: OSError where the file cannot be made."""
        self._path, self._key = path, key
        self._part = path.with_name(f"{path.name}.{secrets.token_hex(8)}.part")
        self._file: BinaryIO = self._part.open("xb")
        self._file.write(bytes(_ALIGNMENT))
        self._at = _ALIGNMENT
        self._weights: list[_Weight] = []

    def add(self, name: str, packed: Packed) -> None:
        """Raises: OSError, such as for a full disk."""
        tensors = tuple(self._put(tensor) for tensor in packed.tensors)
        self._weights.append(_Weight(name, packed.columns, packed.depth, packed.form, tensors))

    def finish(self) -> int:
        """Write the index and give the file its name; returns its size in bytes.

        Raises: OSError.
        """
        index = msgspec.json.encode(_Index(self._key, tuple(self._weights)))
        self._file.write(index)
        self._file.seek(0)
        self._file.write(_HEAD.pack(_MAGIC, self._at, len(index), zlib.crc32(index)))
        self._file.close()
        self._part.replace(self._path)
        return self._at + len(index)

    def discard(self) -> None:
        """Leave nothing behind. Allowed at any time, and never fails."""
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._part.unlink(missing_ok=True)

    def _put(self, tensor: Tensor) -> _Stored:
        octets = tensor.contiguous().flatten().view(torch.uint8)
        stored = _Stored(_NAMES[tensor.dtype], tuple(tensor.shape), self._at, octets.numel(), _sum(octets))
        self._file.write(octets.numpy().data)
        self._file.write(bytes(-octets.numel() % _ALIGNMENT))
        self._at += octets.numel() + -octets.numel() % _ALIGNMENT
        return stored


def read_packed(path: Path, key: str) -> dict[str, Packed]:
    """The weights of a file that was written for this key, by name.

    They are read into memory of the process's own and not mapped: only that lies on large pages, from which every step
    gains (memory.empty), and reading what the system still holds takes no longer.
    Raises: DamagedFile; OSError where it cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        index = _read_index(file, key)
        return {weight.name: _read_weight(weight, file) for weight in index.weights}


def _read_index(file: FileIO, key: str) -> _Index:
    size = os.fstat(file.fileno()).st_size
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        raise DamagedFile(f"it has {size} bytes")
    magic, start, length, crc = _HEAD.unpack(head)
    if magic != _MAGIC:
        raise DamagedFile("it is no file of packed weights, or was not finished")
    if not _ALIGNMENT <= start <= size or length != size - start:
        raise DamagedFile(f"it has {size} bytes, but its index ends at {start + length}")
    file.seek(start)
    encoded = file.read(length)
    if zlib.crc32(encoded) != crc:
        raise DamagedFile("its index is not as it was written")
    try:
        index = msgspec.json.decode(encoded, type=_Index)
    except msgspec.DecodeError as error:
        raise DamagedFile(f"its index cannot be read: {error}") from None
    if index.key != key:
        raise DamagedFile("it was made for other weights")
    return index


def _read_weight(weight: _Weight, file: FileIO) -> Packed:
    tensors = tuple(_read_tensor(weight.name, stored, file) for stored in weight.tensors)
    return Packed(tensors, weight.columns, weight.depth, weight.form)


def _read_tensor(name: str, stored: _Stored, file: FileIO) -> Tensor:
    dtype = _DTYPES.get(stored.dtype)
    if dtype is None or torch.Size(stored.shape).numel() * dtype.itemsize != stored.num_bytes:
        raise DamagedFile(f"{name} is {stored.dtype} {list(stored.shape)} in {stored.num_bytes} bytes")
    octets = empty((stored.num_bytes,), torch.uint8, "cpu")
    rest = octets.numpy().data
    file.seek(stored.start)
    while rest.nbytes:
        # One call reads at most 2 GiB.
        count = file.readinto(rest)
        if not count:
            raise DamagedFile(f"{name} ends behind its place")
        rest = rest[count:]
    if _sum(octets) != stored.sum:
        raise DamagedFile(f"{name} is not as it was written")
    return octets.view(dtype).view(stored.shape)


def _sum(octets: Tensor) -> int:
    """Of all words, as 64 bits: as fast as memory is read, and enough to notice what a lost page or a flipped bit
    does."""
    whole = octets.numel() // 8 * 8
    words = octets[:whole].clone() if octets.data_ptr() % 8 else octets[:whole]
    rest = int.from_bytes(bytes(octets[whole:].tolist()), "little")
    return (int(words.view(torch.int64).sum()) + rest) % 2**63
