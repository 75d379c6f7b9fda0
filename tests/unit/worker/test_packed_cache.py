from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from quire.config.quantization import Form, Scheme
from quire.ops.quantized import Packed, TorchQuantizedGemm
from quire.ops.rounding import nearest_codes
from quire.worker import packed_cache, packed_file
from quire.worker.packed_cache import PackedCache, cache_key

FORM = Form(8)
WEIGHT = TorchQuantizedGemm().pack(nearest_codes(torch.ones(100, 100), FORM), FORM)
SCHEME = Scheme(projections=FORM, head=FORM)


def keep(cache: PackedCache, key: str, weight: Packed = WEIGHT) -> None:
    with cache.writing(key, weight.num_bytes) as kept:
        kept("w", weight)


def names(folder: Path) -> list[str]:
    return sorted(path.name.split(".")[0] for path in folder.iterdir())


def test_what_was_kept_is_found_again(tmp_path: Path) -> None:
    cache = PackedCache(tmp_path / "new" / "folder", 2**20)
    assert cache.read("k") == {}
    keep(cache, "k")
    assert torch.equal(cache.read("k")["w"].tensors[0], WEIGHT.tensors[0])
    assert cache.read("other") == {}
    assert (tmp_path / "new" / "folder").stat().st_mode & 0o077 == 0, "nobody else's business"


def test_a_cache_of_no_bytes_keeps_nothing(tmp_path: Path) -> None:
    cache = PackedCache(tmp_path / "none", 0)
    keep(cache, "k")
    assert cache.read("k") == {} and not (tmp_path / "none").exists()


def test_what_was_not_read_for_longest_makes_room(tmp_path: Path) -> None:
    cache = PackedCache(tmp_path, 35_000)
    for age, key in ((300, "a"), (200, "b"), (100, "c")):
        keep(cache, key)
        path = next(tmp_path.glob(f"{key}.*"))
        os.utime(path, (path.stat().st_atime - age, path.stat().st_mtime - age))
    assert names(tmp_path) == ["a", "b", "c"]
    cache.read("a")
    keep(cache, "d")
    assert names(tmp_path) == ["a", "c", "d"]


def test_more_than_the_cap_is_not_kept_and_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = PackedCache(tmp_path, 5_000)
    keep(cache, "k")
    assert names(tmp_path) == [] and "--packed-cache-bytes allows 4.88 KiB" in caplog.text
    assert len(caplog.records) == 1


def test_a_damaged_file_is_said_and_written_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = PackedCache(tmp_path, 2**20)
    keep(cache, "k")
    path = next(tmp_path.iterdir())
    path.write_bytes(path.read_bytes()[:-10])
    assert cache.read("k") == {}
    assert "is made again" in caplog.text and len(caplog.records) == 1
    keep(cache, "k")
    assert "w" in cache.read("k")


@pytest.mark.parametrize("moment", ["making", "adding", "finishing"])
def test_a_full_disk_is_one_line_and_leaves_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    name = {"making": "__init__", "adding": "add", "finishing": "finish"}[moment]
    monkeypatch.setattr(packed_file.PackedWriter, name, full)
    cache = PackedCache(tmp_path, 2**20)
    with cache.writing("k", 10_000) as kept:
        kept("w", WEIGHT)
        kept("v", WEIGHT)
    assert names(tmp_path) == []
    assert len(caplog.records) == 1 and "No space left on device" in caplog.text


def test_too_little_free_space_is_seen_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_cache, "_SPARE_BYTES", 2**62)
    keep(PackedCache(tmp_path, 2**20), "k")
    assert names(tmp_path) == [] and "are free" in caplog.text


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    keep(PackedCache(tmp_path / "file" / "folder", 2**20), "k")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_an_error_of_the_caller_is_his_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), PackedCache(tmp_path, 2**20).writing("k", 10_000) as kept:
        kept("w", WEIGHT)
        raise ZeroDivisionError
    assert names(tmp_path) == []


def test_files_that_a_lost_process_left_are_removed(tmp_path: Path) -> None:
    old, new = tmp_path / "a.quirepack.1.part", tmp_path / "b.quirepack.2.part"
    for path in (old, new):
        path.write_text("")
    os.utime(old, (0, 0))
    keep(PackedCache(tmp_path, 2**20), "k")
    assert names(tmp_path) == ["b", "k"]


def test_a_key_follows_the_checkpoint_the_scheme_and_the_kernels(tmp_path: Path) -> None:
    def key(value: float = 1.0, scheme: Scheme = SCHEME, gemm: TorchQuantizedGemm | None = None) -> str:
        save_file({"a": torch.full((64, 64), value)}, tmp_path / "model.safetensors")
        os.utime(tmp_path / "model.safetensors", (1, 1))
        return cache_key(tmp_path, scheme, gemm or TorchQuantizedGemm(), nearest_codes)

    class Otherwise(TorchQuantizedGemm):
        def pack(self, codes: object, form: Form) -> Packed:
            return WEIGHT

    assert key() == key()
    found = {key(), key(2.0), key(scheme=Scheme(projections=FORM, head=Form(4, 128))), key(gemm=Otherwise())}
    assert len(found) == 4
    before = key()
    os.utime(tmp_path / "model.safetensors", (2, 2))
    assert cache_key(tmp_path, SCHEME, TorchQuantizedGemm(), nearest_codes) != before
