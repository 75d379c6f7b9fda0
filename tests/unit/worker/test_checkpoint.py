"""Damaged files end in one line that names them, quickly."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from quire.errors import CheckpointError
from quire.worker.checkpoint import open_checkpoint

WEIGHTS = {"first.weight": torch.arange(6.0).view(2, 3), "second.weight": torch.ones(4, dtype=torch.bfloat16)}


def written(path: Path, header: object, data: bytes = b"", length: int | None = None) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    (path / "model.safetensors").write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)


def entry(dtype: str = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def indexed(path: Path, weight_map: object) -> None:
    save_file(WEIGHTS, path / "model-00001-of-00002.safetensors")
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def cut_off(path: Path) -> None:
    save_file(WEIGHTS, path / "model.safetensors")
    file = path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-5])


def twice(path: Path) -> None:
    indexed(path, {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"})
    save_file({"first.weight": torch.ones(1)}, path / "model-00002-of-00002.safetensors")


DAMAGE: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "empty folder": (lambda path: None, ("no weights", "dummy")),
    "empty file": (lambda path: (path / "model.safetensors").write_bytes(b""), ("model.safetensors", "cut off")),
    "cut off": (cut_off, ("model.safetensors", "weight", "cut off")),
    "header longer than the file": (lambda path: written(path, {}, length=2**63), ("model.safetensors", "header")),
    "header is no JSON": (lambda path: written(path, b"{]"), ("model.safetensors", "JSON")),
    "overlapping": (
        lambda path: written(path, {"a": entry(), "b": entry(offsets=(4, 12))}, bytes(12)),
        ("model.safetensors", "'b'"),
    ),
    "outside": (lambda path: written(path, {"a": entry(offsets=(100, 108))}, bytes(8)), ("'a'", "cut off")),
    "unknown dtype": (lambda path: written(path, {"a": entry(dtype="F13")}, bytes(8)), ("'a'", "F13")),
    "negative size": (lambda path: written(path, {"a": entry(shape=(-2,))}, bytes(8)), ("'a'", "shape")),
    "shape that overflows": (
        lambda path: written(path, {"a": entry(shape=(2**40, 2**40))}, bytes(8)),
        ("'a'", "bytes"),
    ),
    "bytes unlike shape": (lambda path: written(path, {"a": entry(shape=(3,))}, bytes(8)), ("'a'", "12", "8")),
    "missing shard": (
        lambda path: indexed(path, {"first.weight": "model-00002-of-00002.safetensors"}),
        ("index.json", "model-00002-of-00002.safetensors", "missing"),
    ),
    "shard outside the folder": (
        lambda path: indexed(path, {"first.weight": "../elsewhere.safetensors"}),
        ("index.json", "../elsewhere.safetensors"),
    ),
    "index without a map": (lambda path: indexed(path, None), ("index.json", "weight_map")),
    "tensor in two shards": (twice, ("first.weight", "model-00001")),
    "pickle alone": (
        lambda path: (path / "pytorch_model.bin").write_bytes(b"\x80\x04"),
        ("pytorch_model.bin", "convert", "save_file"),
    ),
    "older pickle alone": (lambda path: (path / "consolidated.00.pth").write_bytes(b"\x80"), ("pth", "convert")),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_refused_in_one_line_that_names_the_place(tmp_path: Path, damage: str) -> None:
    inflict, named = DAMAGE[damage]
    inflict(tmp_path)
    with pytest.raises(CheckpointError) as refused:
        open_checkpoint(tmp_path)
    message = str(refused.value)
    assert "\n" not in message
    assert all(word in message for word in (str(tmp_path), *named)), message


def test_tensors_come_back_as_they_were_stored(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "model.safetensors")
    checkpoint = open_checkpoint(tmp_path)
    assert set(checkpoint.names) == set(WEIGHTS)
    assert checkpoint.num_bytes == 6 * 4 + 4 * 2
    for name, expected in WEIGHTS.items():
        assert checkpoint.shape(name) == tuple(expected.shape)
        assert checkpoint.read(name).dtype == expected.dtype
        assert torch.equal(checkpoint.read(name), expected)


def test_shards_are_one_checkpoint_read_forward(tmp_path: Path) -> None:
    save_file({"z": torch.ones(2), "y": torch.ones(3)}, tmp_path / "model-00001-of-00002.safetensors")
    save_file({"a": torch.ones(4)}, tmp_path / "model-00002-of-00002.safetensors")
    names = {"z": "model-00001-of-00002.safetensors", "a": "model-00002-of-00002.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.names[-1] == "a" and set(checkpoint.names) == {"a", "y", "z"}
    assert checkpoint.file("a").name == "model-00002-of-00002.safetensors"


def test_writing_into_a_read_tensor_never_reaches_the_file(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "model.safetensors")
    before = (tmp_path / "model.safetensors").read_bytes()
    checkpoint = open_checkpoint(tmp_path)
    checkpoint.read("first.weight").zero_()
    checkpoint.close()
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_a_forgotten_tensor_is_read_again(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "model.safetensors")
    checkpoint = open_checkpoint(tmp_path)
    checkpoint.forget("first.weight")
    checkpoint.read("first.weight").zero_()
    checkpoint.forget("first.weight")
    assert torch.equal(checkpoint.read("first.weight"), WEIGHTS["first.weight"])


def test_a_tensor_that_is_not_aligned_is_read_all_the_same(tmp_path: Path) -> None:
    header = json.dumps({"odd": entry("U8", (1,), (0, 1)), "four": entry("F32", (1,), (1, 5))}).encode()
    header += b" " * (-len(header) % 8)
    written(tmp_path, header, b"\x07" + struct.pack("<f", 2.5))
    assert open_checkpoint(tmp_path).read("four").tolist() == [2.5]


def test_a_tensor_without_elements_is_read(tmp_path: Path) -> None:
    written(tmp_path, {"none": entry("F32", (0, 3), (0, 0))})
    assert open_checkpoint(tmp_path).read("none").shape == (0, 3)
