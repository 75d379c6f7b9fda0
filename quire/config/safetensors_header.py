"""Headers of safetensors files, checked before anybody trusts an offset. Needs no torch.

Not here: the tensors themselves (worker/checkpoint.py).
Door: TensorFact, read_header, shards.
"""

from __future__ import annotations

import json
from pathlib import Path

from msgspec import Struct

from quire.config.json_fields import read_json
from quire.errors import CheckpointError

MAX_HEADER_BYTES = 100_000_000
MAX_RANK = 8

DTYPE_BYTES = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "F8_E8M0": 1,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U64": 8,
    "U32": 4,
    "U16": 2,
    "U8": 1,
    "BOOL": 1,
}
"""Bytes of one element, by the format's own names."""

PICKLED = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


class TensorFact(Struct, frozen=True):
    """One tensor of a file. ``start`` and ``end`` count bytes from the beginning of the file, not of its data
    section."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def num_elements(self) -> int:
        count = 1
        for size in self.shape:
            count *= size
        return count


def read_header(path: Path) -> dict[str, TensorFact]:
    """Tensors of one file by name, in the order of the header.

    Each lies inside the file, has exactly the bytes that its shape needs, and shares none with another.
    Raises: CheckpointError, one line that names the file and, where there is one, the tensor.
    Source: the safetensors format (8 bytes of little-endian length, a JSON object, the data).
    """
    try:
        with path.open("rb") as file:
            file_bytes = file.seek(0, 2)
            file.seek(0)
            prefix = file.read(8)
            if len(prefix) < 8:
                raise CheckpointError(f"{path}: is cut off: {file_bytes} bytes, a safetensors file has at least 8.")
            length = int.from_bytes(prefix, "little")
            if length > min(MAX_HEADER_BYTES, file_bytes - 8):
                raise CheckpointError(
                    f"{path}: says its header has {length} bytes, but the file has {file_bytes} (limit "
                    f"{MAX_HEADER_BYTES})."
                )
            header = file.read(length)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}.") from None
    entries = _parse(path, header)
    data_start = 8 + length
    facts = {
        name: _fact(path, name, entry, data_start, file_bytes)
        for name, entry in entries.items()
        if name != "__metadata__"
    }
    _check_no_overlap(path, facts, data_start, file_bytes)
    return facts


def shards(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint, sorted; empty when it has none.

    An index, where there is one, says which; each of its files must exist and lie inside the folder.
    Raises: CheckpointError for a bad index, or when the only weights are pickles, which are never opened.
    """
    index = folder / "model.safetensors.index.json"
    if index.exists():
        return _indexed(folder, index)
    single = folder / "model.safetensors"
    if single.exists():
        return [single]
    found = sorted(path for path in folder.glob("*.safetensors") if not path.name.startswith("consolidated"))
    if found:
        return found
    pickled = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLED)
    if pickled:
        raise CheckpointError(
            f"{folder}: its weights are a pickle ({pickled[0]}), which can run code when opened and is refused; "
            "convert it first: "
            "load it where you trust it and save it with safetensors.torch.save_file."
        )
    return []


def _parse(path: Path, header: bytes) -> dict[str, object]:
    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) != len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise CheckpointError(f"{path}: tensor {twice!r} occurs twice in the header.")
        return found

    try:
        entries = json.loads(header, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: its header is not valid JSON: {str(error).splitlines()[0]}.") from None
    if not isinstance(entries, dict):
        raise CheckpointError(f"{path}: its header is no JSON object.")
    return entries


def _fact(path: Path, name: str, entry: object, data_start: int, file_bytes: int) -> TensorFact:
    where = f"{path}: tensor {name!r}"
    if not isinstance(entry, dict):
        raise CheckpointError(f"{where} is no JSON object in the header.")
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        raise CheckpointError(f"{where} has the unknown dtype {str(dtype)[:40]!r}.")
    if (
        not isinstance(shape, list)
        or len(shape) > MAX_RANK
        or not all(type(size) is int and 0 <= size < 2**48 for size in shape)
    ):
        raise CheckpointError(f"{where} has no usable shape: {str(shape)[:80]}.")
    if (
        not isinstance(offsets, list)
        or len(offsets) != 2
        or not all(type(offset) is int and offset >= 0 for offset in offsets)
    ):
        raise CheckpointError(f"{where} has no usable data_offsets: {str(offsets)[:80]}.")
    fact = TensorFact(dtype, tuple(shape), data_start + offsets[0], data_start + offsets[1])
    needed = fact.num_elements * DTYPE_BYTES[dtype]
    if fact.end - fact.start != needed:
        raise CheckpointError(
            f"{where} of shape {list(fact.shape)} and dtype {dtype} needs {needed} bytes; its offsets span "
            f"{fact.end - fact.start}."
        )
    if fact.end > file_bytes:
        raise CheckpointError(f"{where} ends at byte {fact.end}, but the file has only {file_bytes}; is it cut off?")
    return fact


def _check_no_overlap(path: Path, facts: dict[str, TensorFact], data_start: int, file_bytes: int) -> None:
    position = data_start
    for name, fact in sorted(facts.items(), key=lambda item: (item[1].start, item[1].end)):
        if fact.start < position:
            raise CheckpointError(
                f"{path}: tensor {name!r} starts at byte {fact.start}, inside another that ends at {position}."
            )
        if fact.start > position:
            raise CheckpointError(f"{path}: {fact.start - position} bytes before tensor {name!r} belong to no tensor.")
        position = fact.end
    if position != file_bytes:
        raise CheckpointError(f"{path}: {file_bytes - position} bytes at the end belong to no tensor.")


def _indexed(folder: Path, index: Path) -> list[Path]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index}: has no weight_map.")
    found = []
    for name in sorted({str(value) for value in weight_map.values()}):
        if "/" in name or "\\" in name or name in ("", ".", "..") or not name.endswith(".safetensors"):
            raise CheckpointError(
                f"{index}: names the shard {name[:80]!r}; a shard is a .safetensors file of the same folder."
            )
        if not (folder / name).is_file():
            raise CheckpointError(
                f"{index}: names the shard {name!r}, which is missing; download the checkpoint again."
            )
        found.append(folder / name)
    return found
