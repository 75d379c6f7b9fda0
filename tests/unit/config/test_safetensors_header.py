from __future__ import annotations

import json
from pathlib import Path

import pytest

from quire.config.safetensors_header import read_header, shards
from quire.errors import CheckpointError
from tests.unit.config.checkpoints import write_tensors


def raw(path: Path, header: object, data: int = 0, length: int | None = None) -> Path:
    text = header.encode() if isinstance(header, str) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + bytes(data))
    return path


def test_offsets_count_from_the_beginning_of_the_file(tmp_path: Path) -> None:
    path = write_tensors(tmp_path / "m.safetensors", {"a": (2, 3), "b": (), "empty": (0, 5)})
    facts = read_header(path)
    assert list(facts) == ["a", "b", "empty"]
    assert facts["a"].shape == (2, 3) and facts["a"].end - facts["a"].start == 12 and facts["b"].num_elements == 1
    assert facts["empty"].end == path.stat().st_size


def test_metadata_is_no_tensor(tmp_path: Path) -> None:
    assert read_header(raw(tmp_path / "m", {"__metadata__": {"format": "pt"}})) == {}


def entry(**changes: object) -> dict[str, object]:
    return {"t": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes}


@pytest.mark.parametrize(
    ("header", "data", "expected"),
    [
        (entry(dtype="Q4"), 8, "unknown dtype"),
        (entry(shape=[2.0]), 8, "shape"),
        (entry(shape=[-2]), 8, "shape"),
        (entry(shape=[True, 2]), 8, "shape"),
        (entry(shape=[2**47, 2**47]), 8, "needs"),
        (entry(shape="2"), 8, "shape"),
        (entry(shape=[1] * 9), 8, "shape"),
        (entry(data_offsets=[0, 4]), 8, "needs 8 bytes"),
        (entry(data_offsets=[8, 0]), 8, "needs 8 bytes"),
        (entry(data_offsets=[-8, 0]), 8, "data_offsets"),
        (entry(data_offsets=[0]), 8, "data_offsets"),
        (entry(), 4, "has only"),
        (entry(), 12, "belong to no tensor"),
        (entry(data_offsets=[4, 12]), 12, "belong to no tensor"),
        ({"t": 5}, 0, "no JSON object"),
        ("[]", 0, "no JSON object"),
        ("{", 0, "not valid JSON"),
        ("[" * 90000, 0, "not valid JSON"),
        ('{"t": {}, "t": {}}', 0, "occurs twice"),
    ],
)
def test_a_damaged_header_is_refused_in_one_line(tmp_path: Path, header: object, data: int, expected: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        read_header(raw(tmp_path / "m.safetensors", header, data))
    assert expected in str(caught.value) and "m.safetensors" in str(caught.value) and "\n" not in str(caught.value)


def test_tensors_that_overlap_are_refused(tmp_path: Path) -> None:
    header = entry() | {"u": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}
    with pytest.raises(CheckpointError, match=r"'u'.*inside another"):
        read_header(raw(tmp_path / "m", header, 12))


@pytest.mark.parametrize("length", [1000, 2**31, 2**63, 2**64 - 1])
def test_a_header_longer_than_the_file_is_refused_without_reading_it(tmp_path: Path, length: int) -> None:
    with pytest.raises(CheckpointError, match="header has"):
        read_header(raw(tmp_path / "m", {}, 0, length))


@pytest.mark.parametrize("content", [b"", b"\x01\x00\x00"])
def test_a_file_without_a_length_is_cut_off(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(CheckpointError, match="cut off"):
        read_header(tmp_path / "m")


def index(folder: Path, *names: str) -> None:
    weight_map = {f"t{number}": name for number, name in enumerate(names)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def test_the_index_says_which_shards_there_are(tmp_path: Path) -> None:
    for name in ("a.safetensors", "b.safetensors", "unused.safetensors"):
        write_tensors(tmp_path / name, {name: (1,)})
    index(tmp_path, "b.safetensors", "a.safetensors", "b.safetensors")
    assert [path.name for path in shards(tmp_path)] == ["a.safetensors", "b.safetensors"]


@pytest.mark.parametrize(
    "name", ["../x.safetensors", "/etc/passwd", "a/b.safetensors", "..", "", "x.bin", "a\\b.safetensors"]
)
def test_a_shard_outside_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    index(tmp_path, name)
    with pytest.raises(CheckpointError, match="names the shard"):
        shards(tmp_path)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    index(tmp_path, "model-00001-of-00002.safetensors")
    with pytest.raises(CheckpointError, match=r"model-00001-of-00002.*missing"):
        shards(tmp_path)


def test_an_index_without_a_map_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(CheckpointError, match="weight_map"):
        shards(tmp_path)


def test_pickled_weights_are_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(CheckpointError, match="convert"):
        shards(tmp_path)


def test_a_folder_without_weights_has_no_shards(tmp_path: Path) -> None:
    assert shards(tmp_path) == []
