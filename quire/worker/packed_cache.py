"""Packed weights kept on the disk between starts: one file for a checkpoint and the way it was quantised.

Files that were not read for longest make room for new ones. Nothing here ever keeps a model from loading: what cannot
be kept or read is said in one line, and the weights are quantised.

Not here: the file (packed_file.py), quantising (quantise.py).
Door: PackedCache, cache_key.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from quire.config.quantization import Form, Scheme
from quire.config.safetensors_header import shards
from quire.config.units import in_bytes
from quire.ops.quantized import Packed, QuantizedGemm
from quire.ops.rounding import FindCodes
from quire.version import __version__
from quire.worker.packed_file import DamagedFile, PackedWriter, read_packed

_SUFFIX = ".quirepack"
_SAMPLES, _SAMPLE_BYTES = 32, 4096
_SPARE_BYTES = 2**30
"""What is left free on the disk."""
_STRAY_S = 3600.0
"""An unfinished file that nobody wrote to for so long was left by a process that ended."""

logger = logging.getLogger(__name__)

Keep = Callable[[str, Packed], None]


class PackedCache:
    """A folder of packed weights that holds at most ``cap_bytes``; 0: nothing is kept or read."""

    def __init__(self, folder: Path, cap_bytes: int) -> None:
        self._folder, self._cap_bytes = folder, cap_bytes

    def read(self, key: str) -> dict[str, Packed]:
        """The weights kept under a key; none where there are none that can be used."""
        path = self._path(key)
        if not self._cap_bytes or not path.is_file():
            return {}
        try:
            found = read_packed(path, key)
        except DamagedFile as damage:
            logger.warning("%s is made again: %s.", path, damage)
            return {}
        except OSError as error:
            logger.warning("%s cannot be read (%s); the weights are quantised again.", path, error.strerror)
            return {}
        with contextlib.suppress(OSError):  # A folder that may only be read is as good.
            os.utime(path)
        logger.info("Quantised weights read from %s.", path)
        return found

    @contextmanager
    def writing(self, key: str, num_bytes: int) -> Iterator[Keep]:
        """What keeps weights, one after the other, about ``num_bytes`` in all; they can be read when the block ends
        without an error."""
        writer = self._open(key, num_bytes)

        def keep(name: str, packed: Packed) -> None:
            nonlocal writer
            if writer is not None:
                try:
                    writer.add(name, packed)
                except OSError as error:
                    self._warn(error)
                    writer.discard()
                    writer = None

        try:
            yield keep
            if writer is not None:
                self._finish(writer, self._path(key))
        finally:
            if writer is not None:
                writer.discard()

    def _finish(self, writer: PackedWriter, path: Path) -> None:
        try:
            writer.finish()
            self._make_room(0, but=path)
        except OSError as error:
            self._warn(error)

    def _open(self, key: str, num_bytes: int) -> PackedWriter | None:
        if not self._cap_bytes:
            return None
        if num_bytes > self._cap_bytes:
            logger.warning(
                "Quantised weights are not kept for the next start: they take %s, --packed-cache-bytes allows %s.",
                in_bytes(num_bytes),
                in_bytes(self._cap_bytes),
            )
            return None
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            free = os.statvfs(self._folder)
            if free.f_bavail * free.f_frsize < num_bytes + _SPARE_BYTES:
                raise OSError(0, f"{in_bytes(free.f_bavail * free.f_frsize)} are free, {in_bytes(num_bytes)} needed")
            self._make_room(num_bytes)
            return PackedWriter(self._path(key), key)
        except OSError as error:
            self._warn(error)
            return None

    def _make_room(self, num_bytes: int, but: Path | None = None) -> None:
        """Remove unfinished files that nobody writes, then those not read for longest, until so much fits the cap."""
        for age_s, _, stray in _sizes(self._folder.glob(f"*{_SUFFIX}.*.part")):
            if time.time() - age_s > _STRAY_S:
                stray.unlink(missing_ok=True)
        kept = _sizes(self._folder.glob(f"*{_SUFFIX}"))
        total = num_bytes + sum(size for _, size, _ in kept)
        for _, size, path in sorted(kept):
            if total <= self._cap_bytes:
                return
            if path != but:
                path.unlink(missing_ok=True)
                total -= size

    def _warn(self, error: OSError) -> None:
        logger.warning("Quantised weights are not kept in %s for the next start: %s.", self._folder, error.strerror)

    def _path(self, key: str) -> Path:
        return self._folder / (key + _SUFFIX)


def _sizes(paths: Iterable[Path]) -> list[tuple[float, int, Path]]:
    """When each file was last used, and its bytes; without those that another process has just removed."""
    found = []
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            told = path.stat()
            found.append((told.st_mtime, told.st_size, path))
    return found


def cache_key(model_path: Path, scheme: Scheme, gemm: QuantizedGemm, find_codes: FindCodes) -> str:
    """What packed weights depend on: the checkpoint's files, the scheme, this version, and how a weight is rounded and
    packed.

    A file is known by its place, size and time, and by what it says in a few places.
    """
    found = hashlib.sha256(f"{__version__} {scheme!r}".encode())
    for shard in shards(model_path):
        place, size = shard.resolve(), shard.stat().st_size
        found.update(f"{place} {size} {shard.stat().st_mtime_ns}".encode())
        with place.open("rb") as file:
            for sample in range(_SAMPLES):
                file.seek(max(0, size - _SAMPLE_BYTES) * sample // (_SAMPLES - 1))
                found.update(file.read(_SAMPLE_BYTES))
    for form in (scheme.projections, scheme.head):
        found.update(_specimen(form, scheme, gemm, find_codes))
    return found.hexdigest()[:40]


def _specimen(form: Form, scheme: Scheme, gemm: QuantizedGemm, find_codes: FindCodes) -> bytes:
    """A small weight, quantised and packed: kernels that round or pack otherwise get another key by themselves."""
    weight_NK = torch.arange(40 * 200, dtype=torch.int64).mul(2654435761).remainder(2**32).float().view(40, 200) - 2**31
    packed = gemm.pack(find_codes(weight_NK, form, scheme.clippings), form)
    return b"".join(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes() for tensor in packed.tensors)
